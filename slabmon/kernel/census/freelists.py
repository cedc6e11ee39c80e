# SPDX-License-Identifier: Apache-2.0
"""Free objects of slabs, by their freelists: each free object holds the address of the next, at
kmem_cache.offset, encoded where freelists are hardened (freelist_ptr_decode(), mm/slub.c)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.slabs import NONE, Slabs

_CHUNK = 1 << 18  # objects whose free pointers are read at once


def decode(stored: U64, places: U64, random: U64) -> U64:
    """Return the address that a hardened free pointer stands for, stored at `places`: exclusive or
    with the cache's random number and the byte-swapped place (since 5.7, 1ad53d9fa3f6)."""
    return stored ^ random ^ places.byteswap()


def walk(memory: Memory, slabs: Slabs, rows: I64, heads: U64) -> tuple[I64, I64]:
    """Follow freelists, each within the slab of its row, from its first free object on.

    Return the numbers of the free objects, and how many each list has. A list ends at what is no
    object of its slab, or one it has had: it changed while it was read.
    """
    numbers: list[I64] = []
    lengths = np.zeros(len(rows), np.int64)
    for part in _chunks(slabs.objects[rows]):
        free, lengths[part] = _walk(memory, slabs, rows[part], heads[part])
        numbers.append(free)
    return np.concatenate([np.zeros(0, np.int64), *numbers]), lengths


def _chunks(objects: I64) -> list[slice]:
    """Cut rows into pieces that have some _CHUNK objects."""
    piece = np.cumsum(objects) // _CHUNK
    edges = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(objects)]
    return [slice(*edge) for edge in pairwise(edges)]


def _walk(memory: Memory, slabs: Slabs, rows: I64, heads: U64) -> tuple[I64, I64]:
    counts = slabs.objects[rows]
    following = _next_objects(memory, slabs, rows)
    starts = np.cumsum(counts) - counts
    current = _places(slabs, rows, heads)
    free = np.zeros(len(following), bool)
    lengths = np.zeros(len(rows), np.int64)
    active = np.flatnonzero(current != NONE)
    while len(active):
        at = starts[active] + current[active]
        fresh = ~free[at]
        at, active = at[fresh], active[fresh]
        free[at] = True
        lengths[active] += 1
        current[active] = following[at]
        active = active[current[active] != NONE]
    at = np.flatnonzero(free)
    list_of = np.searchsorted(starts, at, side="right") - 1
    return slabs.first[rows[list_of]] + at - starts[list_of], lengths


def _next_objects(memory: Memory, slabs: Slabs, rows: I64) -> I64:
    """Return for each object of these slabs the place of the free object after it, if it is
    free; NONE at the end of the list, and where the word is not the address of an object."""
    row, place = slabs.objects_of(rows)
    cache = slabs.cache[row]
    caches = slabs.caches
    offset = caches.red_left_pad[cache] + place * caches.size[cache] + caches.offset[cache]
    pointers = slabs.address[row] + offset.astype(np.uint64)
    words = memory.words(pointers)
    if caches.hardened:
        words = decode(words, pointers, caches.random[cache])
    return _places(slabs, row, words)


def _places(slabs: Slabs, rows: I64, addresses: U64) -> I64:
    """Return the place in its slab of the object that begins at each address; NONE where none
    does."""
    cache = slabs.cache[rows]
    size = slabs.caches.size[cache]
    start = slabs.address[rows] + slabs.caches.red_left_pad[cache].astype(np.uint64)
    offset = (addresses - start).astype(np.int64)
    place, rest = np.divmod(offset, size)
    return np.where((place >= 0) & (place < slabs.objects[rows]) & (rest == 0), place, NONE)
