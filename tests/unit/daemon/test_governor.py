# SPDX-License-Identifier: Apache-2.0
"""The budget applied: what the decision changes in a session, and what it reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from slabmon.base.activity import Stage
from slabmon.daemon.governor import Governor
from slabmon.kernel.bpf.syscall import ProgramInfo
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.session_state import Pauses
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.runtime.budget import PATIENCE_UP, STEPS, BudgetSettings
from tests.support.hosts import facts


class FakePrograms:
    """Attachments to page events, and programs that have run for `seconds`."""

    def __init__(self) -> None:
        self.programs = {"on_kfree": 1, "on_kmalloc": 2}
        self.attached_events = {"kfree", "mm_page_alloc", "mm_page_free"}

    def detach(self, events: frozenset[str]) -> None:
        self.attached_events -= events

    def attach(self, plan: Any, events: frozenset[str], required: bool) -> dict[str, str]:
        self.attached_events |= events
        return {}


class FakeContinuity:
    updates = 0

    def update(self, programs: Any) -> None:
        self.updates += 1


class Session(SimpleNamespace):
    """A tracker whose parts are fake, and whose way to shed load is real."""

    set_sample_interval = Tracker.set_sample_interval
    shed_load = Tracker.shed_load
    _attach_optional = Tracker._attach_optional
    _attach_pages = Tracker._attach_pages
    _page_interval = Tracker._page_interval
    awake = Tracker.awake
    _follow_attachments = Tracker._follow_attachments


def session(settings: Settings) -> Any:
    plan = make_plan(facts(), settings)
    return Session(
        plan=plan,
        facts=facts(),
        programs=FakePrograms(),
        features=dict(plan.features),
        reader=SimpleNamespace(control={"sample_interval": settings.sample_bytes}),
        _paths=SimpleNamespace(forget_pages=lambda: None),
        _pages_always=settings.pages,
        _pages_watched=settings.pages,
        shed=frozenset(),
        checkpoint=FakeContinuity(),
        pauses=Pauses(),
        stage=Stage.SAMPLED,
    )


class Clock:
    now = 1000.0
    run_seconds = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr("slabmon.daemon.governor.time.monotonic", lambda: result.now)
    info = "slabmon.daemon.governor.syscall.program_info"
    monkeypatch.setattr(info, lambda _: ProgramInfo(result.run_seconds / 2, 1, 0, 0))
    return result


class Host:
    """A governor and the minutes it sees."""

    def __init__(self, clock: Clock, settings: Settings, budget: float = 1.0) -> None:
        self.clock = clock
        self.tracker = session(settings)
        self.governor = Governor(cast(Tracker, self.tracker), BudgetSettings(budget))
        self.collector = self.web = 0.0
        self.minute(0, 0, 0)

    def minute(self, collector: float, web: float, bpf: float) -> None:
        """Let a period pass in which the parts use these CPUs on average."""
        self.governor.window_opens()
        self.clock.now += 1
        self.clock.run_seconds += bpf
        self.governor.window_closes()
        self.clock.now += 59
        self.collector += 60 * collector
        self.web += 60 * web
        self.governor.period(self.collector, self.web)

    def minutes(self, count: int, collector: float) -> None:
        for _ in range(count):
            self.minute(collector, 0, 0)


def test_cost_is_that_of_both_processes_and_the_programs(clock: Clock) -> None:
    host = Host(clock, Settings())
    host.minute(0.25, 0.5, 0.125)
    cost = host.governor.cost
    assert cost is not None
    assert (cost.collector, cost.web, cost.bpf) == pytest.approx((0.25, 0.5, 0.125))
    figures = host.governor.figures()
    assert figures.limit_cpus == pytest.approx(0.04)
    assert figures.cost == cost
    assert figures.steps_taken == ()


def test_what_clients_cost_takes_no_step(clock: Clock) -> None:
    host = Host(clock, Settings())
    for _ in range(100):
        host.minute(0.001, 0.9, 0.001)
    assert host.governor.figures().steps_taken == ()
    host.minutes(PATIENCE_UP, 0.5)
    for _ in range(100):
        host.minute(0.001, 0.9, 0.001)
    assert host.governor.figures().steps_taken == ()


def test_everything_is_given_up_in_order_and_comes_back(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    host = Host(clock, Settings(pages=True))
    tracker = host.tracker
    host.minutes(PATIENCE_UP, 0.5)
    assert tracker.reader.control["sample_interval"] == 4 * Settings.sample_bytes
    assert tracker.features["budget"].reason == "exceeded: sampling interval x4"
    host.minutes(PATIENCE_UP * len(STEPS), 0.5)
    assert tracker.reader.control["sample_interval"] == 64 * Settings.sample_bytes
    assert tracker.programs.attached_events == {"kfree"}
    assert tracker.checkpoint.updates == 1, "a kept attachment would go on counting"
    assert tracker.features["pages"].state == tracker.features["slabinfo"].state == "degraded"
    assert tracker.features["budget"].reason == (
        "exceeded: sampling interval x64, page allocator events off, slabinfo not read, "
        "tables read every 15 s at most"
    )
    assert host.governor.level.spacing == 15
    assert host.governor.figures().steps_taken == tuple(step.name for step in STEPS)
    assert "nothing is left to give up" in caplog.text
    host.minutes(100, 0.001)
    assert tracker.reader.control["sample_interval"] == Settings.sample_bytes
    assert tracker.programs.attached_events == {"kfree", "mm_page_alloc", "mm_page_free"}
    assert tracker.features == dict(tracker.plan.features)
    assert caplog.text.count(", undone") == len(STEPS)


def test_what_is_not_done_anyway_is_not_given_up(clock: Clock) -> None:
    host = Host(clock, Settings(exact=Filter(cache="dentry")))
    host.minutes(100, 0.5)
    assert [step.shed for step in host.governor.level.taken] == ["slabinfo", ""]
    assert host.tracker.reader.control["sample_interval"] == Settings.sample_bytes
    assert host.tracker.features["pages"].state == "off"


def test_other_settings_count_at_once(clock: Clock) -> None:
    host = Host(clock, Settings())
    host.minutes(PATIENCE_UP, 0.5)
    host.governor.reconfigure(BudgetSettings(50), 4096)
    assert host.tracker.reader.control["sample_interval"] == 4 * 4096
    host.minutes(10, 0.5)
    assert host.tracker.reader.control["sample_interval"] == 4096


def test_a_cost_that_is_not_measured_is_unknown_and_not_the_last_one(clock: Clock) -> None:
    host = Host(clock, Settings())
    host.minute(0.25, 0, 0.125)
    clock.now += 60
    host.governor.period(host.collector, host.web)
    cost = host.governor.cost
    assert cost is not None
    assert cost.bpf is None
    assert cost.total == pytest.approx(0)
