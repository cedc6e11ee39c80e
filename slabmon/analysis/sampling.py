# SPDX-License-Identifier: Apache-2.0
"""Estimates from Poisson-sampled allocations.

An allocation of s bytes is sampled with probability p = 1 - exp(-s / R), R the mean number of
bytes between sample points (tcmalloc design notes, "sampling"; Go runtime/mprof.go,
scaleHeapSample). Totals are Horvitz-Thompson estimates: each sample counts 1/p objects, with
variance estimate (1 - p) / p^2 (Horvitz and Thompson, JASA 47, 1952).
"""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import F64, I64, U32
from slabmon.model import Live

_NOTHING = Live()
_Z975 = 1.959963984540054  # standard normal quantile


def probability(size: F64, interval: U32) -> F64:
    """Return the probability that an allocation of `size` bytes was sampled at a mean `interval` of
    bytes, elementwise. Interval 0 means certainty."""
    certain = interval == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        p = -np.expm1(-size / np.where(certain, 1, interval))
    return np.where(certain, 1.0, p)


def chi2_quantile(z: float, degrees: F64) -> F64:
    """Return the quantile of the chi-squared distribution at the standard normal quantile z.

    Wilson and Hilferty, PNAS 17, 1931: (chi2/k)^(1/3) is nearly normal with mean 1 - 2/(9k) and
    variance 2/(9k). For k >= 2 the upper 97.5 % point is within 1 %; the lower one is too low for
    small k, which makes an interval wider, never narrower.
    """
    c = 2 / (9 * degrees)
    root = np.maximum(0.0, 1 - c + z * np.sqrt(c))
    return np.asarray(degrees * (root * root * root))  # far faster than a power


def interval95(total: F64, variance: F64, largest: F64) -> tuple[F64, F64]:
    """Return 95 % confidence intervals of weighted sums of Poisson counts, elementwise.

    Fay and Feuer, Statistics in Medicine 16, 1997 (the gamma interval): conservative, and valid for
    few samples or none, where plus or minus two standard errors is not. `largest` is the most that
    one sample can contribute; 0 means that everything is certain, and the interval is the value
    itself. Units are those of `total`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = variance / (2 * total) * chi2_quantile(-_Z975, 2 * total * total / variance)
        upper, spread = total + largest, variance + largest * largest
        high = spread / (2 * upper) * chi2_quantile(_Z975, 2 * upper * upper / spread)
    return np.where(variance > 0, low, total), np.where(largest > 0, high, total)


def unseen(interval: int, allocated: int) -> Live:
    """Return the estimate for a group without samples, in bytes: 0, and with 97.5 % confidence no
    more than 3.7 intervals, nor more than was ever allocated."""
    _, high = interval95(np.zeros(1), np.zeros(1), np.full(1, float(interval)))
    return Live(high_bytes=min(round(float(high[0])), allocated))


def certain(live: Live | None) -> Live:
    """Return the estimate for objects that are tracked at any sampling interval, as exact."""
    return live._replace(low_bytes=live.bytes, high_bytes=live.bytes) if live else _NOTHING


def bounded(live: Live | None, interval: int, allocated: int) -> Live:
    """Return an estimate limited to the bytes ever allocated, which brings it nearer to the truth
    whatever that is. Without samples the upper bound is what can go unseen at this sampling
    interval (0: nothing)."""
    if live is None:
        return unseen(interval, allocated) if interval and allocated else _NOTHING
    objects, size, stderr, low, high = live
    if high <= allocated:
        return live
    if size > allocated:
        objects, size, low = round(objects * allocated / size), allocated, min(low, allocated)
    return Live(objects, size, stderr, low, allocated)


class Grouped:
    """Live estimates of tracked objects, by a group number per object.

    `sizes` and `intervals` (objects,) are bytes; `interval` is the current sampling interval
    (0: exact mode), since groups without a sample can still hold objects.
    """

    def __init__(self, sizes: U32, intervals: U32, interval: int = 0) -> None:
        self._sizes = sizes.astype(float)
        p = probability(self._sizes, intervals)
        self._objects = 1 / p
        self._bytes = self._sizes / p
        self._deviation = np.sqrt(1 - p) / p * self._sizes
        self._uncertain = np.where(p < 1, self._bytes, 0.0)
        # The most that one sample contributes, however small its object: s / p tends to R.
        self._largest = float(max(interval, intervals.max(initial=0)))

    def by(self, groups: I64, count: int) -> list[Live]:
        """Return one Live per group 0 .. count-1. `groups` (objects,) holds no negative numbers."""
        objects = np.bincount(groups, self._objects, count)
        total = np.bincount(groups, self._bytes, count)
        uncertain = np.asarray(np.bincount(groups, self._uncertain, count), float)
        variance = np.asarray(np.bincount(groups, self._deviation**2, count), float)
        low, high = interval95(uncertain, variance, np.full(count, self._largest))
        certain = total - uncertain
        columns = (objects, total, np.sqrt(variance), certain + low, certain + high)
        whole = (np.rint(column).astype(np.int64).tolist() for column in columns)
        return list(map(Live._make, zip(*whole, strict=True)))
