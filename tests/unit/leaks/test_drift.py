# SPDX-License-Identifier: Apache-2.0
"""Statistics of the verdict engine against tables, theory and chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.leaks.drift import (
    BLOCKS,
    adjusted,
    blocks,
    drawdown,
    drift,
    growth_rate,
    largest_change,
    last_change,
    normal_tail,
    student_quantile95,
    student_tail,
    theil_sen,
)


@pytest.mark.parametrize(
    ("t", "degrees", "p"),
    [(2.201, 11, 0.025), (4.025, 11, 1e-3), (2.069, 23, 0.025), (3.485, 23, 1e-3)],
)
def test_student_as_in_the_tables(t: float, degrees: float, p: float) -> None:
    assert student_tail(np.array(t), degrees) == pytest.approx(p, rel=0.02)
    assert student_tail(np.array(-t), degrees) == pytest.approx(1 - p, rel=0.02)


def test_the_far_tail_is_never_too_thin() -> None:
    # 11 degrees at 10, by integrating the density numerically.
    assert 3.6965e-7 <= student_tail(np.array(10.0), 11) <= 1.17 * 3.6965e-7
    assert student_tail(np.array(np.inf), 11) == 0


def test_quantile_and_normal_tail_as_in_the_tables() -> None:
    assert student_quantile95(11) == pytest.approx(2.201, abs=0.003)
    assert student_quantile95(23) == pytest.approx(2.069, abs=0.001)
    assert normal_tail(np.array([0.0, 1.96])) == pytest.approx([0.5, 0.025], abs=1e-4)


@given(st.integers(2, 400))
def test_blocks_have_equally_many_moments_and_end_now(count: int) -> None:
    borders = blocks(np.arange(float(count))[:, None])[:, 0]
    assert borders[-1] == count - 1
    assert len(borders) <= BLOCKS + 1
    assert len(set(np.diff(borders))) <= 1
    assert borders[0] < np.diff(borders)[0] if len(borders) > 1 else True


def test_benjamini_and_hochberg_by_hand() -> None:
    assert adjusted(np.array([0.01, 0.5, 0.02, 0.03])) == pytest.approx([0.04, 0.5, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusting_keeps_the_order_and_never_helps(p: list[float]) -> None:
    found = adjusted(np.array(p))
    assert (found >= np.array(p) - 1e-15).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()


def test_one_burst_moves_neither_the_slope_nor_the_verdict() -> None:
    levels = np.zeros(25)
    levels[12:] = 1e9
    assert theil_sen(np.arange(25.0) * 3) == 3
    assert drift(levels[:, None], np.zeros(1)).p[0] > 0.1


def test_levels_of_a_random_walk_find_drift_no_more_often_than_they_should() -> None:
    steps = np.random.default_rng(1).normal(size=(24, 20_000))
    levels = np.vstack([np.zeros(20_000), steps.cumsum(0)])
    p = drift(levels, np.zeros(20_000)).p
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=0.003)


def test_noise_of_sampling_alone_is_no_drift() -> None:
    # 24 equal steps, but each of so few samples that all of it may be chance.
    levels = np.arange(25.0)[:, None]
    assert drift(levels, np.array([24.0**2])).p[0] == pytest.approx(normal_tail(np.array(1.0)))
    assert drift(levels, np.array([1.0])).p[0] < 1e-9


def test_drawdown_is_the_largest_fall() -> None:
    assert drawdown(np.array([0.0, 5, 3, 9, 2, 8])) == 7
    assert drawdown(np.arange(5.0)) == 0


def test_a_rate_is_that_since_the_last_change() -> None:
    steps = np.repeat([0.0, 10.0, 4.0], 8)
    found = growth_rate(np.concatenate([[0.0], steps.cumsum()]), 0.0)
    assert found.first == 17  # the first block of a stretch may have begun before it
    assert found.growth == 4


def test_the_largest_change_is_the_first_to_be_found() -> None:
    assert largest_change(np.repeat([0.0, 10.0, 4.0], 8)) == 9
    assert largest_change(np.repeat([9.0, 10.0, 4.0], 8)) == 17


def test_a_change_is_hardly_ever_seen_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    for steps in (rng.normal(size=(2000, 24)), rng.exponential(size=(2000, 24))):
        assert np.mean([last_change(row) > 0 for row in steps]) < 0.03
    assert last_change(np.full(24, 3.0)) == 0
    assert last_change(np.arange(6.0)) == 0


@pytest.mark.parametrize("change", [0, 9])
def test_a_rate_is_within_its_interval_as_often_as_it_says(change: int) -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(2000):
        steps = rng.poisson(40, 24) * (np.arange(24) >= change)
        found = growth_rate(np.concatenate([[0], steps.cumsum()]), 1.0)
        held += found.low <= 40 <= found.high
    assert 0.93 <= held / 2000 <= 0.98


def test_what_comes_regularly_is_known_but_for_one() -> None:
    found = growth_rate(np.arange(25.0) * 2, 1.0)
    assert (found.low, found.growth, found.high) == (2 - 1 / 24, 2, 2 + 1 / 24)
