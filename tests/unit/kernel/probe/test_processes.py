# SPDX-License-Identifier: Apache-2.0
"""Processes by number: which run, since when, and with how many descriptors."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from slabmon.kernel.probe import processes as module
from slabmon.kernel.probe.processes import STEP_SECONDS, Processes
from slabmon.model import Process
from tests.support.children import ManualClock


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever tests run, its PID namespace is taken for the first."""
    here = os.stat("/proc/self/ns/pid").st_ino
    monkeypatch.setattr(module, "_FIRST_PID_NAMESPACE", here)


def test_this_process_runs_since_it_started_and_has_its_descriptors() -> None:
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(13)]
    before = Processes().read([os.getpid()])
    for file in files:
        os.close(file)
    after = Processes().read([os.getpid()])
    assert before is not None
    assert after is not None
    assert before[0].descriptors == (after[0].descriptors or 0) + 13
    assert 0 < (before[0].started_ns or 0) < time.monotonic_ns()


@pytest.mark.parametrize("slept", [0.0, 12.34])
def test_a_process_starts_at_the_same_time_whenever_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, slept: float
) -> None:
    starts = set()
    for jitter in (-2e-7, 1e-7, 7e-7):
        monkeypatch.setattr(module, "suspended", lambda jitter=jitter: slept + jitter)
        found = Processes().read([os.getppid()])
        assert found is not None
        starts.add(found[0].started_ns)
    assert len(starts) == 1


def test_one_that_has_ended_does_not_run() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert Processes().read([child.pid]) == (Process(tgid=child.pid),)


def test_the_idle_task_always_runs() -> None:
    assert Processes().read([0]) == (Process(tgid=0, started_ns=0),)


def test_nothing_is_known_where_proc_hides_processes_or_is_of_another_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()
    assert Processes(tmp_path).read([1]) is None
    monkeypatch.setattr(module, "_FIRST_PID_NAMESPACE", (tmp_path / "self/ns/pid").stat().st_ino)
    assert Processes(tmp_path).read([os.getpid()]) is None


def test_the_same_processes_are_not_looked_at_all_the_time() -> None:
    clock = ManualClock()
    looked = Processes(clock=clock)
    first = looked.read([os.getpid()])
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    assert looked.read([os.getpid()]) == first
    clock.now += STEP_SECONDS
    assert looked.read([os.getpid()]) != first
    for file in files:
        os.close(file)
