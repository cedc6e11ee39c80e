# SPDX-License-Identifier: Apache-2.0
"""Which structs lie where in objects, each to be followed once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, Values, distinct

_STRUCT_BITS, _PLACE_BITS = 26, 12  # of a part; offsets count words, and end at 32 KiB
_PLACES = (1 << _PLACE_BITS) - 1


class PartRows(NamedTuple):
    """Structs in subjects: the subject, the offset of the struct in it, the struct."""

    owner: I64
    offset: I64
    struct: I64


class Parts:
    """Known structs in those of `count` subjects that point to others, whole ones and parts, each
    once."""

    def __init__(self, count: int, sources: Values) -> None:
        self._points = np.zeros(count, bool)
        self._points[sources] = True
        self._known = np.zeros(0, np.uint64)
        self._fresh: list[U64] = []

    def add(self, owners: I64, offsets: I64, struct: int) -> None:
        """Add a struct in these subjects, at these offsets."""
        chosen = self._points[owners]
        owners, offsets = owners[chosen], offsets[chosen]
        if len(owners):
            packed = (owners << _PLACE_BITS | np.minimum(offsets // 8, _PLACES)) << _STRUCT_BITS
            self._fresh.append(packed.astype(np.uint64) | np.uint64(struct))

    def take(self) -> PartRows:
        """Return those that were added since the last call, and not before."""
        fresh = distinct(np.concatenate([np.zeros(0, np.uint64), *self._fresh]))
        self._fresh.clear()
        place = np.minimum(np.searchsorted(self._known, fresh), max(len(self._known) - 1, 0))
        if len(self._known):
            fresh = fresh[self._known[place] != fresh]
        self._known = np.sort(np.concatenate([self._known, fresh]))
        place = fresh >> np.uint64(_STRUCT_BITS)
        return PartRows(
            owner=(place >> np.uint64(_PLACE_BITS)).astype(np.int64),
            offset=(place & np.uint64(_PLACES)).astype(np.int64) * 8,
            struct=(fresh & np.uint64((1 << _STRUCT_BITS) - 1)).astype(np.int64),
        )
