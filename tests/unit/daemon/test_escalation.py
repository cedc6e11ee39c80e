# SPDX-License-Identifier: Apache-2.0
"""Closer looks at suspects: when they are taken, what is decided here, and those that fail."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.daemon.census import CensusTaker
from slabmon.daemon.escalation import (
    KEPT,
    LATE_SECONDS,
    LOOK_SECONDS,
    REFUSED_SECONDS,
    Escalation,
)
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.examine.child import Report, Task, filter_of
from slabmon.kernel.examine.run import ExaminationProcess
from slabmon.model import Examination, Snapshot
from slabmon.runtime.channel import CENSUS_DOUBT, doubt_digest
from slabmon.runtime.event_loop import EventLoop
from tests.support.builders import cache, site, snapshot
from tests.support.children import ManualClock

SITE = doubt_digest("site", "forget+0x1c [drv]")
CACHE = doubt_digest("cache", "kmalloc-64")


def found(name: str = "kmalloc-64") -> Examination:
    return Examination(
        kind="cache",
        name=name,
        taken=1.0,
        seconds=60.0,
        allocs=211,
        age=15.0,
        survivors=7,
        survivor_bytes=448,
        verified=True,
        stacks=(),
    )


class FakeProcess:
    """A process that examines until end() is called."""

    pid = 0

    def __init__(self, task: Task) -> None:
        self.task = task
        self.channel, self._end = socket.socketpair()
        self.channel.setblocking(False)
        self.report: Report | None = None
        self.closed = False

    def end(self, report: Report | None) -> None:
        self.report = report
        self._end.close()

    def receive(self) -> bool:
        return not self.channel.recv(1)

    def result(self) -> Report:
        if self.report is None:
            raise SlabmonError("examination: its process ended early")
        return self.report

    def close(self) -> None:
        self.closed = True
        self._end.close()
        self.channel.close()


class FakeBudget:
    limit = 0.0
    exceeded = False


class FakeCensus:
    """Takes the censuses that are asked for, if `ready`."""

    ready = True

    def __init__(self) -> None:
        self.requests: list[bool] = []

    def request(self, *, orphans: bool = False) -> bool:
        if self.ready:
            self.requests.append(orphans)
        return self.ready


class Host:
    """An Escalation and the time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.budget, self.census = FakeBudget(), FakeCensus()
        self.processes: list[FakeProcess] = []
        self.full = False
        self.shown = snapshot(caches=(cache(),), sites=(site("forget", 0x1C, "drv"),))
        self.readings = 0
        self.broken = False
        self.escalation = Escalation(
            self.loop,
            EscalationSettings(seconds=60.0, pause="10m"),
            self.budget,
            cast(CensusTaker, self.census),
            self._snapshot,
            self._start,
        )

    def _snapshot(self) -> Snapshot:
        self.readings += 1
        if self.broken:
            raise RuntimeError("a table is damaged")
        return self.shown

    def _start(self, task: Task) -> ExaminationProcess:
        if self.full:
            raise OSError(11, os.strerror(11))
        self.processes.append(FakeProcess(task))
        return cast(ExaminationProcess, self.processes[-1])

    def run(self, seconds: float = 0.0) -> None:
        self.clock.run(self.loop, seconds)

    def end(self, report: Report | None) -> None:
        self.processes[-1].end(report)
        self.run()


@pytest.fixture
def host() -> Iterator[Host]:
    result = Host()
    yield result
    result.escalation.close()
    result.loop.close()


