# SPDX-License-Identifier: Apache-2.0
"""Words in sheaves (struct slab_sheaf, mm/slub.c, 6.18+) that are no references: the objects in a
sheaf are free, and addresses stay behind them of objects that were taken from it."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.caches import Caches
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory


class Sheaves:
    """Tells which objects are sheaves: they point to a cache that has some, and are of its size."""

    def __init__(self, layout: Layout, caches: Caches) -> None:
        used = caches.cpu_sheaves != 0
        exist = layout.has("sheaf.cache", "sheaf.objects") and bool(used.any())
        self._owner = layout["sheaf.cache"] if exist else 0
        self._first = layout["sheaf.objects"] if exist else 0
        self._caches = caches.address[used] if exist else np.zeros(0, np.uint64)
        self._needed = self._first + 8 * caches.sheaf_capacity[used]

    def clear(self, words: U64, length: int) -> None:
        """Set the words of sheaves to 0 from their first object on. `words` are rows of objects of
        `length` bytes, or the beginning of longer ones."""
        if len(self._caches) and length >= self._first:
            sheaves = self._are(words[:, self._owner // 8], np.int64(length))
            words[sheaves, self._first // 8 :] = 0

    def hold(self, memory: Memory, starts: U64, lengths: I64, offsets: U64) -> Bool:
        """Return which objects, of these lengths in bytes, are sheaves, and the word at this offset
        an object in it or one left behind."""
        held = np.zeros(len(starts), bool)
        if len(self._caches):
            behind = np.flatnonzero(offsets >= np.uint64(self._first))
            owners = memory.words(starts[behind] + np.uint64(self._owner))
            held[behind] = self._are(owners, lengths[behind])
        return held

    def _are(self, owners: U64, lengths: I64 | np.int64) -> Bool:
        number = np.minimum(np.searchsorted(self._caches, owners), len(self._caches) - 1)
        needed = self._needed[number]
        sheaves: Bool = (self._caches[number] == owners) & (needed <= lengths)
        sheaves &= lengths < 2 * needed
        return sheaves
