# SPDX-License-Identifier: Apache-2.0
"""Follow tracked objects that have grown old from one snapshot to the next."""

from __future__ import annotations

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.arrays import F64, I32, I64, U64, Bool
from slabmon.model import Tracked


class AgedFlow:
    """Totals per series since the beginning: bytes that grew old (`come`), old bytes that were
    freed (`gone`), and the variance of both together, each of shape (series,).

    These are estimates: a sampled object of s bytes represents s/p bytes and adds (s/p)^2 to the
    variance, which is that of a Poisson number of objects of which a share p is sampled. It covers
    the noise of sampling and of demand, as long as objects come and go independently.
    """

    def __init__(self) -> None:
        self.come, self.gone, self.variance = np.zeros(0), np.zeros(0), np.zeros(0)

    def grow(self, count: int) -> None:
        """Extend to `count` series."""
        more = (0, count - len(self.come))
        self.come = np.pad(self.come, more)
        self.gone = np.pad(self.gone, more)
        self.variance = np.pad(self.variance, more)

    def select(self, rows: I64) -> None:
        """Keep only these series, in this order."""
        self.come, self.gone, self.variance = (
            column[rows] for column in (self.come, self.gone, self.variance)
        )


class AgedObjects:
    """The tracked objects that were older than `age` seconds in the last snapshot: time of birth,
    bytes represented, and the series each belongs to (one per kind of series; negative: none)."""

    def __init__(self, age: float) -> None:
        self.age = age
        self._born: U64 = np.zeros(0, np.uint64)  # (objects,)
        self._bytes: F64 = np.zeros(0)  # (objects,)
        self._rows: I32 = np.zeros((0, 0), np.int32)  # (kinds, objects)

    def select(self, tracked: Tracked) -> I64:
        """Return the positions of the objects that are old now, by time of birth."""
        limit = tracked.now_ns - round(self.age * 1e9)
        positions = np.flatnonzero(tracked.born_ns.astype(np.int64) <= limit)
        return positions[np.argsort(tracked.born_ns[positions], kind="stable")]

    def advance(self, tracked: Tracked, positions: I64, rows: I64, flow: AgedFlow) -> None:
        """Add what changed since the last snapshot to `flow`.

        `positions` come from select(); `rows` (kinds, objects) are the series of these objects. Two
        objects born in the same nanosecond are taken for one, which costs one of their frees.
        """
        born = tracked.born_ns[positions]
        size = tracked.bytes[positions].astype(float)
        represented = size / probability(size, tracked.interval[positions])
        known = _contained(born, self._born)
        gone = ~_contained(self._born, born)
        count = len(flow.come)
        if len(self._born):
            for series in self._rows:
                _add(flow.gone, flow.variance, series[gone], self._bytes[gone], count)
        for series in rows:
            _add(flow.come, flow.variance, series[~known], represented[~known], count)
        self._born, self._bytes, self._rows = born, represented, rows.astype(np.int32)

    def renumber(self, new: I64) -> None:
        """Renumber the series: `new` is the number by old number, negative if dropped."""
        if self._rows.size:
            self._rows = np.where(self._rows >= 0, new[self._rows], -1).astype(np.int32)


def _contained(values: U64, ascending: U64) -> Bool:
    """Return which of `values` are among `ascending`."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    positions = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[positions] == values)


def _add(total: F64, variance: F64, rows: I64 | I32, size: F64, count: int) -> None:
    inside = rows >= 0
    total += np.bincount(rows[inside], size[inside], count)
    variance += np.bincount(rows[inside], size[inside] ** 2, count)
