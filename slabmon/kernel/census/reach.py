# SPDX-License-Identifier: Apache-2.0
"""Which objects are reached from the memory that the kernel owns outside slabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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

    def follow(self, reached: Bool, among: Bool, closed: Bool | None = None) -> None:
        """Mark as reached which of these objects the reached ones refer to, and what these do, but
        not what the closed ones refer to."""
        start = reached & among
        if closed is not None:
            start &= ~closed
        unreached = among & ~reached
        self._spread(np.flatnonzero(start), unreached, closed)
        np.logical_or(reached, among & ~unreached, out=reached)

    def references_among(self, objects: Bool, start: I64) -> tuple[I64, I64]:
        """Return references to these objects that the start and what it leads to among them hold:
        who holds each, and to what."""
        references: list[tuple[I64, I64]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]

        def note(sources: I64, targets: I64) -> None:
            inside = objects[targets]
            references.append((sources[inside], targets[inside]))

        self._spread(start, objects.copy(), note=note)
        sources, targets = zip(*references, strict=True)
        return np.concatenate(sources), np.concatenate(targets)

    def _spread(
        self,
        start: I64,
        unreached: Bool,
        closed: Bool | None = None,
        note: Callable[[I64, I64], None] | None = None,
    ) -> None:
        """Follow references from these objects to unreached ones, which no longer are, and from
        those on unless they are closed; `note` who holds each reference, and to what."""
        place = np.zeros(len(unreached), np.int32)
        waiting = [start]
        while waiting:
            fresh = np.concatenate(waiting)
            waiting = []
            for first in range(0, len(fresh), _OBJECTS):
                part = fresh[first : first + _OBJECTS]
                for numbers, words in self.heap.contents(self._memory, part):
                    places, objects = self.heap.references(words.reshape(-1))
                    if note is not None:
                        note(numbers[places // words.shape[1]], objects)
                    objects = objects[unreached[objects]]
                    if len(objects):
                        reached = _distinct(objects, place)
                        unreached[reached] = False
                        waiting.append(reached if closed is None else reached[~closed[reached]])

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
