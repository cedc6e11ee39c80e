# SPDX-License-Identifier: Apache-2.0
"""Ages of what survives: of tracked objects, by group."""

from __future__ import annotations

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.model import Tracked

_MOST = 0.9
_AGE_BITS = 43
_LONGEST = 2**_AGE_BITS - 1


def survivors(tracked: Tracked, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Per group 0 .. count-1: age of the oldest tracked object, and the age that nine tenths of
    the live objects do not exceed, in seconds (NaN: none tracked).

    A tracked object stands for 1/p objects (analysis/sampling.py). An untracked one can be older.
    `members` holds a group per object, negative for none.
    """
    inside = members >= 0
    group, age = members[inside], tracked.age[inside]
    weight = 1 / probability(tracked.bytes[inside].astype(float), tracked.interval[inside])
    # One sort of whole numbers, by group and then by age up to 100 days in microseconds.
    order = np.argsort(group << _AGE_BITS | np.minimum(age * 1e6, _LONGEST).astype(np.int64))
    group, age = group[order], age[order]
    weights = np.concatenate(([0.0], np.cumsum(weight[order])))
    starts = np.searchsorted(group, np.arange(count))
    ends = np.searchsorted(group, np.arange(count), "right")
    target = weights[starts] + _MOST * (weights[ends] - weights[starts])
    # The first object at which the weight reaches the target, rounding aside.
    tenth = np.clip(np.searchsorted(weights, target * (1 - 1e-12)) - 1, starts, ends - 1)
    some = ends > starts
    oldest, most = np.full(count, np.nan), np.full(count, np.nan)
    oldest[some], most[some] = age[ends[some] - 1], age[tenth[some]]
    return oldest, most