def test_a_suspect_is_tracked_and_what_was_found_is_kept(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host.escalation.request(SITE)
    (process,) = host.processes
    assert process.task == Task(kind="site", name="forget+0x1c [drv]", seconds=60.0)
    assert host.escalation.figures().running
    host.escalation.request(CACHE)  # one at a time
    assert len(host.processes) == 1
    host.end(Report(found=found(), bpf_seconds=0.5))
    assert host.escalation.done == (found(),)
    figures = host.escalation.figures()
    assert (figures.running, figures.failures, figures.cpu_seconds) == (False, 0, 0.5)
    assert figures.number == {"exact": 1, "census": 0}
    assert process.closed
    assert "site forget+0x1c [drv] is tracked exactly for 60 s" in caplog.text


def test_there_is_a_pause_in_between_longer_if_the_budget_needs_it(host: Host) -> None:
    host.budget.limit = 0.01
    host.escalation.request(CACHE)
    host.end(Report(found=found(), bpf_seconds=4.0))  # 800 s of half the budget
    host.run(790)
    host.escalation.request(SITE)
    assert len(host.processes) == 1
    host.run(20)
    host.escalation.request(SITE)
    assert len(host.processes) == 2


def test_nothing_is_done_that_is_not_wanted_or_not_allowed(host: Host) -> None:
    host.budget.exceeded = True
    host.escalation.request(CACHE)
    host.budget.exceeded = False
    host.escalation.settings = EscalationSettings(enabled=False)
    host.escalation.request(CACHE)
    host.escalation.request(CENSUS_DOUBT)
    host.escalation.settings = EscalationSettings()
    host.escalation.request(doubt_digest("cache", "unknown"))
    assert not host.processes
    assert not host.census.requests


def test_what_was_not_found_or_failed_is_not_looked_for_again_at_once(host: Host) -> None:
    unknown = doubt_digest("cache", "unknown")
    for _ in range(240):  # as many as a web process can send at once
        host.escalation.request(unknown)
        host.run(1)
    assert host.readings == 1
    host.escalation.request(CACHE)
    host.end(None)
    host.run(700)
    host.escalation.request(CACHE)
    assert len(host.processes) == 1
    host.escalation.request(SITE)
    assert len(host.processes) == 2
    host.end(Report(found=found()))
    host.run(REFUSED_SECONDS)
    host.escalation.request(CACHE)
    assert len(host.processes) == 3


def test_a_look_for_one_suspect_at_a_time(host: Host) -> None:
    for number in range(240):
        host.escalation.request(doubt_digest("cache", f"unknown-{number}"))
    assert host.readings == 1
    host.run(LOOK_SECONDS)
    host.escalation.request(CACHE)
    assert host.processes


def test_suspects_that_cannot_be_read_end_nothing(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.broken = True
    host.escalation.request(CACHE)
    assert "suspects cannot be read" in caplog.text
    assert not host.processes
    host.broken = False
    host.run(LOOK_SECONDS)
    host.escalation.request(CACHE)
    assert host.processes


def test_a_census_is_asked_to_look_for_orphans(host: Host) -> None:
    host.census.ready = False
    host.escalation.request(CENSUS_DOUBT)
    host.census.ready = True
    host.escalation.request(CENSUS_DOUBT)
    host.escalation.request(CENSUS_DOUBT)
    assert host.census.requests == [True]
    assert host.escalation.figures().number == {"exact": 0, "census": 1}


@pytest.mark.parametrize("report", [None, Report(error="no such cache")])
def test_failures_are_counted(host: Host, report: Report | None) -> None:
    host.escalation.request(CACHE)
    host.end(report)
    assert host.escalation.figures().failures == 1
    assert not host.escalation.done


def test_a_process_that_hangs_is_ended(host: Host) -> None:
    host.escalation.request(CACHE)
    host.run(60 + LATE_SECONDS + 15)
    assert host.processes[0].closed
    assert host.escalation.figures().failures == 1


def test_without_room_for_a_process_there_is_none(host: Host) -> None:
    host.full = True
    host.escalation.request(CACHE)
    assert host.escalation.figures().failures == 1
    assert not host.escalation.figures().running


def test_the_last_examinations_are_kept(host: Host) -> None:
    for number in range(KEPT + 3):
        host.escalation.request(CACHE)
        host.end(Report(found=found(str(number))))
        host.run(601)
    assert [each.name for each in host.escalation.done] == [str(n) for n in range(3, KEPT + 3)]


def test_a_suspect_becomes_a_filter() -> None:
    assert filter_of(Task(kind="cache", name="kmalloc-64", seconds=1)) == Filter(cache="kmalloc-64")
    assert filter_of(Task(kind="site", name="f+0x1c [drv]", seconds=1)) == Filter(
        site="f+0x1c [drv]"
    )


def test_a_report_survives_the_way_between_processes() -> None:
    report = Report(found=found(), bpf_seconds=0.25)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report) == report


@pytest.mark.parametrize(
    "wrong", [{"seconds": 5.0}, {"seconds": 601.0}, {"pause": "30s"}, {"pause": "soon"}]
)
def test_settings_are_checked(wrong: dict[str, float | str]) -> None:
    with pytest.raises(UsageError):
        EscalationSettings(**wrong)  # type: ignore[arg-type]
