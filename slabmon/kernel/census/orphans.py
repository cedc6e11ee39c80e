# SPDX-License-Identifier: Apache-2.0
"""Objects in use to which nothing in the kernel's memory refers, except other such objects.

The first pass follows references from the memory outside slabs, as a tracing garbage collector does
(McCarthy, CACM 1960). Memory changes meanwhile: what it did not reach is only suspected. Each
further pass begins with a new reading, and drops the suspects that were freed, or whose words have
changed: who writes to an object knows where it is. It then searches all memory for references to
the others, whoever holds them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.base.errors import UnsupportedHost
from slabmon.base.retained import RetainedBy
from slabmon.kernel.census import device_rows, retained_rows
from slabmon.kernel.census import reading as readings
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.contents import UNIT_WORDS
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.held_rows import Retained
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory, Memory
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.reading import Reading

PASSES, _LEAST_PASSES = 3, 2
# Between passes: longer than most objects live that are nowhere but on a CPU.
PAUSE_SECONDS = 1.0
_SEED = 0x9E3779B97F4A7C15  # of the numbers that words are multiplied with


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """Orphans by their numbers in a heap, that of the last reading. `passes` is how often memory
    was searched, 1 if only what is retained was looked for."""

    reading: Reading
    heap: Heap
    numbers: I64
    passes: int


@dataclass(frozen=True)
class _Suspects:
    """Objects by address, in order, with their cache's address, 0 for blocks of pages, and a hash
    of their words. `settled` were in a slab whose free objects were all known, in some pass: who
    frees an object writes to it."""

    addresses: U64
    caches: U64
    words: U64
    settled: Bool


def find(
    memory: KernelMemory,
    layout: Layout,
    aliases: Aliases,
    progress: Callable[[float], object] = lambda _: None,
    *,
    kind: RetainedBy = RetainedBy.DEVICE,
    only_retained: bool = False,
    tell: Callable[[Reading, Heap, Retained], object] = lambda *_: None,
) -> Orphans:
    """Find the orphans of the running kernel; report the share of the work that is done. `tell` is
    told what retainers of a kind hold, after the first pass: a later one may fail. Raises
    UnsupportedHost if this kernel's pages differ, or, if `only_retained` is looked for,
    these retainers."""
    reading = readings.read(memory, layout)
    heap = Heap(reading, layout)
    tracer = Tracer(memory, layout, reading, heap)
    if kind is RetainedBy.DEVICE:
        reached = tracer.from_outside()
        retained = device_rows.follow(memory, layout, reading, tracer, reached, aliases)
    else:
        try:
            found = retained_rows.find(kind, memory, layout, reading, heap, aliases)
        except UnsupportedHost as error:
            if only_retained:
                raise
            reached = tracer.from_outside()
            tracer.follow(reached, heap.in_use)
            tracer.follow_stacks(reached, heap.in_use)
            retained = Retained(limits=(f"what is retained cannot be found: {error}",))
        else:
            reached = tracer.from_outside(found)
            retained = retained_rows.follow(kind, reading, tracer, reached, found)
    tell(reading, heap, retained)
    if only_retained:
        none = np.zeros(0, np.int64)
        return Orphans(reading=reading, heap=heap, numbers=none, passes=1)
    tracer.follow_transfers(reached, heap.in_use)
    orphans = heap.in_use & ~reached
    settled = _settled(reading, heap)
    passes = 1
    while passes < PASSES and (passes < _LEAST_PASSES or orphans.any()):
        progress(passes / PASSES)
        passes += 1
        suspects = _suspects(memory, reading, heap, orphans, settled)
        time.sleep(PAUSE_SECONDS)
        reading = readings.read(memory, layout)
        heap = Heap(reading, layout)
        orphans, settled = _unchanged(memory, reading, heap, suspects)
        tracer = Tracer(memory, layout, reading, heap)
        heap.limit_to(orphans)
        reached = tracer.from_outside() | tracer.from_objects(orphans)
        reached = (reached | tracer.on_stacks) & orphans
        tracer.follow(reached, orphans)
        tracer.follow_transfers(reached, orphans)
        orphans &= ~reached
    numbers = np.flatnonzero(orphans & settled)
    return Orphans(reading=reading, heap=heap, numbers=numbers, passes=passes)


def _settled(reading: Reading, heap: Heap) -> Bool:
    """Return which objects are in slabs whose free objects are all known."""
    slabs = reading.slabs
    settled = np.ones(len(heap), bool)
    if len(slabs):
        free = np.add.reduceat(reading.free, slabs.first[:-1], dtype=np.int64)
        known = free == slabs.objects - reading.in_use
        settled[: slabs.total] = np.repeat(known, slabs.objects)
    return settled


def _suspects(
    memory: Memory, reading: Reading, heap: Heap, objects: Bool, settled: Bool
) -> _Suspects:
    numbers = np.flatnonzero(objects)
    addresses = heap.addresses_of(numbers)
    order = np.argsort(addresses, kind="stable")
    return _Suspects(
        addresses[order],
        _cache_addresses(reading, heap, numbers)[order],
        hashes(memory, heap, numbers)[order],
        settled[numbers][order],
    )


def _cache_addresses(reading: Reading, heap: Heap, numbers: I64) -> U64:
    addresses: U64 = np.append(reading.slabs.caches.address, np.uint64(0))[heap.caches_of(numbers)]
    return addresses


def _unchanged(
    memory: Memory, reading: Reading, heap: Heap, suspects: _Suspects
) -> tuple[Bool, Bool]:
    """Return which objects are where suspects were, in use, and hold the same words; and which are
    or were in a slab whose free objects are all known."""
    numbers = heap.find(suspects.addresses)
    rows = np.flatnonzero(numbers != NONE)
    rows = rows[heap.in_use[numbers[rows]]]
    rows = rows[heap.addresses_of(numbers[rows]) == suspects.addresses[rows]]
    rows = rows[_cache_addresses(reading, heap, numbers[rows]) == suspects.caches[rows]]
    rows = rows[hashes(memory, heap, numbers[rows]) == suspects.words[rows]]
    unchanged = np.zeros(len(heap), bool)
    unchanged[numbers[rows]] = True
    settled = _settled(reading, heap)
    settled[numbers[rows[suspects.settled[rows]]]] = True
    return unchanged, settled


def hashes(memory: Memory, heap: Heap, numbers: I64) -> U64:
    """Return a hash of each object's words: the sum of random multiples (Carter and Wegman, 1979),
    one of pages if it has several."""
    result = np.zeros(len(numbers), np.uint64)
    order = np.argsort(numbers, kind="stable")
    random = np.random.default_rng(_SEED)
    factors = random.integers(1, 1 << 63, 1 + UNIT_WORDS, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    for objects, words in heap.contents(memory, numbers):
        places = order[np.searchsorted(numbers[order], objects)]
        mixed = words ^ (words >> np.uint64(29))
        sums = (mixed * factors[1 : 1 + words.shape[1]]).sum(axis=1, dtype=np.uint64)
        result[places] = result[places] * factors[0] + sums
    return result
