# SPDX-License-Identifier: Apache-2.0
"""When tracking wakes and sleeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slabmon.analysis.rising import PERIOD_SECONDS, Failures, Growth, Level
from slabmon.base.activity import Stage
from slabmon.base.errors import UnsupportedHost
from slabmon.daemon.waking import (
    AWAKE_SECONDS,
    LIGHT_SECONDS,
    REQUESTED,
    SCHEDULED,
    Waking,
    named,
)
from slabmon.kernel.levels import UNCOUNTED
from slabmon.kernel.settings import Settings, When
from slabmon.runtime.event_loop import EventLoop
from tests.support.children import ManualClock

MEMORY = 16 << 30


class FakeTracking:
    """Notes what becomes of it."""

    def __init__(self, awake: bool = False) -> None:
        self.awake = awake
        self.reasons: list[str] = []
        self.refuses = False
        self.stage = Stage.SAMPLED
        self.pages = False

    def watch_pages(self, watched: bool) -> None:
        self.pages = watched

    def wake(self, reason: str) -> None:
        if self.refuses:
            raise UnsupportedHost("the kernel refused")
        self.reasons.append(reason)
        self.awake = True

    def sleep(self) -> None:
        self.awake = False

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage


class Case:
    """A daemon's loop with a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.memory = MEMORY
        self.level = 100 << 20
        self.failed = 0
        self.tracking = FakeTracking()
        self.name = "cache kmalloc-64"

    def levels(self, now: float) -> dict[str, Level]:
        return {self.name: Level(self.level)}

    def failures(self) -> dict[str, Failures]:
        return {"warnings of failed allocations": Failures(self.failed)}

    def begin(self, settings: Settings) -> Waking:
        return Waking(self.loop, self.tracking, settings, self)

    def stage(self) -> Stage:
        return self.tracking.stage

    def pass_time(self, seconds: float, growth: int = 0) -> None:
        """Let time pass; the amount grows by `growth` bytes a period."""
        for _ in range(int(seconds / PERIOD_SECONDS)):
            self.clock.now += PERIOD_SECONDS
            self.level += growth
            self.loop.step(0)


@pytest.fixture
def case() -> Iterator[Case]:
    case = Case()
    yield case
    case.loop.close()


AUTO = Settings(when=When.AUTO)


def test_growth_wakes_within_a_minute_and_names_what_grew(case: Case) -> None:
    case.begin(AUTO)
    case.pass_time(600)
    assert not case.tracking.awake
    case.pass_time(60, growth=1 << 20)
    assert case.tracking.awake
    (reason,) = case.tracking.reasons
    assert reason == "cache kmalloc-64 grew by 3.0 MiB in 1m00s"
    assert case.stage() == Stage.LIGHT


def test_growth_that_stays_is_looked_at_closely_until_nothing_grows(case: Case) -> None:
    case.begin(AUTO)
    case.pass_time(600)
    case.pass_time(60, growth=400 << 10)
    case.pass_time(LIGHT_SECONDS - 60)
    assert case.stage() == Stage.LIGHT
    case.pass_time(60)
    assert (case.tracking.awake, case.stage()) == (True, Stage.SAMPLED)
    case.pass_time(AWAKE_SECONDS - 60)
    assert case.tracking.awake
    case.pass_time(120)
    assert not case.tracking.awake
    assert len(case.tracking.reasons) == 1


