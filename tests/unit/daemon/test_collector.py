# SPDX-License-Identifier: Apache-2.0
"""The collector: when it reads the kernel's tables, what it answers and what it does in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from slabmon.base.activity import Stage
from slabmon.base.clock import suspended
from slabmon.daemon import collector as module
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.collector import (
    DRAIN_SECONDS,
    SPACING_SECONDS,
    STATS_PERIOD_SECONDS,
    STATS_WINDOW_SECONDS,
    WALK_PERIOD_SECONDS,
    Collector,
)
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.kernel.bpf import syscall
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.tracker import Tracker
from slabmon.model import FeatureState, Snapshot
from slabmon.runtime.budget import BudgetSettings, Level
from slabmon.runtime.channel import CENSUS, DETAILED, PLAIN, TAKE_CENSUS, WANTED, Answer
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import BudgetFigures
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings
from tests.support.builders import snapshot
from tests.support.children import FakeChild, FakeSpawner, ManualClock


class FakeTracker:
    """Counts what is asked of it. A snapshot takes `seconds`, or raises `error`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.details: list[bool] = []
        self.drained = self.walked = self.unmapped = 0
        self.seconds = 0.0
        self.error: Exception | None = None
        self.programs = SimpleNamespace(maps={}, programs={})
        self.reader = SimpleNamespace(unmap=self._unmap)
        self.plan = SimpleNamespace(settings=Settings(when=When.AUTO))
        self.ledger = None
        self.awake, self.memory_bytes = True, 1 << 30
        self.stage = Stage.SAMPLED
        self.features: dict[str, FeatureState] = {}
        self.memory = SimpleNamespace(uncounted=lambda: None)

    def sleep(self) -> None:
        self.awake = False

    def wake(self, reason: str) -> None:
        self.awake = True

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage

    def snapshot(self, details: bool) -> Snapshot:
        self._clock.now += self.seconds
        if self.error:
            raise self.error
        self.details.append(details)
        return snapshot()

    def drain(self) -> None:
        self.drained += 1

    def reconcile_devices(self) -> None:
        self.walked += 1

    def _unmap(self) -> None:
        self.unmapped += 1


class FakeGovernor:
    """A budget that is held, or not at all."""

    def __init__(self, _: Tracker, settings: BudgetSettings) -> None:
        self.settings = settings
        self.level = Level()
        self.windows: list[str] = []
        self.periods: list[tuple[float, float]] = []

    @property
    def limit(self) -> float:
        return 0.5

    @property
    def exceeded(self) -> bool:
        return self.level.steps > 0

    @property
    def measures_bpf(self) -> bool:
        return self.settings.bpf_statistics

    def window_opens(self) -> None:
        self.windows.append("opens")

    def window_closes(self) -> None:
        self.windows.append("closes")

    def period(self, collector: float, web: float) -> None:
        self.periods.append((collector, web))

    def figures(self) -> BudgetFigures:
        return BudgetFigures(limit_cpus=0.5)


