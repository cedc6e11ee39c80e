# SPDX-License-Identifier: Apache-2.0
"""Where to look for the structs that are not known: at the objects through which most others are
reached whose structs are not known either, as mdb's ::typegraph names the unknown node of greatest
reach (illumos, usr/src/cmd/mdb/common/modules/genunix/typegraph.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, Bool, Values, distinct
from slabmon.kernel.census.contents import Subjects
from slabmon.kernel.census.evidence import Label, numbered
from slabmon.kernel.census.referrers import Pointers

_CANDIDATES = 16  # groups with the most pointers to others
_MOST_STEPS = 256
_LABEL_BITS = 32


class Widest(NamedTuple):
    """A group of one cache and label, which is contents.NONE if nothing is known, and the others
    that it leads to."""

    cache: int
    label: int
    objects: I64
    reached: I64


def widest(
    subjects: Subjects, between: Pointers, labels: I64, known: Sequence[Label]
) -> Widest | None:
    """Return the group of no known struct that leads to most objects of no known struct; None if
    there is none that leads to any."""
    typed = np.array([bool(label.struct) for label in known] + [False], bool)
    unknown = ~typed[labels]
    rows = np.flatnonzero(unknown[between.target])
    rows = rows[unknown[between.source[rows]]]
    source, target = between.source[rows], between.target[rows]
    group = subjects.cache << _LABEL_BITS | (labels + 1)
    keys, number, _ = numbered(group)
    counts = np.bincount(number.astype(np.int32)[source], minlength=len(keys))
    order = np.argsort(-counts, kind="stable")[:_CANDIDATES]
    candidates = keys[order[counts[order] > 0]]
    best = None
    for key in candidates.tolist():
        objects = np.flatnonzero(unknown & (group == key))
        reached = _reached(len(subjects), source, target, objects)
        if best is None or len(reached) > len(best.reached):
            label = (key & (1 << _LABEL_BITS) - 1) - 1
            best = Widest(key >> _LABEL_BITS, label, objects, reached)
    return best if best is not None and len(best.reached) else None


def _reached(count: int, source: Values, target: Values, objects: I64) -> I64:
    """Return the other nodes that these lead to. `source` is in order."""
    seen: Bool = np.zeros(count, bool)
    seen[objects] = True
    front = objects.astype(source.dtype)  # of another type all of `source` would be converted
    for _ in range(_MOST_STEPS):
        first = np.searchsorted(source, front, side="left")
        counts = np.searchsorted(source, front, side="right") - first
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pointed = target[row + np.repeat(first, counts)]
        front = distinct(pointed[~seen[pointed]])
        if not len(front):
            break
        seen[front] = True
    seen[objects] = False
    return np.flatnonzero(seen)
