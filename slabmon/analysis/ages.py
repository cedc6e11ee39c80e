# SPDX-License-Identifier: Apache-2.0
"""Age statistics of live tracked objects, per group."""

from __future__ import annotations

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.arrays import F64, I64
from slabmon.model import Tracked

_SHARE = 0.9
_AGE_BITS = 43
_MAX_AGE = 2**_AGE_BITS - 1


def survivors(tracked: Tracked, members: I64, count: int) -> tuple[F64, F64]:
    """Return two ages in seconds per group 0 .. count-1, each (count,): that of the oldest tracked
    object, and the one that nine tenths of the live objects do not exceed (NaN: none tracked).

    A tracked object represents 1/p objects (analysis/sampling.py). An untracked one can be older.
    `members` (objects,) holds the group of each object, negative for none.
    """
    inside = members >= 0
    group, age = members[inside], tracked.age[inside]
    weight = 1 / probability(tracked.bytes[inside].astype(float), tracked.interval[inside])
    # One sort of integers: by group, then by age in microseconds, up to 100 days.
    order = np.argsort(group << _AGE_BITS | np.minimum(age * 1e6, _MAX_AGE).astype(np.int64))
    group, age = group[order], age[order]
    weights = np.concatenate(([0.0], np.cumsum(weight[order])))
    starts = np.searchsorted(group, np.arange(count))
    ends = np.searchsorted(group, np.arange(count), "right")
    target = weights[starts] + _SHARE * (weights[ends] - weights[starts])
    # The first object at which the weight reaches the target, rounding aside.
    quantile = np.clip(np.searchsorted(weights, target * (1 - 1e-12)) - 1, starts, ends - 1)
    filled = ends > starts
    oldest, ninth_decile = np.full(count, np.nan), np.full(count, np.nan)
    oldest[filled], ninth_decile[filled] = age[ends[filled] - 1], age[quantile[filled]]
    return oldest, ninth_decile