def test_growth_that_is_given_back_is_not_looked_at(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    case.begin(AUTO)
    case.pass_time(600)
    case.pass_time(60, growth=1 << 20)
    assert case.tracking.awake
    case.level = 101 << 20
    case.pass_time(LIGHT_SECONDS + PERIOD_SECONDS)
    assert not case.tracking.awake
    assert "tracking sleeps: cache kmalloc-64 gave back what it grew by" in caplog.text


def test_growth_that_goes_on_or_a_request_ends_the_doubt(case: Case) -> None:
    waking = case.begin(AUTO)
    case.pass_time(600)
    case.pass_time(60, growth=1 << 20)
    waking.request()
    assert case.stage() == Stage.SAMPLED
    case.pass_time(AWAKE_SECONDS + 60)
    assert not case.tracking.awake
    case.pass_time(60, growth=2 << 20)
    assert case.stage() == Stage.LIGHT
    case.pass_time(60, growth=4 << 20)
    assert case.stage() == Stage.SAMPLED


def test_slow_growth_is_not_in_doubt(case: Case) -> None:
    case.begin(AUTO)
    case.pass_time(3600, growth=12 << 10)
    assert (case.tracking.awake, case.stage()) == (True, Stage.SAMPLED)
    assert "in 20m00s" in case.tracking.reasons[0]


def test_what_took_hours_to_notice_is_looked_at_for_as_long(case: Case) -> None:
    case.begin(AUTO)
    case.pass_time(4 * 3600, growth=32)
    assert case.stage() == Stage.SAMPLED
    assert case.tracking.reasons == ["cache kmalloc-64 grew by 31.9 KiB in 3h00m"]
    case.pass_time(2 * 3600)
    assert case.tracking.awake
    case.pass_time(1800)
    assert not case.tracking.awake


def test_failed_allocations_wake_it_at_once(case: Case) -> None:
    case.failed = 17
    case.begin(AUTO)
    case.pass_time(60)
    assert not case.tracking.awake, "what was there before is not news"
    case.failed += 2
    case.pass_time(PERIOD_SECONDS)
    assert case.tracking.reasons == ["2 warnings of failed allocations"]
    assert case.stage() == Stage.SAMPLED


def test_the_lowest_cgroup_that_grew_is_named() -> None:
    def growth(name: str, mebibytes: int) -> Growth:
        return Growth(name, mebibytes << 20, 60.0, True)

    slice_, pod = growth("cgroup /kube", 100), growth("cgroup /kube/pod", 90)
    container, other = growth("cgroup /kube/pod/app", 60), growth("cgroup /kube2/pod/app", 60)
    cache = growth("cache kmalloc-64", 90)
    assert named([slice_, pod, cache, container, other]) == container
    assert named([slice_, growth("cgroup /kube/pod", 40)]) == slice_
    assert named([cache, pod]) == cache


def test_pages_are_watched_while_memory_grows_that_no_counter_names(case: Case) -> None:
    waking = case.begin(AUTO)
    case.pass_time(600)
    case.pass_time(60, growth=1 << 20)
    assert case.tracking.awake
    assert not case.tracking.pages
    case.name = UNCOUNTED
    case.pass_time(120, growth=1 << 20)
    assert case.tracking.pages
    case.pass_time(AWAKE_SECONDS - 60)
    waking.request()
    case.pass_time(120)
    assert case.tracking.awake, "somebody looks"
    assert not case.tracking.pages, "which is no reason to watch pages"


def test_it_sleeps_when_nothing_happened_for_long_enough(case: Case) -> None:
    waking = case.begin(AUTO)
    waking.request()
    assert case.tracking.reasons == [REQUESTED]
    case.pass_time(AWAKE_SECONDS - 60)
    waking.request()
    case.pass_time(AWAKE_SECONDS - 60)
    assert case.tracking.awake, "somebody looked again"
    case.pass_time(120)
    assert not case.tracking.awake


def test_the_clock_wakes_it_where_that_is_set(case: Case) -> None:
    case.begin(Settings(when=When.AUTO, wake_interval="6h"))
    case.pass_time(6 * 3600 - 60)
    assert not case.tracking.reasons
    case.pass_time(120)
    assert case.tracking.reasons == [SCHEDULED]


def test_off_never_wakes_and_always_never_sleeps(case: Case) -> None:
    case.tracking.awake = True
    off = case.begin(Settings(when=When.OFF))
    assert not case.tracking.awake, "an earlier daemon left it awake"
    off.request()
    case.pass_time(600, growth=1 << 20)
    assert not case.tracking.awake
    case.begin(Settings())
    assert case.tracking.awake
    case.pass_time(2 * AWAKE_SECONDS)
    assert case.tracking.awake


def test_a_refusal_is_logged_and_tried_again(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    waking = case.begin(AUTO)
    case.tracking.refuses = True
    waking.request()
    waking.request()
    case.pass_time(60)
    assert not case.tracking.awake
    assert caplog.text.count("the kernel refused") == 1
    case.tracking.refuses = False
    case.pass_time(PERIOD_SECONDS)
    assert case.tracking.awake
    assert case.tracking.reasons == [REQUESTED]


def test_always_tries_again_until_it_is_awake(case: Case) -> None:
    case.tracking.refuses = True
    case.begin(Settings())
    assert not case.tracking.awake
    case.tracking.refuses = False
    case.pass_time(PERIOD_SECONDS)
    assert case.tracking.awake
