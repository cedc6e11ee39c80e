# SPDX-License-Identifier: Apache-2.0
"""Estimates hold what they promise for the sampler that the kernel runs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from slabmon.analysis.sampling import Grouped, chi2_quantile, probability
from slabmon.model import Live
from tests.support.sampler import Lane, exponential_gap

Z975 = 1.959963984540054
INTERVAL = 4096
TRIALS = 400

# Sizes, how often each, and the fraction that lives on. Interval 4096.
STREAMS = {
    "small objects": ([64], 2_000, 0.5),
    "large objects": ([1024], 400, 0.5),
    "a mixture": ([8, 96, 512, 2048], 200, 0.3),
    "objects above the interval": ([8192], 60, 0.5),
    "small among huge": ([32, 65_536], 300, 0.5),
    "about eight samples": ([256], 128, 1.0),
    "about four samples": ([64], 256, 1.0),
    "about one sample": ([64], 64, 1.0),
    "few of a mixture": ([128, 8192], 20, 0.5),
}


def estimate(sizes: np.ndarray, lives: np.ndarray, rng: np.random.Generator) -> Live:
    """What slabmon says of the allocations that live on, sampled as in the kernel."""
    sampled = np.array(Lane(INTERVAL, rng).sampled(sizes.tolist()), bool)
    kept = sizes[sampled & lives]
    intervals = np.full(len(kept), INTERVAL, "u4")
    return Grouped(kept.astype("u4"), intervals, INTERVAL).by(np.zeros(len(kept), int), 1)[0]


@cache
def trials(stream: str) -> tuple[list[Live], list[int], list[int]]:
    """Estimates, true live bytes and true live objects of TRIALS runs."""
    kinds, each, fraction = STREAMS[stream]
    rng = np.random.default_rng(7)
    estimates, true_bytes, true_objects = [], [], []
    for _ in range(TRIALS):
        sizes = rng.permutation(np.repeat(kinds, each))
        lives = rng.random(len(sizes)) < fraction
        estimates.append(estimate(sizes, lives, rng))
        true_bytes.append(int(sizes[lives].sum()))
        true_objects.append(int(lives.sum()))
    return estimates, true_bytes, true_objects


@pytest.mark.parametrize("stream", STREAMS)
def test_the_interval_holds_the_truth_in_95_of_100_trials(stream: str) -> None:
    """But for the spread of the number of trials itself, three standard deviations of it."""
    estimates, truth, _ = trials(stream)
    held = sum(
        live.low_bytes <= true <= live.high_bytes
        for live, true in zip(estimates, truth, strict=True)
    )
    assert held >= 0.95 * TRIALS - 3 * math.sqrt(TRIALS * 0.95 * 0.05)


@pytest.mark.parametrize("stream", STREAMS)
def test_estimates_are_unbiased(stream: str) -> None:
    estimates, true_bytes, true_objects = trials(stream)
    for found, truth in (
        ([live.bytes for live in estimates], true_bytes),
        ([live.objects for live in estimates], true_objects),
    ):
        errors = np.subtract(found, truth)
        assert abs(errors.mean()) < 3 * errors.std(ddof=1) / math.sqrt(TRIALS)


@pytest.mark.parametrize("stream", ["small objects", "a mixture", "objects above the interval"])
def test_the_standard_error_is_the_spread_of_the_estimates(stream: str) -> None:
    estimates, truth, _ = trials(stream)
    spread = np.sqrt(np.mean(np.subtract([live.bytes for live in estimates], truth) ** 2.0))
    claimed = np.sqrt(np.mean([float(live.stderr_bytes) ** 2 for live in estimates]))
    assert claimed == pytest.approx(spread, rel=0.25)


def test_an_interval_is_not_wider_than_its_certainty_needs() -> None:
    """With many samples it is about two standard errors to either side."""
    sizes = np.full(400, 1024, "u4")
    (live,) = Grouped(sizes, np.full(400, INTERVAL, "u4")).by(np.zeros(400, int), 1)
    width = live.high_bytes - live.low_bytes
    assert width == pytest.approx(2 * Z975 * live.stderr_bytes, rel=0.05)


def test_what_is_tracked_with_certainty_is_exact() -> None:
    sizes = np.array([64, 64, 192, 8192], "u4")
    live = Grouped(sizes, np.zeros(4, "u4")).by(np.array([0, 0, 1, 1]), 3)
    assert live == [Live(2, 128, 0, 128, 128), Live(2, 8384, 0, 8384, 8384), Live()]


def test_certain_and_sampled_objects_add_up() -> None:
    sizes, intervals = np.array([16_384, 64], "u4"), np.array([0, INTERVAL], "u4")
    (both,) = Grouped(sizes, intervals).by(np.zeros(2, int), 1)
    (sampled,) = Grouped(sizes[1:], intervals[1:]).by(np.zeros(1, int), 1)
    assert both.bytes == sampled.bytes + 16_384
    assert both.objects == sampled.objects + 1
    assert both.stderr_bytes == sampled.stderr_bytes
    assert both.low_bytes >= 16_384, "what is certain is no part of the uncertainty"


def test_what_was_never_sampled_is_not_claimed_to_be_exactly_nothing() -> None:
    """A group beside it was sampled at this interval: up to about 3.7 intervals of small
    objects go unseen with a probability of 2.5 %."""
    seen, unseen = Grouped(np.array([64], "u4"), np.array([INTERVAL], "u4")).by(np.zeros(1, int), 2)
    assert seen.bytes > 0
    assert unseen.bytes == 0
    assert unseen.high_bytes > 2 * INTERVAL


def test_the_probability_of_a_sample_is_that_of_the_kernel() -> None:
    rng = np.random.default_rng(3)
    for size in (16, 512, 4096, 12_288):
        count = 20_000
        hits = sum(Lane(INTERVAL, rng).sampled([size] * count))
        p = float(probability(np.array([size]), np.array([INTERVAL]))[0])
        assert p == pytest.approx(1 - math.exp(-size / INTERVAL))
        assert abs(hits - p * count) < 4 * math.sqrt(p * (1 - p) * count), size


def test_gaps_are_distributed_exponentially() -> None:
    rng = np.random.default_rng(5)
    gaps = np.array([exponential_gap(int(u), 65_536) for u in rng.integers(1 << 32, size=20_000)])
    for quantile in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999):
        expected = -math.log(1 - quantile) * 65_536
        # Three standard errors of an empirical quantile, and a byte for rounding.
        slack = 3 * 65_536 * math.sqrt(quantile / (1 - quantile) / len(gaps)) + 1
        assert float(np.quantile(gaps, quantile)) == pytest.approx(expected, abs=slack)
    assert gaps.mean() == pytest.approx(65_536, rel=0.03)


@pytest.mark.parametrize("interval", [64, 4096, 65_536, 1 << 30])
def test_a_gap_is_the_logarithm_to_one_in_a_hundred_thousand(interval: int) -> None:
    """Relative to the gap, or to the interval where the gap is a small part of it."""
    rng = np.random.default_rng(9)
    numbers = [
        0,
        1,
        2,
        3,
        1 << 16,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        *rng.integers(1 << 32, size=500).tolist(),
    ]
    for uniform in numbers:
        exact = -math.log(max(uniform, 1) / 2**32) * interval
        assert exponential_gap(uniform, interval) == pytest.approx(
            exact, rel=1e-5, abs=2 + 1e-6 * interval
        )


# Percentage points of the chi-squared distribution (any statistical table).
CHI2 = [
    (10, 3.247, 20.483),
    (20, 9.591, 34.170),
    (50, 32.357, 71.420),
    (100, 74.222, 129.561),
]


@pytest.mark.parametrize(("degrees", "low", "high"), CHI2)
def test_chi2_quantiles_are_those_of_the_tables(degrees: int, low: float, high: float) -> None:
    one = np.array([float(degrees)])
    assert chi2_quantile(Z975, one)[0] == pytest.approx(high, rel=0.002)
    assert chi2_quantile(-Z975, one)[0] == pytest.approx(low, rel=0.02)
    assert chi2_quantile(0.0, one)[0] == pytest.approx(degrees - 2 / 3, rel=0.01), "the median"


@pytest.mark.parametrize(
    ("degrees", "low", "high"), [(2, 0.0506, 7.378), (4, 0.484, 11.143), (6, 1.237, 14.449)]
)
def test_for_few_degrees_chi2_errs_to_the_safe_side_only(
    degrees: int, low: float, high: float
) -> None:
    one = np.array([float(degrees)])
    assert chi2_quantile(-Z975, one)[0] <= low * 1.02
    assert chi2_quantile(Z975, one)[0] == pytest.approx(high, rel=0.01)
