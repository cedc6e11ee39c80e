# SPDX-License-Identifier: Apache-2.0
"""The weight of each tracked object, in whole bytes and objects that add up to the snapshot's
figures."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.arrays import F64, I64
from slabmon.model import Snapshot


class Part(NamedTuple):
    """Some tracked objects of one snapshot, by index, and their weights.

    `bytes` and `objects` are what each stands for (analysis/sampling.py), negative for an object
    that is gone; `variance` is that of the estimate, in bytes squared.
    """

    snapshot: Snapshot
    object_ids: I64  # (objects,), as the others
    bytes: I64
    objects: I64
    variance: F64


def whole(values: F64, groups: I64, totals: F64) -> I64:
    """Round values so that those of group g sum to totals[g].

    Each is within 1 of its value, except the last of its group. Before rounding, the values must
    add up to the totals to within rounding errors. `values` and `groups` have shape (objects,).
    """
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
    rounded = np.empty(len(values), np.int64)
    rounded[order] = np.diff(running, prepend=0.0) + np.where(first, np.roll(running, 1), 0)
    rounded[order[0]] = running[0]
    return rounded


Key = tuple[int, ...]


def _missing(keys: list[Key], others: list[Key]) -> I64:
    """Return the indices of `keys` minus `others`, as multisets."""
    unmatched = Counter(others)
    indices = []
    for index, key in enumerate(keys):
        if unmatched[key]:
            unmatched[key] -= 1
        else:
            indices.append(index)
    return np.array(indices, np.int64)


class _Estimate:
    """The estimate for every tracked object of a snapshot; `names` numbers the caches."""

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

    def totals(self, values: F64) -> F64:
        """Return sums by cache, rounded as the snapshot's are. Shapes (objects,) and (caches,)."""
        return np.rint(np.bincount(self.group, values, len(self._names)))

    def keys(self) -> list[Key]:
        """Return what identifies each object; objects with the same key are interchangeable."""
        tracked = self.snapshot.tracked
        columns = (tracked.born_ns, tracked.bytes, tracked.interval, self.group)
        return list(zip(*(column.tolist() for column in columns), strict=True))


def live(snapshot: Snapshot) -> list[Part]:
    """Return all tracked objects. Their sums by cache are the snapshot's live figures."""
    estimate = _Estimate(snapshot, {})
    size, objects = (
        whole(values, estimate.group, estimate.totals(values))
        for values in (estimate.bytes, estimate.objects)
    )
    return [Part(snapshot, np.arange(len(estimate.group)), size, objects, estimate.variance)]


def changed(before: Snapshot, after: Snapshot) -> list[Part]:
    """Return the objects live at only one of two moments of a tracking session.

    Their sums by cache are the differences of the snapshots' live figures. Objects live at both
    moments cancel out, and so does their sampling error.
    """
    names: dict[str, int] = {}
    ends = [_Estimate(before, names), _Estimate(after, names)]
    then_keys, now_keys = (end.keys() for end in ends)
    gone, added = _missing(then_keys, now_keys), _missing(now_keys, then_keys)
    group = np.concatenate((ends[0].group[gone], ends[1].group[added]))
    columns = []
    for name in ("bytes", "objects"):
        then, now = (getattr(end, name) for end in ends)
        values = np.concatenate((-then[gone], now[added]))
        columns.append(whole(values, group, ends[1].totals(now) - ends[0].totals(then)))
    size, objects = columns
    split = len(gone)
    return [
        Part(before, gone, size[:split], objects[:split], ends[0].variance[gone]),
        Part(after, added, size[split:], objects[split:], ends[1].variance[added]),
    ]
