# SPDX-License-Identifier: Apache-2.0
"""What retainers hold: figures of each, and rows of its objects by cache and by what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64
from slabmon.census.model import DeviceObjects, HeldObjects, RetainedObjects
from slabmon.kernel.census import heap_subjects
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Retainers
from slabmon.kernel.census.retention import Held
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.types import Types
from slabmon.model import LARGE_CACHE

_NAMED = 8  # caches of a retainer
_MOST_ROWS = 2000  # of objects by what they are
_MOST_BYTES = 1 << 20  # of one cache's objects that are looked into, at random


@dataclass(frozen=True)
class Retained:
    """Rows of devices that hold something, or of others, those that retain most first, or why there
    are none; which objects they hold, and bus and name of each."""

    rows: tuple[DeviceObjects, ...] = ()
    limits: tuple[str, ...] = ()
    others: tuple[RetainedObjects, ...] = ()
    held: Held | None = None
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Described:
    """Rows of what retainers hold, by cache and by what the objects are, largest first."""

    rows: tuple[HeldObjects, ...] = ()
    limits: tuple[str, ...] = ()


NOT_DESCRIBED = Described()


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one retainer holds, with and without what those below it hold: see DeviceObjects."""

    number: int
    objects: int
    bytes: int
    retained_objects: int
    retained_bytes: int
    by_cache: Mapping[str, int]


def figures(reading: Reading, heap: Heap, retainers: Retainers, held: Held) -> Iterator[Figures]:
    """Yield the figures of all retainers that hold something, in order of their numbers."""
    mine = held.holder != NONE
    holder, size = held.holder[mine], heap.sizes_of(held.objects[mine])
    cache = heap.caches_of(held.objects[mine])
    count = len(retainers.parent)
    objects = np.bincount(holder, minlength=count)
    own = np.bincount(holder, size, minlength=count).astype(np.int64)
    all_objects, all_bytes = _with_children(retainers, objects), _with_children(retainers, own)
    names = (*reading.slabs.caches.name, LARGE_CACHE)
    order = np.argsort(holder, kind="stable")
    edges = np.cumsum(objects)
    for number in np.flatnonzero(all_objects).tolist():
        its = order[edges[number] - objects[number] : edges[number]]
        by_cache = np.bincount(cache[its], size[its], minlength=len(names)).astype(np.int64)
        largest = np.argsort(-by_cache, kind="stable")[:_NAMED].tolist()
        yield Figures(
            number=number,
            objects=int(objects[number]),
            bytes=int(own[number]),
            retained_objects=int(all_objects[number]),
            retained_bytes=int(all_bytes[number]),
            by_cache={names[n]: int(by_cache[n]) for n in largest if by_cache[n]},
        )


def _with_children(retainers: Retainers, values: I64) -> I64:
    """Return the sum of each retainer's value and those of all below it."""
    total = values.copy()
    for depth in range(int(retainers.depth.max(initial=0)), 0, -1):
        level = retainers.depth == depth
        np.add.at(total, retainers.parent[level], total[level])
    return total


def describe(
    memory: Memory,
    reading: Reading,
    heap: Heap,
    retained: Retained,
    types: Types,
    aliases: Aliases,
    symbols: Symbols,
) -> Described:
    """Return what each retainer holds, by what the objects are. Raises MemoryError, BudgetSpent."""
    held, names = retained.held, retained.names
    if held is None:
        return NOT_DESCRIBED
    mine = held.holder != NONE
    numbers, place = np.unique(held.objects[mine], return_index=True)
    if not len(numbers):
        return NOT_DESCRIBED
    holder = held.holder[mine][place]
    looked_into = heap_subjects.choose(memory, reading, heap, numbers, _MOST_BYTES)
    kinds = heap_subjects.kinds(memory, reading, looked_into, types, aliases, symbols)
    number = heap.find(looked_into.address)
    its_holder = holder[np.searchsorted(numbers, number)]
    scale = np.array(looked_into.scale)[looked_into.cache]
    keys = np.stack([its_holder, looked_into.cache, kinds.labels + 1])
    _, first, inverse = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    counts = np.bincount(inverse, scale)
    sizes = np.bincount(inverse, scale * heap.sizes_of(number))
    order = np.argsort(-sizes, kind="stable")
    caches = (*reading.slabs.caches.name, LARGE_CACHE)
    rows = []
    for row in order[:_MOST_ROWS].tolist():
        at = int(first[row])
        kind = kinds.of(at)
        bus, name = names[int(its_holder[at])]
        rows.append(
            HeldObjects(
                bus=bus,
                name=name,
                cache=caches[int(looked_into.cache[at])],
                type=kind.type,
                module=kind.module,
                signature=kind.signature,
                certainty=kind.certainty,
                objects=round(counts[row]),
                bytes=round(sizes[row]),
            )
        )
    return Described(tuple(rows), _limits(len(order), looked_into.share))


def _limits(kinds: int, share: float) -> tuple[str, ...]:
    texts = []
    if kinds > _MOST_ROWS:
        texts.append(f"of {kinds} kinds of retained objects, the largest {_MOST_ROWS} have rows")
    if share < 1:
        texts.append(f"of the retained objects, {share:.0%} were looked into")
    return tuple(texts)
