# SPDX-License-Identifier: Apache-2.0
"""Censuses in the daemon: when they are taken, and what happens to those that fail or hang."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.daemon import census as module
from slabmon.daemon.census import (
    BUDGET_SHARE,
    CHECK_SECONDS,
    FIRST_SECONDS,
    LONGEST_SECONDS,
    SPACING_SECONDS,
    CensusTaker,
)
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.kernel.census.run import CensusProcess
from slabmon.kernel.census.settings import CensusSettings
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import CensusFailure
from tests.support.children import ManualClock


class FakeProcess:
    """A process that takes a census when end() is called."""

    pid = 0

    def __init__(self, settings: CensusSettings) -> None:
        self.settings = settings
        self.channel, self._end = socket.socketpair()
        self.channel.setblocking(False)
        self.done = 0.25
        self.closed = False
        self.error = ""
        self.failure = CensusFailure.OTHER

    def end(self, error: str = "", failure: CensusFailure = CensusFailure.OTHER) -> None:
        self.error, self.failure = error, failure
        self._end.close()

    def receive(self) -> bool:
        return not self.channel.recv(1)

    def result(self) -> bytes:
        if self.error:
            raise SlabmonError(self.error)
        return b"a census"

    def close(self) -> None:
        self.closed = True
        self._end.close()
        self.channel.close()


class FakeBudget:
    limit = 0.0
    exceeded = False


class Host:
    """A CensusTaker and the time."""

    def __init__(self, interval: str) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.budget = FakeBudget()
        self.processes: list[FakeProcess] = []
        self.full = False
        settings = ScheduleSettings(3.0, 200, orphans=True, interval=interval)
        self.taker = CensusTaker(self.loop, settings, self.budget, self._start)

    def _start(self, settings: CensusSettings) -> CensusProcess:
        if self.full:
            raise OSError(11, os.strerror(11))
        self.processes.append(FakeProcess(settings))
        return cast(CensusProcess, self.processes[-1])

    def run(self, seconds: float = 0.0) -> None:
        self.clock.run(self.loop, seconds)

    def end(self, error: str = "", failure: CensusFailure = CensusFailure.OTHER) -> None:
        self.processes[-1].end(error, failure)
        self.run()


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    result = Host(getattr(request, "param", "0"))
    yield result
    result.taker.close()
    result.loop.close()


def test_a_request_begins_one_census_at_a_time(host: Host) -> None:
    host.taker.request()
    host.taker.request()
    (process,) = host.processes
    assert process.settings == CensusSettings(3.0, 200, orphans=True)
    figures = host.taker.figures()
    assert (figures.running, figures.done, figures.number) == (True, 0.25, 0)
    host.end()
    figures = host.taker.figures()
    assert (figures.running, figures.done, figures.number) == (False, 0.0, 1)
    assert host.taker.latest == b"a census"
    assert process.closed


def test_another_one_waits_until_it_is_due(host: Host) -> None:
    host.taker.request()
    host.end()
    host.run(SPACING_SECONDS - 1)
    host.taker.request()
    assert len(host.processes) == 1
    assert host.taker.figures().held_off
    assert 0 < host.taker.figures().not_before_seconds <= 1.1
    host.run(1.1)
    host.taker.request()
    assert len(host.processes) == 2


def test_censuses_cost_a_share_of_the_budget_at_most(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_seconds", lambda pid, children: 2.0)
    host.budget.limit = 0.02
    host.taker.request()
    host.end()
    wait = 2.0 / (0.02 * BUDGET_SHARE)
    host.run(wait - 1)
    host.taker.request()
    assert len(host.processes) == 1
    host.run(1.1)
    host.taker.request()
    host.end()
    assert host.taker.figures().number == 2
    assert host.taker.figures().cpu_seconds == 4.0


@pytest.mark.parametrize("host", ["10m"], indirect=True)
def test_censuses_are_taken_at_intervals(host: Host) -> None:
    host.run(FIRST_SECONDS - 1)
    assert not host.processes
    host.run(CHECK_SECONDS + 1)
    assert len(host.processes) == 1
    host.end()
    host.run(600 - CHECK_SECONDS)
    assert len(host.processes) == 1
    host.run(2 * CHECK_SECONDS)
    assert len(host.processes) == 2


def test_an_interval_of_0_means_none(host: Host) -> None:
    host.run(FIRST_SECONDS + 2 * CHECK_SECONDS)
    assert not host.processes


@pytest.mark.parametrize("host", ["10m"], indirect=True)
def test_after_one_that_had_to_look_for_orphans_the_next_ones_do(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ORPHANS_SECONDS", 900.0)
    host.taker.settings = replace(host.taker.settings, orphans=False)
    for orphans in (False, True, False):  # on request
        assert host.taker.request(orphans=orphans)
        host.end()
        host.run(SPACING_SECONDS + 1)
    for _ in range(2):  # at intervals
        host.run(600.0)
        host.end()
    looked = [process.settings.orphans for process in host.processes]
    assert looked == [False, True, True, True, False]


@pytest.mark.parametrize("host", ["1m"], indirect=True)
def test_none_is_taken_while_the_budget_is_exceeded(host: Host) -> None:
    host.budget.exceeded = True
    host.run(FIRST_SECONDS + 2 * CHECK_SECONDS)
    host.taker.request()
    assert not host.processes
    assert host.taker.figures().held_off
    host.budget.exceeded = False
    host.run(CHECK_SECONDS)
    assert len(host.processes) == 1


def test_a_failure_keeps_the_census_before_and_is_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.taker.request()
    host.end()
    for _ in range(2):
        host.run(SPACING_SECONDS + 0.1)
        host.taker.request()
        host.end("census: the reason", CensusFailure.MEMORY)
    figures = host.taker.figures()
    assert (figures.number, figures.error) == (1, "census: the reason")
    assert {reason: n for reason, n in figures.failures.items() if n} == {CensusFailure.MEMORY: 2}
    assert host.taker.latest == b"a census"
    assert [record.getMessage() for record in caplog.records] == ["census: the reason"]


def test_no_room_for_a_process_is_a_failure(host: Host) -> None:
    host.full = True
    host.taker.request()
    assert "cannot start a process" in host.taker.figures().error
    host.full = False
    host.run(SPACING_SECONDS + 0.1)
    host.taker.request()
    host.end()
    assert host.taker.figures().error == ""


def test_a_process_that_hangs_is_ended(host: Host) -> None:
    host.taker.request()
    host.run(LONGEST_SECONDS + 2 * CHECK_SECONDS)
    assert host.processes[0].closed
    assert host.taker.figures().failures[CensusFailure.TIMEOUT] == 1
    assert not host.taker.figures().running


def test_closing_ends_the_process(host: Host) -> None:
    host.taker.request()
    host.taker.close()
    assert host.processes[0].closed


@pytest.mark.parametrize("interval", ["30s", "now", "-1h"])
def test_the_interval_has_bounds(interval: str) -> None:
    with pytest.raises(UsageError, match="interval: "):
        ScheduleSettings(interval=interval)
