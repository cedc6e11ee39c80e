# SPDX-License-Identifier: Apache-2.0
"""Addresses in struct pages of what slabs held that are no longer.

The struct page of a slab points to its first free object (slab.freelist, mm/slab.h). That stays
when its pages are freed, and whatever gets them next seems to be referred to. Pages that are no
slabs have a number in its place (page.index).
"""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import U64, contained, distinct
from slabmon.kernel.census.contents import UNIT
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading

_SAMPLES = 1 << 12
# Above these bits of the flags are zone, node, section and last CPU (page-flags-layout.h).
_HIGH = np.uint64(32)


class StructPages:
    """Finds struct pages among other memory, by the high bits of their flags, of which a host has
    few different ones. Pages in which some are not known are left as they are."""

    def __init__(self, memory: Memory, layout: Layout, reading: Reading) -> None:
        self._size = layout.sizes["page"]
        self._flags, self._freelist = layout["page.flags"] // 8, layout["slab.freelist"] // 8
        step = max(sum(each.end - each.first for each in reading.ranges) // _SAMPLES, 1)
        pages = np.concatenate([np.arange(each.first, each.end, step) for each in reading.ranges])
        places = (pages * self._size + layout["page.flags"]).astype(np.uint64)
        flags = memory.words(np.uint64(reading.vmemmap) + places)
        self._known = distinct(flags >> _HIGH)
        self._known = self._known[self._known != 0]

    def clear(self, words: U64) -> None:
        """Set to 0, in units of memory (contents.UNIT) that hold struct pages, what is in the place
        of slab.freelist."""
        if UNIT % self._size or self._size % 8 or not len(self._known):
            return
        structs = words.reshape(-1, UNIT // self._size, self._size // 8)
        high = structs[:, :, self._flags] >> _HIGH
        found = contained(high.reshape(-1), self._known).reshape(high.shape).all(axis=1)
        structs[found, :, self._freelist] = 0
