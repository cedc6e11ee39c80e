# SPDX-License-Identifier: Apache-2.0
"""What became of objects that had grown old: from one look at the tracked objects to the next."""

from __future__ import annotations

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.model import Tracked


class Flow:
    """By series, added up since the beginning: bytes that grew old (`come`), old bytes that were
    freed (`gone`), and the variance of both together. Estimates, of samples.

    Each sampled object of s bytes stands for s/p bytes and adds (s/p)^2 to the variance, which is
    that of a Poisson number of objects of which a share p is seen: noise of sampling and of
    demand, as long as objects come and go independently.
    """

    def __init__(self) -> None:
        self.come, self.gone, self.variance = np.zeros(0), np.zeros(0), np.zeros(0)

    def grow(self, count: int) -> None:
        """Makes room for so many series."""
        more = (0, count - len(self.come))
        self.come = np.pad(self.come, more)
        self.gone = np.pad(self.gone, more)
        self.variance = np.pad(self.variance, more)

    def select(self, rows: np.ndarray) -> None:
        """Keeps these series alone, in this order."""
        self.come, self.gone, self.variance = (
            column[rows] for column in (self.come, self.gone, self.variance)
        )


class Old:
    """The tracked objects that were older than `age` seconds at the last look: when each was born,
    the bytes it stands for, and the series it belongs to (per kind of series; negative: none)."""

    def __init__(self, age: float) -> None:
        self.age = age
        self._born = np.zeros(0, np.uint64)
        self._bytes = np.zeros(0)
        self._rows = np.zeros((0, 0), np.int32)

    def select(self, tracked: Tracked) -> np.ndarray:
        """Positions of those that are old now, by time of birth."""
        limit = tracked.now_ns - round(self.age * 1e9)
        found = np.flatnonzero(tracked.born_ns.astype(np.int64) <= limit)
        return found[np.argsort(tracked.born_ns[found], kind="stable")]

    def look(self, tracked: Tracked, chosen: np.ndarray, rows: np.ndarray, flow: Flow) -> None:
        """Adds what changed since the last look to `flow`. `chosen` comes from select(), `rows`
        are the series of these, (kinds, objects). Two objects born in the same nanosecond are
        taken for one, which costs nothing but one of their frees."""
        born = tracked.born_ns[chosen]
        size = tracked.bytes[chosen].astype(float)
        stands_for = size / probability(size, tracked.interval[chosen])
        known = _among(born, self._born)
        gone = ~_among(self._born, born)
        count = len(flow.come)
        if len(self._born):
            for kind in self._rows:
                _add(flow.gone, flow.variance, kind[gone], self._bytes[gone], count)
        for kind in rows:
            _add(flow.come, flow.variance, kind[~known], stands_for[~known], count)
        self._born, self._bytes, self._rows = born, stands_for, rows.astype(np.int32)

    def renumber(self, new: np.ndarray) -> None:
        """Series get new numbers: `new` by old number, negative for those that go."""
        if self._rows.size:
            self._rows = np.where(self._rows >= 0, new[self._rows], -1).astype(np.int32)


def _among(wanted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Which of `wanted` are in `present`, which is sorted."""
    if not len(present):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(present, wanted), len(present) - 1)
    return np.asarray(present[at] == wanted)


def _add(
    total: np.ndarray, variance: np.ndarray, rows: np.ndarray, size: np.ndarray, count: int
) -> None:
    inside = rows >= 0
    total += np.bincount(rows[inside], size[inside], count)
    variance += np.bincount(rows[inside], size[inside] ** 2, count)
