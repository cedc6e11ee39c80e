# SPDX-License-Identifier: Apache-2.0
"""Drift tests for series that grow by increments.

Live memory is a sum of increments (allocations that survive, minus frees), so each level depends
on the one before. Tests for a trend of levels, Mann-Kendall's among them, need independent errors
and find trends in random walks (Hamed and Rao, J. Hydrology 204, 1998; Durlauf and Phillips,
Econometrica 56, 1988). These functions test whether the mean increment is positive. Series are
columns: an array is (moments, series).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import F64, median

BLOCKS = 24
MIN_BLOCKS = 12
_STEADY = 6  # the fewest blocks that a rate is estimated from
CORRELATION = 0.85  # of what grows in lockstep, from one block to the next
_CHANGE = 0.01  # probability of finding a change of rate where there is none
_erfc = np.frompyfunc(math.erfc, 1, 1)


def normal_tail(z: F64) -> F64:
    """Return the probability that a standard normal variable exceeds z."""
    return np.asarray(_erfc(np.asarray(z) / math.sqrt(2)), float) / 2


def student_tail(t: F64, degrees: float) -> F64:
    """Return the probability that Student's t exceeds t.

    Wallace's normal approximation (Annals of Mathematical Statistics 30, 1959): from 11 degrees of
    freedom on it is never too small, and at most 17 % too large down to 1e-8.
    """
    factor = (8 * degrees + 1) / (8 * degrees + 3)
    with np.errstate(over="ignore"):
        z = factor * np.sqrt(degrees * np.log1p(np.square(t) / degrees))
    return normal_tail(np.copysign(z, t))


def student_quantile95(degrees: float) -> float:
    """Return the 97.5 % point of Student's t, by Cornish and Fisher's expansion in 1/degrees."""
    z = 1.959963985
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def blocks(values: F64) -> F64:
    """Return the levels at the borders of at most BLOCKS blocks of equal length that end with the
    last moment: (borders, series)."""
    intervals = len(values) - 1
    every = -(-intervals // BLOCKS)
    return values[::-1][: intervals // every * every + 1 : every][::-1]


class Drift(NamedTuple):
    """Growth per block, its standard error, and the probability of such growth by chance: the
    larger of Student's, by the scatter of the blocks, and the normal, by the variance given."""

    mean: F64  # (series,)
    error: F64  # (series,)
    p: F64  # (series,)


def drift(levels: F64, variance: F64) -> Drift:
    """Return the drift of `levels` (borders, series) at the borders of blocks. `variance` (series,)
    is that of the growth over all blocks.

    Student's test needs no model of demand: objects that come and go in batches do not count as
    many, and a single block that stands out makes the scatter large and the test fail, as intended.
    """
    steps = np.diff(levels, axis=0)
    count = len(steps)
    mean = steps.mean(0)
    error = steps.std(0, ddof=1) / math.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / error)
        z = np.where(variance > 0, mean * count / np.sqrt(variance), t)
    return Drift(mean, error, np.maximum(student_tail(t, count - 1), normal_tail(z)))


def adjusted(p: F64) -> F64:
    """Return Benjamini and Hochberg's adjusted p (J. Royal Statistical Society B 57, 1995).

    Accepting those below q keeps the expected share of false ones below q. This holds for
    positively dependent series, as a site, its cache and its module are (Benjamini and Yekutieli,
    Annals of Statistics 29, 2001).
    """
    order = np.argsort(p)[::-1]
    ranks = np.arange(len(p), 0, -1)
    result = np.empty(len(p))
    result[order] = np.minimum.accumulate(np.minimum(1.0, p[order] * len(p) / ranks))
    return result


def theil_sen(levels: F64) -> float:
    """Return the median of the slopes between all pairs of levels, per block (Sen, J. American
    Statistical Association 63, 1968). One burst does not move it."""
    first, second = np.triu_indices(len(levels), 1)
    return median((levels[second] - levels[first]) / (second - first))


class GrowthRate(NamedTuple):
    """Growth per block, in bytes, from block `first` on, with a 95 % interval."""

    first: int
    growth: float
    low: float
    high: float


def growth_rate(levels: F64, grain: float) -> GrowthRate:
    """Return the rate since it last changed.

    The interval is Student's for the mean, widened to contain the median slope, and by `grain`, the
    smallest rise in bytes: objects that come one by one at regular times differ by up to one from
    rate times time, however little they scatter.
    """
    first = last_change(np.diff(levels))
    part = levels[first:]
    steps = np.diff(part)
    slope, mean = theil_sen(part), float(steps.mean())
    error = float(steps.std(ddof=1)) / math.sqrt(len(steps))
    margin = max(student_quantile95(len(steps) - 1) * error, grain / len(steps))
    return GrowthRate(first, slope, min(slope, max(0.0, mean - margin)), max(slope, mean + margin))


def last_change(steps: F64) -> int:
    """Return the block after which the mean increment no longer changes; 0 if it never changes."""
    first = largest_change(steps)
    return first + last_change(steps[first:]) if first else 0


def largest_change(steps: F64) -> int:
    """Return the block from which on the mean increment differs most; 0 if it never changes.

    The increments are split where two means leave least scatter (Worsley, J. American Statistical
    Association 74, 1979), if Student's test, corrected for the number of possible splits
    (Bonferroni), separates the means. The first block after a split is left out, since it began
    before the change.
    """
    count = len(steps)
    places = np.arange(1, count - _STEADY)
    if len(places) == 0:
        return 0
    before = np.cumsum(steps)[places - 1]
    difference = (steps.sum() - before) / (count - places) - before / places
    between = places * (count - places) / count * difference**2
    best = int(np.argmax(between))
    within = max(0.0, float(np.square(steps - steps.mean()).sum() - between[best]))
    if between[best] <= 0:
        return 0
    with np.errstate(divide="ignore"):
        t = np.sqrt(between[best] / (np.float64(within) / (count - 2)))
    if 2 * len(places) * float(student_tail(t, count - 2)) > _CHANGE:
        return 0
    return int(places[best]) + 1


def drawdown(levels: F64) -> float:
    """Return the largest fall from a level to a later one."""
    return float(np.max(np.maximum.accumulate(levels) - levels, initial=0.0))


def correlation_chance(steps: F64, others: F64) -> float:
    """Return the probability that independent increments are as correlated, 1 if they are by less
    than CORRELATION, or if one of them does not vary."""
    apart = [steps - steps.mean(), others - others.mean()]
    scale = float(np.sqrt(np.square(apart).sum(1).prod()))
    r = float(apart[0] @ apart[1]) / scale if scale > 0 else 0.0
    if r < CORRELATION:
        return 1.0
    degrees = len(steps) - 2
    t = r * math.sqrt(degrees / max(1e-12, 1 - r * r))
    return float(student_tail(np.array(t), degrees))
