# SPDX-License-Identifier: Apache-2.0
"""slabmon killed, stopped and started again: nothing of it stays in the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.vm.guest.bpf_objects import Footprint, assert_back_to, ids

SLABMON = ".venv/bin/slabmon"
PINS = Path("/sys/fs/bpf/slabmon")
ADDRESS = "http://127.0.0.1:7522"
PATIENCE_SECONDS = 180  # a session starts slowly under emulation


@pytest.fixture
def before() -> Footprint:
    """The kernel before slabmon."""
    return Footprint.now()


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run slabmon in its own session, which is ended completely afterwards."""
    with subprocess.Popen(
        [SLABMON, *arguments], start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            for pid in session(process.pid):
                os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Processes of a session; field 6 of /proc/PID/stat, counted after the name in brackets."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(
    what: Callable[[], object],
    process: subprocess.Popen[bytes] | None = None,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Until it is true; fails when `process` ends before that, or `patience`, in seconds, does."""
    deadline = time.monotonic() + patience
    while not what():
        assert process is None or process.poll() is None, "slabmon ended by itself"
        assert time.monotonic() < deadline, "slabmon took too long"
        time.sleep(0.1)


def get(path: str) -> bytes | None:
    """A page of the daemon; None while it does not answer."""
    try:
        with urllib.request.urlopen(ADDRESS + path, timeout=60) as answer:
            return bytes(answer.read())
    except OSError:  # refused, closed, or too slow while a session starts under emulation
        return None


def snapshot(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Of the daemon; asked again when a reading took longer than a request waits for it."""
    answer: bytes | None = None

    def answered() -> bool:
        nonlocal answer
        answer = get("/api/v1/snapshot")
        return answer is not None

    wait_for(answered, process)
    return dict(json.loads(answer or b""))


def test_a_killed_daemon_goes_on_and_a_stopped_one_leaves_nothing(before: Footprint) -> None:
    """Killed at once, it counts on in the kernel, pinned where it says; the next one takes over
    and, stopped as one should, takes everything with it."""
    with running("serve") as process:
        wait_for(lambda: get("/readyz"), process)
        attached = ids("programs")
        assert attached - before.bpf["programs"]
        first = snapshot(process)
        process.kill()
        process.wait()
        wait_for(lambda: not session(process.pid))
        left = Footprint.now()
        assert left.bpf["programs"] <= attached
        assert {str(PINS)} == {path for path in left.pinned if Path(path).parent == PINS.parent}
        # The web process outlives the collector a little, and has a reading of its last moment.
        wait_for(lambda: get("/readyz") is None)
    with running("serve") as process:
        wait_for(lambda: get("/readyz"), process)
        second = snapshot(process)
        assert second["tracking"]["since"] == first["tracking"]["since"]
        assert total_allocs(second) > total_allocs(first)
        process.terminate()
        assert process.wait() == 0
        assert_back_to(before)


def total_allocs(snapshot: dict[str, Any]) -> int:
    return sum(cache["allocs"] for cache in snapshot["caches"])


def test_killed_while_it_loads(before: Footprint) -> None:
    """The child that compiles and loads ends with its parent, and its programs with it."""
    with running("snapshot", "--seconds", "600") as process:
        wait_for(lambda: ids("maps") - before.bpf["maps"], process)
        process.kill()
        process.wait()
        wait_for(lambda: not session(process.pid))
        assert_back_to(before)


def test_an_interrupted_snapshot_leaves_nothing(before: Footprint) -> None:
    """As Ctrl-C does it, while it watches."""
    with running("snapshot", "--seconds", "600") as process:
        wait_for(
            lambda: (
                len(ids("programs") - before.bpf["programs"]) > 4 and len(session(process.pid)) == 1
            ),
            process,
        )
        process.send_signal(signal.SIGINT)
        process.wait()
        assert_back_to(before)