class Host:
    """A collector, its web process and the time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.spawner = FakeSpawner()
        self.worked = 0
        self.tracker = FakeTracker(self.clock)
        self.collector = Collector(
            self.loop, WebSettings(), [], self._work, lambda _: None, self.spawner
        )
        self.child.start()
        self.run()

    def _work(self) -> None:
        self.worked += 1

    @property
    def child(self) -> FakeChild:
        return self.spawner.last

    @property
    def governor(self) -> FakeGovernor:
        return cast(FakeGovernor, self.collector.governor)

    def track(self, budget: BudgetSettings | None = None) -> None:
        self.collector.start_tracking(
            cast(Tracker, self.tracker),
            budget or BudgetSettings(),
            ScheduleSettings(interval="0"),
            EscalationSettings(),
        )

    def run(self, seconds: float = 0.0) -> None:
        self.clock.run(self.loop, seconds)

    def ask(self, command: bytes = PLAIN, seconds: float = 1.0) -> Answer:
        """Send a command and return its answer, which has to arrive within this time."""
        self.child.send(command)
        self.run(seconds)
        (answer,) = self.child.answers()
        return answer


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(module, "Governor", FakeGovernor)
    monkeypatch.setattr(syscall, "enable_stats", lambda: os.open(os.devnull, os.O_RDONLY))
    result = Host()
    yield result
    result.collector.close()
    result.spawner.close()
    result.loop.close()


def test_commands_wait_until_tracking_starts(host: Host) -> None:
    host.child.send(PLAIN)
    host.run(5)
    assert not host.child.answers()
    host.track()
    host.run(1)
    (answer,) = host.child.answers()
    assert answer.ok
    assert answer.body == encode(snapshot())


def test_only_detailed_commands_get_details(host: Host) -> None:
    host.track()
    assert host.ask(DETAILED).kind == DETAILED
    assert host.ask(PLAIN).kind == PLAIN
    assert host.tracker.details == [True, False]


def test_tables_are_read_no_more_often_than_the_spacing(host: Host) -> None:
    """However fast the web process asks: it may be in the hands of an attacker."""
    host.track()
    host.run(1)
    count, seconds = 0, 20.0
    end = host.clock.now + seconds
    host.child.send(PLAIN)
    while host.clock.now < end:
        host.run(0.1)
        if host.child.answers():
            count += 1
            host.child.send(PLAIN)
    assert 10 < count <= seconds / SPACING_SECONDS + 1
    assert len(host.tracker.details) <= count + 1


def test_no_answer_from_before_a_suspension_is_repeated(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.track()
    host.governor.level = Level(steps=6)
    host.ask(PLAIN)
    host.ask(PLAIN)
    assert len(host.tracker.details) == 1
    monkeypatch.setattr(module, "suspended", lambda: suspended() + 8 * 3600)
    host.ask(PLAIN)
    assert len(host.tracker.details) == 2


def test_over_the_budget_an_answer_is_repeated_with_new_figures(host: Host) -> None:
    host.track()
    host.governor.level = Level(steps=6)
    first = host.ask(PLAIN)
    host.collector.web.restarts = 7
    second = host.ask(PLAIN)
    assert len(host.tracker.details) == 1
    assert second.body == first.body
    assert second.figures
    assert second.figures.web_restarts == 7
    host.ask(DETAILED)
    assert host.tracker.details == [False, True], "another kind of answer is read"
    host.run(host.governor.level.spacing)
    host.ask(DETAILED)
    assert len(host.tracker.details) == 3


def test_tables_that_cannot_be_read_are_an_answer_and_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    host.track()
    host.tracker.error = RuntimeError("no tables")
    answers = [host.ask(), host.ask()]
    assert [answer.ok for answer in answers] == [False, False]
    assert answers[1].body == b"no tables"
    assert answers[1].figures
    assert caplog.text.count("cannot be read") == 1
    host.tracker.error = None
    assert host.ask().ok
    assert caplog.text.count("can be read again") == 1
    assert host.tracker.unmapped == 3


def test_figures_are_those_of_both_processes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {os.getpid(): 3.0, host.child.pid: 5.0}
    monkeypatch.setattr(module, "cpu_seconds", lambda pid: used.get(pid, 0.0))
    host.track()
    host.tracker.seconds = 0.25
    host.ask()
    figures = host.ask().figures
    assert figures
    assert figures.snapshot_seconds == pytest.approx(0.25)
    assert (figures.collector_cpu_seconds, figures.web_cpu_seconds) == (3.0, 5.0)
    assert figures.memory.collector.resident > 1 << 20
    assert figures.budget.limit_cpus == 0.5


def test_upkeep_is_done_whether_or_not_anyone_asks(host: Host) -> None:
    host.track()
    host.run(WALK_PERIOD_SECONDS + 1)
    assert host.tracker.walked == 1
    assert host.tracker.drained == host.worked
    assert host.tracker.drained == pytest.approx(WALK_PERIOD_SECONDS / DRAIN_SECONDS, rel=0.15)
    assert not host.tracker.details


def test_work_that_fails_is_no_sign_of_life(host: Host) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    host.track()
    host.tracker.drain = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="broken"):
        host.run(2 * DRAIN_SECONDS)
    assert host.worked == 0


def test_bpf_statistics_are_on_for_a_short_window_of_each_period(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = []

    def enable() -> int:
        descriptors.append(os.open(os.devnull, os.O_RDONLY))
        return descriptors[-1]

    monkeypatch.setattr(syscall, "enable_stats", enable)
    host.track()
    assert host.governor.windows == ["opens"]
    host.run(STATS_WINDOW_SECONDS + 0.2)
    assert host.governor.windows == ["opens", "closes"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])
    host.run(3 * STATS_PERIOD_SECONDS + 2 * STATS_WINDOW_SECONDS)
    assert host.governor.windows == ["opens", "closes"] * 4
    assert len(host.governor.periods) == 4


def test_without_bpf_statistics_the_cost_of_the_processes_is_still_judged(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(syscall, "enable_stats", refuse)
    host.track()
    host.run(STATS_WINDOW_SECONDS + 0.2)
    assert host.governor.windows == []
    assert len(host.governor.periods) == 1
    assert "Operation not permitted" in caplog.text


def test_bpf_statistics_of_the_host_can_be_left_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscall, "enable_stats", lambda: pytest.fail("enabled"))
    host.track(BudgetSettings(bpf_statistics=False))
    host.run(3 * STATS_PERIOD_SECONDS + 2 * STATS_WINDOW_SECONDS)
    assert host.governor.windows == []
    assert len(host.governor.periods) == 4, "the cost of the processes is still judged"


def test_a_web_process_that_wants_tracking_wakes_it(host: Host) -> None:
    host.child.send(WANTED)
    host.run()
    host.track()
    host.tracker.awake = False
    host.child.send(WANTED)
    host.run()
    assert host.tracker.awake
    assert not host.child.answers(), "there is no answer to it"


def test_a_census_is_requested_and_answered_at_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.track()
    taker = host.collector.census
    assert taker is not None
    requests: list[float] = []
    monkeypatch.setattr(taker, "request", lambda: requests.append(host.clock.now))
    taker.latest = b"a census"
    assert host.ask(CENSUS, 0).body == b"a census"
    assert not requests
    answer = host.ask(TAKE_CENSUS, 0)
    assert answer.ok
    assert answer.body == b""
    assert answer.figures is not None
    assert len(requests) == 1
    assert not host.tracker.details  # the kernel's tables were not read for it
