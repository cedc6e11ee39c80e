# SPDX-License-Identifier: Apache-2.0
"""Orphans of the running kernel: there are hardly any, and none of what this process holds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from slabmon.census.model import Census
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from tests.live.test_census import planted
from tests.live.workload import messages

pytestmark = pytest.mark.live

MOST = 1e-4  # share of all objects in use
HELD = 499  # prime
TIMEOUT_SECONDS = 300


def search(cpu_seconds: float = 120.0) -> Census:
    return take_census(CensusSettings(cpu_seconds=cpu_seconds, orphans=True))


def orphans(found: Census) -> Counter[str]:
    """Count them by cache and signature; print them."""
    counts: Counter[str] = Counter()
    for row in found.orphans:
        counts[f"{row.cache}: {row.signature}"] += row.objects
    print(
        f"{found.objects:,} objects, {found.cpu_seconds:.1f} s of CPU time, passes {found.passes}"
    )
    for name, count in counts.most_common():
        print(f"{count:6} {name}")
    return counts


@contextlib.contextmanager
def held_objects() -> Iterator[None]:
    """Objects that this process holds: in lists, trees, tables, only by a thread's stack."""
    with contextlib.ExitStack() as stack:
        queue = stack.enter_context(messages())
        for _ in range(HELD):
            queue.send(200)
            for descriptor in os.pipe():
                stack.callback(os.close, descriptor)
        stack.enter_context(planted(b"slabmon-orphan"))
        reader, writer = os.pipe()
        sleeper = threading.Thread(target=os.read, args=(reader, 1), daemon=True)
        sleeper.start()
        try:
            yield
        finally:
            os.close(writer)
            sleeper.join()
            os.close(reader)


def test_hardly_any_object_of_this_host_is_an_orphan() -> None:
    with held_objects():
        found = search()
    counts = orphans(found)
    assert found.passes >= 2
    assert counts.total() <= MOST * found.objects
    assert not any(name.startswith(("msg_msg-", "pipe")) for name in counts)
    assert not any(text.startswith("orphans") for text in found.limits)


def test_the_command_prints_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slabmon", "census", "--orphans", "--format", "json"],
        capture_output=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    document = json.loads(done.stdout)
    assert document["passes"] >= 2
    assert sum(row["objects"] for row in document["orphans"]) <= MOST * document["objects"]


def test_too_little_cpu_time_is_an_error_and_no_empty_answer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slabmon", "census", "--orphans", "--cpu-seconds", "4"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 70
    assert "orphans were not found" in done.stderr or "allow more with --cpu-seconds" in done.stderr
    assert not done.stdout
