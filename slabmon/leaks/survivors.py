# SPDX-License-Identifier: Apache-2.0
"""Follow tracked objects that have grown old from one snapshot to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.arrays import F64, I32, I64, U64, contained
from slabmon.leaks.finding import MEMBERSHIPS
from slabmon.model import Tracked

KINDS = len(MEMBERSHIPS)  # of series that an object belongs to


@dataclass
class AgedFlow:
    """Totals per series since the beginning: bytes that grew old (`come`), old bytes that were
    freed (`gone`), and the variance of both together, each of shape (series,).

    These are estimates: a sampled object of s bytes represents s/p bytes and adds (s/p)^2 to the
    variance, which is that of a Poisson number of objects of which a share p is sampled. It covers
    the noise of sampling and of demand, as long as objects come and go independently.
    """

    come: F64 = field(default_factory=lambda: np.zeros(0))
    gone: F64 = field(default_factory=lambda: np.zeros(0))
    variance: F64 = field(default_factory=lambda: np.zeros(0))

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


@dataclass
class AgedObjects:
    """The tracked objects that were older than `age` seconds in the last snapshot, by time of
    birth: that time, bytes represented, each of shape (objects,), and the series that each belongs
    to, (KINDS, objects); negative: none."""

    age: float
    born: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    represented: F64 = field(default_factory=lambda: np.zeros(0))
    rows: I32 = field(default_factory=lambda: np.zeros((KINDS, 0), np.int32))

    def select(self, tracked: Tracked) -> I64:
        """Return the positions of the objects that are old now, by time of birth."""
        limit = tracked.now_ns - round(self.age * 1e9)
        positions = np.flatnonzero(tracked.born_ns.astype(np.int64) <= limit)
        return positions[np.argsort(tracked.born_ns[positions], kind="stable")]

    def advance(self, tracked: Tracked, positions: I64, rows: I32, flow: AgedFlow) -> None:
        """Add what changed since the last snapshot to `flow`.

        `positions` come from select(); `rows` (kinds, objects) are the series of these objects. Two
        objects born in the same nanosecond are taken for one, which costs one of their frees.
        """
        born = tracked.born_ns[positions]
        size = tracked.bytes[positions].astype(float)
        represented = size / probability(size, tracked.interval[positions])
        known = contained(born, self.born)
        gone = ~contained(self.born, born)
        count = len(flow.come)
        if len(self.born):
            for series in self.rows:
                _add(flow.gone, flow.variance, series[gone], self.represented[gone], count)
        for series in rows:
            _add(flow.come, flow.variance, series[~known], represented[~known], count)
        self.born, self.represented, self.rows = born, represented, rows

    def renumber(self, new: I64) -> None:
        """Renumber the series: `new` is the number by old number, negative if dropped."""
        if self.rows.size:
            self.rows = np.append(new, -1).astype(np.int32)[self.rows]  # -1 stays -1


def _add(total: F64, variance: F64, rows: I64 | I32, size: F64, count: int) -> None:
    inside = rows >= 0
    total += np.bincount(rows[inside], size[inside], count)
    variance += np.bincount(rows[inside], size[inside] ** 2, count)
