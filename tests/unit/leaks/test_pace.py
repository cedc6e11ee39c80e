# SPDX-License-Identifier: Apache-2.0
"""The pace of growth from levels at uneven moments."""

from __future__ import annotations

import random

import numpy as np
import pytest

from slabmon.leaks.pace import pace, trend

MOMENTS = np.array([0.0, 20.0, 40.0, 50.0, 60.0, 70.0, 80.0, 110.0])


def test_a_constant_pace_has_no_interval() -> None:
    found = pace(MOMENTS, 5 * MOMENTS)
    assert (found.rate, found.low, found.high, found.p) == (5, 5, 5, 0)
    assert trend(MOMENTS, 5 * MOMENTS).change == pytest.approx(0)


def test_what_does_not_grow_is_chance() -> None:
    assert pace(MOMENTS, np.full(8, 7.0)).p == 1
    assert pace(MOMENTS, -MOMENTS).p == 1


def test_the_interval_covers_the_drift_of_a_random_walk(rng: random.Random) -> None:
    normal = np.random.default_rng(rng.randrange(1 << 32)).normal
    seconds = np.diff(MOMENTS)
    covered = small = 0
    for _ in range(2000):
        steps = 3 * seconds + normal(0, np.sqrt(seconds) * 10)
        found = pace(MOMENTS, np.concatenate([[0.0], np.cumsum(steps)]))
        covered += found.low <= 3 <= found.high
        noise = normal(0, np.sqrt(seconds) * 10)
        small += pace(MOMENTS, np.concatenate([[0.0], np.cumsum(noise)])).p < 0.05
    assert 0.92 < covered / 2000 < 0.98
    assert 0.025 < small / 2000 < 0.08


def test_the_trend_of_a_warm_up_is_its_decline() -> None:
    found = trend(MOMENTS, 1 - np.exp(-MOMENTS / 100))
    assert -1.2 < found.change < -0.9
    assert found.errors < -5


def test_the_trend_of_growth_that_speeds_up_is_positive() -> None:
    found = trend(MOMENTS, MOMENTS**2)
    assert found.change == pytest.approx(2)
    assert found.errors > 5
