# SPDX-License-Identifier: Apache-2.0
"""Objects of a heap, of any cache, as subjects that are to be named, and what they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slabmon.base.arrays import I64
from slabmon.kernel.census import owners
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.owners import Kinds
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers, Referrers
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.types import Types


def kinds(
    memory: Memory,
    reading: Reading,
    subjects: Subjects,
    types: Types,
    aliases: Aliases,
    symbols: Symbols,
) -> Kinds:
    """Return what these objects are, by what is in them, and by their pointers to each other."""
    pointers = Referrers(
        named=Pointers(*np.zeros((4, 0), np.int64)), between=_between(subjects), share=1.0
    )
    return owners.kinds_of(memory, reading, subjects, pointers, types, aliases, symbols)


def choose(memory: Memory, reading: Reading, heap: Heap, numbers: I64, most_bytes: int) -> Subjects:
    """Return objects with their words; of one cache, random ones if they take more than
    `most_bytes`."""
    caches = reading.slabs.caches
    cache = heap.caches_of(numbers)
    chosen = np.sort(np.concatenate(list(_chosen(heap, numbers, cache, most_bytes))))
    scale = np.bincount(cache, minlength=len(caches.name) + 1) / np.maximum(
        np.bincount(heap.caches_of(chosen), minlength=len(caches.name) + 1), 1
    )
    chosen = chosen[np.argsort(heap.addresses_of(chosen), kind="stable")]
    length = heap.lengths_of(chosen) // 8
    start = np.cumsum(length) - length
    words = np.zeros(int(length.sum()), np.uint64)
    filled = start.copy()
    order = np.argsort(chosen, kind="stable")
    for objects, piece in heap.contents(memory, chosen):
        places = order[np.searchsorted(chosen[order], objects)]
        words[filled[places][:, None] + np.arange(piece.shape[1])] = piece
        filled[places] += piece.shape[1]
    in_slab = chosen < reading.slabs.total
    return Subjects(
        address=heap.addresses_of(chosen),
        cache=heap.caches_of(chosen),
        slab=np.where(in_slab, heap.rows_of(chosen), NONE),
        start=start,
        length=length,
        words=words,
        units=heap.unit_bits(chosen),
        scale=tuple(scale.tolist()),
        share=len(chosen) / len(numbers),
    )


def _chosen(heap: Heap, numbers: I64, cache: I64, most_bytes: int) -> Iterable[I64]:
    """Yield objects of each cache: all, or as many as take `most_bytes`."""
    random = np.random.default_rng(0)
    for number in np.unique(cache).tolist():
        alike = random.permutation(numbers[cache == number])
        fitting = np.cumsum(heap.lengths_of(alike)) <= most_bytes  # blocks of pages differ in size
        yield alike[: max(int(fitting.sum()), 1)]


def _between(subjects: Subjects) -> Pointers:
    """Return pointers from one subject to another."""
    target, into = subjects.find(subjects.words & np.uint64(-8 % (1 << 64)))
    at = np.flatnonzero(target != NONE)
    source = np.searchsorted(subjects.start, at, side="right") - 1
    others = target[at] != source
    at, source = at[others], source[others]
    offset = (at - subjects.start[source]) * 8
    return Pointers(*np.stack([source, offset, target[at], into[at]]).astype(np.int32))
