# SPDX-License-Identifier: Apache-2.0
"""Leaks in rare batches: one a night, or with each suspend. Each block of a window needs some
growth for a test of its mean; here a few large steps are all there is, and none is taken back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import F64, I64, Bool, median
from slabmon.leaks.drift import drawdown, student_quantile95
from slabmon.leaks.series import Stretch

MIN_BATCHES = 6
# So many tracked objects in each, at least: single samples are no batches.
MIN_OBJECTS = 4.0
MIN_SECONDS = 3600.0
_RARE = 1 / 3  # share of all steps in which it may rise
_MOST = 0.9  # of the growth comes in batches
_FREED = 0.1  # share of the growth that may be freed
_APART = 3.0  # a batch is at most so many times as large as the median one, and at least one such
_LATE = 2.5  # the next batch is overdue after so many of the longest intervals


@dataclass(frozen=True)
class Batches:
    """`count` batches of about `size` bytes, one every `every` seconds: `rate` is bytes per second
    with a 95 % interval. `p` is the probability that all stay if each were as likely to be freed
    before the next one as not."""

    count: int
    size: float
    every: float
    rate: float
    low: float
    high: float

    @property
    def p(self) -> float:
        """See Batches."""
        return 0.5**self.count


def find_batches(stretch: Stretch) -> dict[int, Batches]:
    """Return the series that grew in rare batches all of which stay, by row."""
    if stretch.seconds < MIN_SECONDS:
        return {}
    steps = np.diff(stretch.level, axis=0)
    rises = (steps > 0).sum(0)
    grown = stretch.level[-1] - stretch.level[0]
    freed = stretch.gone[-1] - stretch.gone[0]
    candidates = np.flatnonzero(
        (grown > 0)
        & (rises >= MIN_BATCHES)
        & (rises <= _RARE * len(steps))
        & (freed <= _FREED * grown)
        & (np.minimum(steps, 0).sum(0) >= -_FREED * grown)
    )
    found = {row: _batches(stretch, row) for row in candidates.tolist()}
    return {row: batches for row, batches in found.items() if batches is not None}


def _batches(stretch: Stretch, row: int) -> Batches | None:
    level, moments = stretch.level[:, row], stretch.moments
    if drawdown(level) > _FREED * (level[-1] - level[0]):
        return None
    first, last = _clusters(np.diff(level) > 0)
    size = level[last] - level[first]
    variance = stretch.variance[last, row] - stretch.variance[first, row]
    # What comes in between, such as an object that grows old late, is no batch.
    large = size * _APART * _APART >= median(size[size >= size.max() / _APART])
    first, last, size, variance = first[large], last[large], size[large], variance[large]
    count, middle = len(size), median(size)
    alike = middle / _APART <= size.min() and size.max() <= middle * _APART
    objects = size**2 / np.maximum(variance, 1e-9)
    if count < MIN_BATCHES or not alike or objects.min() < MIN_OBJECTS:
        return None
    if size.sum() < _MOST * (level[-1] - level[0]):
        return None
    times = moments[last]
    intervals = np.diff(times)
    if moments[-1] - times[-1] > _LATE * intervals.max():
        return None
    return _paced(size, intervals)


def _clusters(rising: Bool) -> tuple[I64, I64]:
    """Return the points between which each run of rises lies: objects of one batch can grow old at
    two points."""
    padded = np.concatenate([[False], rising, [False]])
    return np.flatnonzero(~padded[:-1] & padded[1:]), np.flatnonzero(padded[:-1] & ~padded[1:])


def _paced(size: F64, intervals: F64) -> Batches:
    """Return the rate: that of the batches after the first by the time they took, with the error of
    a ratio (Cochran, Sampling Techniques, section 6.4)."""
    every, later = float(intervals.mean()), size[1:]
    rate = float(later.sum() / intervals.sum())
    scatter = float((later - rate * intervals).std(ddof=1))
    margin = student_quantile95(len(later) - 1) * scatter / np.sqrt(len(later)) / every
    # A rate of regular batches is not known more precisely than their number allows.
    margin = max(float(margin), rate / len(size) / 2)
    return Batches(
        count=len(size),
        size=median(size),
        every=every,
        rate=rate,
        low=max(0.0, rate - margin),
        high=rate + margin,
    )
