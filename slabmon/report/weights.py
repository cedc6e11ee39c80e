# SPDX-License-Identifier: Apache-2.0
"""What each tracked object counts for, in whole bytes and objects that add up to the snapshot's."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.model import Snapshot


class Part(NamedTuple):
    """Tracked objects of one snapshot: `which` are their numbers, the others hold a value each.

    `bytes` and `objects` are what they stand for (analysis/sampling.py), negative for what is
    gone; `variance` is that of the estimate, in bytes squared.
    """

    snapshot: Snapshot
    which: np.ndarray
    bytes: np.ndarray
    objects: np.ndarray
    variance: np.ndarray


def whole(values: np.ndarray, groups: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Values as whole numbers, each within 1 of itself but for the last of its group: the sum of
    group g is totals[g], to which the values must add up to within a rounding."""
    if not len(values):
        return np.zeros(0, np.int64)
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    first = np.concatenate(([True], sorted_groups[1:] != sorted_groups[:-1]))
    last = np.concatenate((first[1:], [True]))
    running = np.cumsum(values[order])
    before = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    running = np.rint(running - running[before] + values[order][before])
    running[last] = totals[sorted_groups[last]]
    found = np.empty(len(values), np.int64)
    found[order] = np.diff(running, prepend=0.0) + np.where(first, np.roll(running, 1), 0)
    found[order[0]] = running[0]
    return found


Key = tuple[int, ...]


def _missing(mine: list[Key], others: list[Key]) -> np.ndarray:
    """Numbers of those that are not among the others, of equal ones as many as are too many."""
    left = Counter(others)
    found = []
    for number, key in enumerate(mine):
        if left[key]:
            left[key] -= 1
        else:
            found.append(number)
    return np.array(found, int)


class _Estimate:
    """Every tracked object of a snapshot as the estimate counts it, caches numbered by `names`."""

    def __init__(self, snapshot: Snapshot, names: dict[str, int]) -> None:
        tracked = snapshot.tracked
        size = tracked.bytes.astype(float)
        p = probability(size, tracked.interval)
        numbers = [names.setdefault(cache.name, len(names)) for cache in snapshot.caches]
        self.snapshot = snapshot
        self.group = np.array(numbers or [0])[tracked.cache]
        self.objects = 1 / p
        self.bytes = size / p
        self.variance = (1 - p) / p**2 * size**2
        self._names = names

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sums by cache, rounded as those of the snapshot are."""
        return np.rint(np.bincount(self.group, values, len(self._names)))

    def keys(self) -> list[Key]:
        """What tells an object from all that differ from it."""
        tracked = self.snapshot.tracked
        columns = (tracked.born_ns, tracked.bytes, tracked.interval, self.group)
        return list(zip(*(column.tolist() for column in columns), strict=True))


def live(snapshot: Snapshot) -> list[Part]:
    """All tracked objects: sums by cache are the snapshot's live figures."""
    found = _Estimate(snapshot, {})
    size, objects = (
        whole(values, found.group, found.totals(values)) for values in (found.bytes, found.objects)
    )
    return [Part(snapshot, np.arange(len(found.group)), size, objects, found.variance)]


def changed(before: Snapshot, after: Snapshot) -> list[Part]:
    """Objects that are live at one of two moments only: sums by cache are the differences of the
    snapshots' live figures. Objects that are there at both moments cancel out, and with them
    their sampling error. Both of one tracking session."""
    names: dict[str, int] = {}
    ends = [_Estimate(before, names), _Estimate(after, names)]
    keys = [end.keys() for end in ends]
    parts = []
    numbers = []
    for mine, others in zip(keys, reversed(keys), strict=True):
        numbers.append(_missing(mine, others))
    group = np.concatenate([end.group[which] for end, which in zip(ends, numbers, strict=True)])
    columns = []
    for name in ("bytes", "objects"):
        then, now = (getattr(end, name) for end in ends)
        values = np.concatenate((-then[numbers[0]], now[numbers[1]]))
        columns.append(whole(values, group, ends[1].totals(now) - ends[0].totals(then)))
    split = len(numbers[0])
    for end, which, part in zip(ends, numbers, (slice(split), slice(split, None)), strict=True):
        size, objects = (column[part] for column in columns)
        parts.append(Part(end.snapshot, which, size, objects, end.variance[which]))
    return parts
