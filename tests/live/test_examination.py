# SPDX-License-Identifier: Apache-2.0
"""A closer look at one suspect, on this kernel: what survives is named with stack and process."""

from __future__ import annotations

import selectors
import time
from pathlib import Path

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.examine import child
from slabmon.kernel.examine.child import OLD, Report, Task, examine
from slabmon.kernel.examine.run import ExaminationProcess
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from tests.live.kernel import left_behind, ours
from tests.live.workload import messages

pytestmark = pytest.mark.live
HELD, CHURNED, YOUNG, SIZE = 211, 307, 13, 1000  # primes, and bytes


def label() -> str:
    """The call site of messages, as the views name it."""
    with open_tracker(Settings(exact=Filter(site="load_msg"))) as tracker, messages() as held:
        held.send(SIZE)
        snapshot = tracker.snapshot()
    (site,) = {snapshot.sites[i].full_label for i in snapshot.tracked.site.tolist()}
    return str(site)


def test_what_survives_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of HELD + CHURNED + YOUNG messages: the second are received again, the last are too young."""
    task = Task(kind="site", name=label(), seconds=8.0)
    before = ours()

    def work(tracker: Tracker, seconds: float) -> float:
        for _ in range(HELD):
            held.send(SIZE)
        churning.churn(CHURNED, SIZE)
        end = time.monotonic() + OLD * seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            tracker.drain()
        for _ in range(YOUNG):
            churning.send(SIZE)
        return 0.0

    monkeypatch.setattr(child, "_watch", work)
    monkeypatch.setattr(child, "_forget_freed", lambda tracker: True)  # it takes seconds
    with messages() as held, messages() as churning:
        report = examine(task)
    found = report.found
    assert found is not None, report.error
    assert found.allocs == HELD + CHURNED + YOUNG
    assert found.survivors == HELD
    (stack,) = found.stacks
    assert (stack.site, stack.objects) == (task.name, HELD)
    assert stack.bytes == found.survivor_bytes
    assert stack.process == Path("/proc/self/comm").read_text().strip()
    assert any("msgsnd" in frame for frame in stack.frames)
    assert left_behind(before) == set()


def test_its_process_reports_and_leaves_nothing_attached() -> None:
    before = ours()
    process = ExaminationProcess(Task(kind="site", name="load_msg", seconds=3.0))
    try:
        report = _result(process)
    finally:
        process.close()
    assert report.found is not None, report.error
    assert report.found.verified
    assert report.found.seconds >= 3.0
    assert left_behind(before) == set()


def test_what_cannot_be_tracked_is_an_error() -> None:
    process = ExaminationProcess(Task(kind="cache", name="no such cache", seconds=3.0))
    try:
        assert "no such cache" in _result(process).error
    finally:
        process.close()


def _result(process: ExaminationProcess) -> Report:
    deadline = time.monotonic() + 100
    with selectors.DefaultSelector() as selector:
        selector.register(process.channel, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(1) and process.receive():
                return process.result()
    raise AssertionError("it did not report in time")
