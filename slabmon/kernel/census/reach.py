# SPDX-License-Identifier: Apache-2.0
"""Which objects are reached from the memory that the kernel owns outside slabs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slabmon.base.arrays import I32, I64, U64, Bool
from slabmon.kernel.census import kernel_pages
from slabmon.kernel.census.contents import UNIT, UNITS_PER_PAGE, unit_addresses
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import WINDOW_BYTES, Memory
from slabmon.kernel.census.reading import Reading

_OBJECTS = 1 << 17  # whose addresses are computed at once
_PIECE = WINDOW_BYTES // UNIT  # units read at once: a window full


class Tracer:
    """Follows references from one object to another, and to objects from outside the heap."""

    def __init__(self, memory: Memory, layout: Layout, reading: Reading, heap: Heap) -> None:
        self._memory = memory
        self._layout = layout
        self._reading = reading
        self.heap = heap

    def from_outside(self) -> Bool:
        """Return which objects the memory outside slabs refers to."""
        reached = np.zeros(len(self.heap), bool)
        for units in self._outside():
            for words, _ in self._words(units):
                _, objects = self.heap.references(words.reshape(-1))
                reached[objects] = True
        return reached

    def from_objects(self, targets: Bool) -> Bool:
        """Return which of these objects others that are in use and none of them refer to."""
        reached = np.zeros(len(self.heap), bool)
        for words, units in self._words(self.heap.units()):
            places, objects = self.heap.references(words)
            places, objects = places[targets[objects]], objects[targets[objects]]
            addresses = self.heap.places(units, places)
            holders = self.heap.find(addresses)
            valid = (holders != NONE) & self.heap.in_use[holders] & ~targets[holders]
            objects, holders, addresses = objects[valid], holders[valid], addresses[valid]
            stale = self.heap.left_behind(self._memory, holders, addresses)
            reached[objects[~stale]] = True
        return reached

    def follow(self, reached: Bool, among: Bool) -> None:
        """Mark as reached which of these objects the reached ones refer to, and what these do."""
        wanted = among & ~reached
        place = np.zeros(len(reached), np.int32)
        waiting = [np.flatnonzero(reached & among)]
        while waiting:
            fresh = np.concatenate(waiting)
            waiting = []
            for start in range(0, len(fresh), _OBJECTS):
                part = fresh[start : start + _OBJECTS]
                for _, words in self.heap.contents(self._memory, part):
                    _, objects = self.heap.references(words.reshape(-1))
                    objects = objects[wanted[objects]]
                    if len(objects):
                        waiting.append(_distinct(objects, place))
                        wanted[waiting[-1]] = False
        np.logical_or(reached, among & ~wanted, out=reached)

    def _outside(self) -> Iterator[I64]:
        """Yield units of memory outside slabs, about a window full at a time."""
        buffers = self._memory.own_pages()
        for pages in kernel_pages.find(self._memory, self._layout, self._reading):
            pages = pages[~np.isin(pages, buffers)]
            units = pages[:, None] * UNITS_PER_PAGE + np.arange(UNITS_PER_PAGE)
            yield units.reshape(-1)

    def _words(self, units: I64) -> Iterator[tuple[U64, I64]]:
        for start in range(0, len(units), _PIECE):
            part = units[start : start + _PIECE]
            addresses = unit_addresses(self._reading.direct_map, part)
            yield self._memory.gather(addresses, UNIT).view(np.uint64).reshape(-1), part


def _distinct(objects: I64, place: I32) -> I64:
    """Return each of these objects once. `place` has an entry, of any value, for every object."""
    numbers = np.arange(len(objects), dtype=np.int32)
    place[objects] = numbers
    distinct: I64 = objects[place[objects] == numbers]
    return distinct
