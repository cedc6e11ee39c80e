# SPDX-License-Identifier: Apache-2.0
"""Amounts of memory that rise, and those that only move."""

from __future__ import annotations

import random
from collections.abc import Callable

from slabmon.analysis.rising import (
    PERIOD_SECONDS,
    Failing,
    Failures,
    FailureWatch,
    Growth,
    Level,
    Rising,
)

MIB = 1 << 20
HOST = 16 << 30  # the threshold is 1 MiB


def follow(
    course: Callable[[float], float], seconds: float, tolerance: int = 1
) -> list[tuple[float, Growth]]:
    """What is noticed of an amount over time, and when."""
    rising = Rising(HOST)
    noticed = []
    for i in range(int(seconds / PERIOD_SECONDS)):
        now = i * PERIOD_SECONDS
        levels = {"cache a": Level(int(course(now)), tolerance), "cache b": Level(5 * MIB)}
        noticed += [(now, growth) for growth in rising.add(now, levels)]
    return noticed


def test_steady_growth_is_noticed_within_a_minute() -> None:
    (at, growth), *_ = follow(lambda t: 100 * MIB + 20_000 * t, 120)
    assert at == 60
    assert growth == Growth("cache a", 1_200_000, 60.0, True)


def test_the_same_growth_is_noticed_once() -> None:
    noticed = follow(lambda t: 100 * MIB + 200_000 * t, 300)
    assert [at for at, _ in noticed] == [60, 130, 200, 270]


def test_slow_growth_is_noticed_by_its_floors() -> None:
    """4 KiB/s, in an amount that moves up and down by 10 MiB all the time."""
    noticed = follow(lambda t: 100 * MIB + 4096 * t + t % 20 * MIB, 4000)
    assert [at for at, _ in noticed] == [1800, 3600], "by three floors each time"
    assert noticed[0][1] == Growth("cache a", 4096 * 1220, 1200.0)


def test_growth_of_some_pages_an_hour_is_noticed_by_its_floors_of_hours() -> None:
    """12 KiB an hour, page by page, in an amount that moves up and down by 64 KiB."""

    def course(t: float) -> float:
        return int(100 * MIB + t * 12288 / 3600) // 4096 * 4096 + t % 20 * 4096

    noticed = follow(course, 5 * 3600)
    assert [growth.seconds for _, growth in noticed] == [3 * 3600]
    assert noticed[0][0] <= 4 * 3600
    assert not follow(course, 5 * 3600, tolerance=4)


def test_what_does_not_grow_is_not_noticed() -> None:
    noise = random.Random(1)
    assert not follow(lambda t: 100 * MIB, 7200)
    assert not follow(lambda t: 100 * MIB + noise.choice([0, 10 * MIB]), 3600)
    assert not follow(lambda t: 100 * MIB - 20_000 * t % MIB, 3600)


def test_tolerance_raises_the_threshold() -> None:
    assert not follow(lambda t: 100 * MIB + 20_000 * t, 600, tolerance=256)
    assert follow(lambda t: 100 * MIB + 20_000_000 * t, 600, tolerance=256)


def test_a_load_that_comes_and_goes_is_noticed_less_and_less() -> None:
    def burst(t: float) -> float:
        return 100 * MIB + (1_000_000 * (t % 3600) if t % 3600 < 300 else 0)

    times = [at for at, _ in follow(burst, 86400)]
    first_half = sum(at < 43200 for at in times)
    assert times
    assert len(times) - first_half < first_half
    assert len(times) < 12


def test_an_amount_that_vanishes_is_forgotten() -> None:
    rising = Rising(HOST)
    for i in range(7):
        rising.add(i * PERIOD_SECONDS, {"cache a": Level(i * 2 * MIB)} if i != 3 else {})
    assert not rising.add(70, {"cache a": Level(20 * MIB)})


def test_the_floor_of_an_amount_that_is_0_at_times_is_0() -> None:
    assert not follow(lambda t: 0 if t % 20 >= 10 else 50 * MIB + 20_000 * t, 7200)


def test_after_a_day_a_load_is_noticed_as_it_was_at_first() -> None:
    period = 43000  # no multiple of ten minutes, after each of which there is a floor
    noticed = follow(lambda t: 100 * MIB + 20_000 * min(t % period, 60), 3 * period + 120)
    assert [at for at, _ in noticed] == [60, 3 * period + 60]


def test_growth_within_a_minute_can_be_tolerated_more() -> None:
    rising = Rising(HOST)
    noticed = []
    for i in range(300):
        now = i * PERIOD_SECONDS
        levels = {"rest": Level(100 * MIB + 20_000 * int(now), 4, 64)}
        noticed += rising.add(now, levels)
    (growth,) = noticed
    assert (growth.seconds, growth.brief) == (1200.0, False)


def failures(watch: FailureWatch, now: float, count: int, least: int = 1) -> list[Failing]:
    return watch.add(now, {"failed": Failures(count, least)})


def test_failures_are_news_once_and_then_have_to_be_more() -> None:
    watch = FailureWatch()
    assert not failures(watch, 0, 17)
    assert failures(watch, 10, 18) == [Failing("failed", 1)]
    assert not failures(watch, 20, 19)
    assert failures(watch, 30, 21) == [Failing("failed", 2)]
    assert not failures(watch, 40, 24)
    assert failures(watch, 2 * 86400, 25) == [Failing("failed", 1)], "forgotten after a day"


def test_a_counter_that_begins_again_is_no_failure() -> None:
    watch = FailureWatch()
    failures(watch, 0, 100, least=50)
    assert not failures(watch, 10, 3, least=50)
    assert failures(watch, 20, 53, least=50) == [Failing("failed", 50)]
