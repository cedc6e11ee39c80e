# SPDX-License-Identifier: Apache-2.0
"""The pace at which an amount of memory grows, from its levels at moments that need not be evenly
spaced.

Increments are modelled as independent with a variance in proportion to the time they cover, those
of a random walk with drift. Divided by the square root of that time they are a regression through
the origin, of which the drift is the slope.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import F64
from slabmon.leaks.drift import student_quantile95, student_tail


class Pace(NamedTuple):
    """Bytes per second with a 95 % interval, and the probability of such growth by chance: that of
    Student's test whether the mean increment is positive."""

    rate: float
    low: float
    high: float
    p: float


class Trend(NamedTuple):
    """By how much the pace changes from the beginning to the end, as a share of its mean, and how
    many standard errors that is; both are negative where growth declines."""

    change: float
    errors: float


def pace(moments: F64, levels: F64) -> Pace:
    """Return the pace of growth; at least two increments."""
    seconds = np.diff(moments)
    steps = np.diff(levels)
    span = float(seconds.sum())
    rate = float(steps.sum()) / span
    scatter = float((np.square(steps - rate * seconds) / seconds).sum()) / (len(steps) - 1)
    error = math.sqrt(scatter / span)
    if error == 0.0:
        return Pace(rate, rate, rate, 0.0 if rate > 0 else 1.0)
    degrees = len(steps) - 1
    margin = student_quantile95(degrees) * error
    p = float(student_tail(np.array(rate / error), degrees))
    return Pace(rate, rate - margin, rate + margin, p)


def trend(moments: F64, levels: F64) -> Trend:
    """Return how the pace of an amount that has grown changes: least squares on the pace of each
    increment, weighted by its duration; at least three increments."""
    seconds = np.diff(moments)
    rates = np.diff(levels) / seconds
    middle = (moments[1:] + moments[:-1]) / 2
    middle = middle - float(np.average(middle, weights=seconds))
    mean = float(np.average(rates, weights=seconds))
    spread = float(seconds @ np.square(middle))
    slope = float(seconds @ (middle * rates)) / spread
    residual = rates - mean - slope * middle
    error = math.sqrt(float(seconds @ np.square(residual)) / (len(rates) - 2) / spread)
    change = slope * float(seconds.sum()) / mean
    return Trend(change, slope / error if error > 0 else math.copysign(math.inf, slope))
