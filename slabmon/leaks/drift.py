# SPDX-License-Identifier: Apache-2.0
"""Is there drift? Statistics of series that grow by increments.

What is live is a sum of increments (allocations that stay, minus frees), so that its level at one
moment depends on that at the moment before. Tests for a trend of levels, Mann-Kendall's among
them, need independent errors and find trends where there are none (Hamed and Rao, J. Hydrology
204, 1998; Durlauf and Phillips, Econometrica 56, 1988). We test whether the mean of the increments
is positive. Series are columns: an array is (moments, series).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

BLOCKS = 24
MIN_BLOCKS = 12
_STEADY = 6  # blocks that a pace is told from, at least
_CHANGE = 0.01  # chance of seeing a change of pace where there is none
_erfc = np.frompyfunc(math.erfc, 1, 1)


def normal_tail(z: np.ndarray) -> np.ndarray:
    """Probability that a standard normal variable exceeds z."""
    return np.asarray(_erfc(np.asarray(z) / math.sqrt(2)), float) / 2


def student_tail(t: np.ndarray, degrees: float) -> np.ndarray:
    """Probability that Student's t exceeds t, by Wallace's normal approximation (Annals of
    Mathematical Statistics 30, 1959): for 11 degrees and more never too small, and at
    most 17 % too large down to 1e-8."""
    factor = (8 * degrees + 1) / (8 * degrees + 3)
    with np.errstate(over="ignore"):
        z = factor * np.sqrt(degrees * np.log1p(np.square(t) / degrees))
    return normal_tail(np.copysign(z, t))


def student_quantile95(degrees: float) -> float:
    """The 97.5 % point of Student's t: the expansion of Cornish and Fisher in 1/degrees."""
    z = 1.959963985
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def blocks(values: np.ndarray) -> np.ndarray:
    """Levels at the borders of at most BLOCKS stretches with equally many moments each, up to the
    last moment: (borders, series)."""
    intervals = len(values) - 1
    every = -(-intervals // BLOCKS)
    return values[::-1][: intervals // every * every + 1 : every][::-1]


class Drift(NamedTuple):
    """By series: growth per block, its standard error, and the chance `p` of such growth where
    there is none: by the blocks' own scatter (Student), and by `variance`, that of the growth of
    all blocks together (normal); the larger of both."""

    mean: np.ndarray
    error: np.ndarray
    p: np.ndarray


def drift(levels: np.ndarray, variance: np.ndarray) -> Drift:
    """Drift of levels at the borders of blocks. Student's test asks for no model of demand, so
    that objects that come and go in batches do not count as many; one block that stands out makes
    the scatter large and the test fail, as it is to."""
    steps = np.diff(levels, axis=0)
    count = len(steps)
    mean = steps.mean(0)
    error = steps.std(0, ddof=1) / math.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / error)
        z = np.where(variance > 0, mean * count / np.sqrt(variance), t)
    return Drift(mean, error, np.maximum(student_tail(t, count - 1), normal_tail(z)))


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p (J. Royal Statistical Society B 57, 1995): taking those
    below q keeps the expected share of false ones below q. That holds for series that depend on
    each other positively, as a site, its cache and its module do (Benjamini and Yekutieli, Annals
    of Statistics 29, 2001)."""
    order = np.argsort(p)[::-1]
    ranks = np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.minimum.accumulate(np.minimum(1.0, p[order] * len(p) / ranks))
    return found


def theil_sen(levels: np.ndarray) -> float:
    """Median of the slopes between all pairs of levels, per block (Sen, J. American Statistical
    Association 63, 1968): one burst does not move it."""
    first, second = np.triu_indices(len(levels), 1)
    return float(np.median((levels[second] - levels[first]) / (second - first)))


class Pace(NamedTuple):
    """Growth per block from block `first` on, with a 95 % interval."""

    first: int
    growth: float
    low: float
    high: float


def pace(levels: np.ndarray, grain: float) -> Pace:
    """Pace since it last changed: the interval is Student's for the mean, widened to hold the
    median slope, and by `grain`, the least by which levels rise: what comes one by one at
    regular times differs by up to one from its pace times the time, however little it scatters."""
    first = last_change(np.diff(levels))
    part = levels[first:]
    steps = np.diff(part)
    slope, mean = theil_sen(part), float(steps.mean())
    error = float(steps.std(ddof=1)) / math.sqrt(len(steps))
    margin = max(student_quantile95(len(steps) - 1) * error, grain / len(steps))
    return Pace(first, slope, min(slope, max(0.0, mean - margin)), max(slope, mean + margin))


def last_change(steps: np.ndarray) -> int:
    """The block after which the mean increment changes no more, 0 if it never does. Where two
    means leave least scatter it is split (Worsley, J. American Statistical Association 74, 1979),
    if Student's test, times the number of places it may be split at (Bonferroni), tells them
    apart; and the later part again. The first block after a change began before it."""
    count = len(steps)
    places = np.arange(1, count - _STEADY)
    if len(places) == 0:
        return 0
    before = np.cumsum(steps)[places - 1]
    apart = (steps.sum() - before) / (count - places) - before / places
    between = places * (count - places) / count * apart**2
    best = int(np.argmax(between))
    within = max(0.0, float(np.square(steps - steps.mean()).sum() - between[best]))
    if between[best] <= 0:
        return 0
    with np.errstate(divide="ignore"):
        t = np.sqrt(between[best] / (np.float64(within) / (count - 2)))
    if 2 * len(places) * float(student_tail(t, count - 2)) > _CHANGE:
        return 0
    first = int(places[best]) + 1
    return first + last_change(steps[first:])


def decline(levels: np.ndarray) -> tuple[float, float]:
    """By how much growth per block falls from the first to the last block, as a share of its
    mean, and how many standard errors that is: least squares on the increments."""
    steps = np.diff(levels)
    at = np.arange(len(steps)) - (len(steps) - 1) / 2
    slope = float(at @ steps / (at @ at))
    rest = steps - steps.mean() - slope * at
    error = math.sqrt(float(rest @ rest) / (len(steps) - 2) / float(at @ at))
    mean = float(steps.mean())
    if mean <= 0:
        return 0.0, 0.0
    return -slope * len(steps) / mean, -slope / error if error > 0 else 0.0


def drawdown(levels: np.ndarray) -> float:
    """The largest fall from a level to a later one."""
    return float(np.max(np.maximum.accumulate(levels) - levels, initial=0.0))
