# SPDX-License-Identifier: Apache-2.0
"""When tracking wakes and sleeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slabmon.analysis.rising import PERIOD_SECONDS, Level
from slabmon.base.errors import UnsupportedHost
from slabmon.daemon.waking import AWAKE_SECONDS, REQUESTED, SCHEDULED, Waking
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

    def wake(self, reason: str) -> None:
        if self.refuses:
            raise UnsupportedHost("the kernel refused")
        self.reasons.append(reason)
        self.awake = True

    def sleep(self) -> None:
        self.awake = False


class Case:
    """A daemon's loop with a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.level = 100 << 20
        self.tracking = FakeTracking()

    def begin(self, settings: Settings) -> Waking:
        def levels() -> dict[str, Level]:
            return {"cache kmalloc-64": Level(self.level)}

        return Waking(self.loop, self.tracking, settings, levels, MEMORY)

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
