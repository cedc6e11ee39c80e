# SPDX-License-Identifier: Apache-2.0
"""Counters survive kill -9, and a requested stop leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.kernel import left_behind, ours
from tests.live.workload import messages

pytestmark = pytest.mark.live

PINS = Path("/sys/fs/bpf/slabmon-test")
BEFORE, DEAD, AFTER = 1009, 2003, 499  # primes
HELD = 97
LENGTH = 900


class Session:
    """A session in a process of its own."""

    def __init__(self, samples: int = 8192) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.kept_session", str(PINS), str(samples)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "tracking\n":
            raise AssertionError(self._process.communicate()[1])

    def snapshot(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        document: dict[str, Any] = json.loads(self._process.stdout.readline())
        return document

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> str:
        """End it on request and return its log."""
        log = self._process.communicate(timeout=60)[1]
        assert self._process.returncode == 0, log
        return log


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    mounts = Path("/proc/mounts")
    loaded, before = ours(), mounts.read_text()
    yield
    left, mounted = left_behind(loaded), mounts.read_text()
    if left:
        Session().end()
    assert not left
    assert mounted == before
    assert not PINS.exists()


def row(document: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in document["caches"] if c["name"] == "msg_msg-1k")


def test_nothing_is_lost_or_counted_twice_over_kill_9() -> None:
    with messages() as queue:
        first = Session()
        queue.churn(BEFORE, LENGTH)
        for _ in range(HELD):
            queue.send(LENGTH)
        old = first.snapshot()
        first.kill()
        queue.churn(DEAD, LENGTH)
        second = Session()
        queue.churn(AFTER, LENGTH)
        new = second.snapshot()
        second.kill()
        third = Session()
        newest = third.snapshot()
        assert "counters continue" in third.end()
    assert (row(old)["allocs"], row(old)["frees"]) == (BEFORE + HELD, BEFORE)
    assert row(new)["allocs"] == BEFORE + DEAD + AFTER + HELD
    assert row(new)["frees"] == BEFORE + DEAD + AFTER
    assert row(newest)["allocs"] == row(new)["allocs"]
    assert new["tracking"]["since"] == old["tracking"]["since"]
    assert new["tracking"]["seconds"] > old["tracking"]["seconds"]
    assert new["features"]["state"] == {"state": "on", "reason": f"kept in {PINS}"}
    for counter in ("allocs", "frees", "failed", "requested_bytes", "freed_bytes"):
        values = {c["name"]: c[counter] for c in new["caches"]}
        for cache in old["caches"]:
            assert values[cache["name"]] >= cache[counter]
    devices = {(d["bus"], d["name"]): d for d in newest["devices"]}
    for device in old["devices"]:
        assert devices[device["bus"], device["name"]]["added"] >= device["added"]
    assert newest["losses"]["device_ledger_disagreement"] == 0
    assert newest["losses"]["samples_full"] == 0, "the places of the pool were filled once"


def test_other_settings_load_again_and_say_why() -> None:
    first = Session()
    old = first.snapshot()
    first.kill()
    second = Session(samples=4096)
    new = second.snapshot()
    log = second.end()
    assert "SAMPLES was 8192, is 4096" in log
    assert new["tracking"]["since"] > old["tracking"]["since"]


def test_what_is_incomplete_is_not_adopted() -> None:
    first = Session()
    first.kill()
    (PINS / "map-pool").unlink()
    second = Session()
    assert "map-pool missing" in second.end()
