# SPDX-License-Identifier: Apache-2.0
"""Which objects are reached from the memory that the kernel owns outside slabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from slabmon.base.arrays import I32, I64, U64, Bool, contained
from slabmon.kernel.census import kernel_pages, rcu_pages
from slabmon.kernel.census.contents import UNIT, UNITS_PER_PAGE, unit_addresses
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import WINDOW_BYTES, Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Retainers
from slabmon.kernel.census.stacks import Stacks
from slabmon.kernel.census.struct_pages import StructPages

_OBJECTS = 1 << 17  # whose addresses are computed at once
_PIECE = WINDOW_BYTES // UNIT  # units read at once: a window full


class Tracer:
    """Follows references from one object to another, and to objects from outside the heap.

    `in_io` marks objects that were seen described for a transfer of data, `on_stacks` those that a
    stack refers to: they are no orphans, but who holds them is told by other references.
    `of_retainers` are references from the retainers' memory outside the heap: the retainer of each,
    and the object.
    """

    def __init__(self, memory: Memory, layout: Layout, reading: Reading, heap: Heap) -> None:
        self._memory = memory
        self._layout = layout
        self._reading = reading
        self.heap = heap
        self.in_io = np.zeros(len(heap), bool)
        self.on_stacks = np.zeros(len(heap), bool)
        self.of_retainers = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def from_outside(self, retainers: Retainers | None = None) -> Bool:
        """Return which objects the memory outside slabs refers to. What only stacks refer to is not
        among them: `on_stacks` has it. Nor is what only the retainers' own memory and stacks refer
        to: `of_retainers` has that."""
        reached = np.zeros(len(self.heap), bool)
        theirs: list[tuple[I64, I64]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for words, holder, others in self._outside(retainers, reached):
            places, objects = self._references(words.reshape(-1))
            holders = holder[places // words.shape[1]]
            others[objects[holders == NONE]] = True
            theirs.append((holders[holders != NONE], objects[holders != NONE]))
        holders, objects = (np.concatenate(each) for each in zip(*theirs, strict=True))
        self.of_retainers = holders, objects
        return reached

    def from_objects(self, targets: Bool) -> Bool:
        """Return which of these objects others that are in use and none of them refer to, or
        describe for transfers."""
        reached = np.zeros(len(self.heap), bool)
        for words, units in self._words(self.heap.units()):
            for places, objects in (self.heap.references(words), self.heap.transfers(words)):
                wanted = targets[objects]
                places, objects = places[wanted], objects[wanted]
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
        self._mark(start, reached, among, closed)

    def follow_transfers(self, reached: Bool, among: Bool) -> None:
        """Mark as reached which of these objects are described for transfers, and what these
        lead to."""
        while True:
            start = self.in_io & among & ~reached
            if not start.any():
                return
            reached |= start
            self._mark(start, reached, among)

    def follow_stacks(self, reached: Bool, among: Bool) -> None:
        """Mark as reached which of these objects stacks refer to, and what these lead to."""
        start = self.on_stacks & among & ~reached
        reached |= start
        self._mark(start, reached, among)

    def _mark(self, start: Bool, reached: Bool, among: Bool, closed: Bool | None = None) -> None:
        unreached = among & ~reached
        self._spread(np.flatnonzero(start), unreached, closed)
        np.logical_or(reached, among & ~unreached, out=reached)

    def references_among(self, objects: Bool, start: I64) -> tuple[I64, I64]:
        """Return references to these objects that the start and what it leads to among them hold:
        who holds each, and to what."""
        unreached = objects.copy()
        unreached[start] = False
        references: list[tuple[I64, I64]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]

        def note(sources: I64, targets: I64) -> None:
            inside = objects[targets]
            references.append((sources[inside], targets[inside]))

        self._spread(start, unreached, note=note)
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
                    places, objects = self._references(words.reshape(-1))
                    if note is not None:
                        note(numbers[places // words.shape[1]], objects)
                    objects = objects[unreached[objects]]
                    if len(objects):
                        reached = _distinct(objects, place)
                        unreached[reached] = False
                        waiting.append(reached if closed is None else reached[~closed[reached]])

    def _references(self, words: U64) -> tuple[I64, I64]:
        """Return the places of words that refer to an object, and the objects; mark what
        is described for transfers."""
        self.in_io[self.heap.transfers(words)[1]] = True
        return self.heap.references(words)

    def _outside(
        self, retainers: Retainers | None, reached: Bool
    ) -> Iterator[tuple[U64, I64, Bool]]:
        """Yield the words of memory outside slabs, about a window full at a time: in rows, with the
        retainer of each, NONE for none, and where those that have none mark objects: as `reached`,
        or as `on_stacks`."""
        stacks = Stacks(self._memory, self._layout, self._reading, self.heap)
        owned = np.zeros(0, np.int64) if retainers is None else retainers.pages
        kept = rcu_pages.find(self._memory, self._layout, self._reading)
        left_out = np.sort(np.concatenate([self._memory.own_pages(), kept, stacks.pages, owned]))
        struct_pages = StructPages(self._memory, self._layout, self._reading)
        for pages in kernel_pages.find(self._memory, self._layout, self._reading):
            for words, _ in self._words(_units(pages[~contained(pages, left_out)])):
                struct_pages.clear(words)
                yield words[None], np.array([NONE]), reached
        if retainers is None:
            for words, tasks in stacks.words():
                yield words, np.full(len(tasks), NONE), self.on_stacks
            return
        holders = retainers.holders(len(self.heap))
        for words, tasks in stacks.words():
            holder = np.where(tasks == 0, NONE, holders[self.heap.find(tasks)])
            yield words, holder, self.on_stacks
        holder = np.repeat(retainers.page_holder, UNITS_PER_PAGE)
        done = 0
        for words, units in self._words(_units(owned)):
            yield words.reshape(len(units), -1), holder[done : done + len(units)], reached
            done += len(units)

    def _words(self, units: I64) -> Iterator[tuple[U64, I64]]:
        for start in range(0, len(units), _PIECE):
            part = units[start : start + _PIECE]
            addresses = unit_addresses(self._reading.direct_map, part)
            yield self._memory.gather(addresses, UNIT).view(np.uint64).reshape(-1), part


def _units(pages: I64) -> I64:
    """Return the units of pages."""
    return (pages[:, None] * UNITS_PER_PAGE + np.arange(UNITS_PER_PAGE)).reshape(-1)


def _distinct(objects: I64, place: I32) -> I64:
    """Return each of these objects once. `place` has an entry, of any value, for every object."""
    numbers = np.arange(len(objects), dtype=np.int32)
    place[objects] = numbers
    distinct: I64 = objects[place[objects] == numbers]
    return distinct
