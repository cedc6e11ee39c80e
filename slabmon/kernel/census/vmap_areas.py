# SPDX-License-Identifier: Apache-2.0
"""Areas of vmalloc that were given back: struct vmap_area stays until many of them are purged
together (purge_vmap_area_lazy(), mm/vmalloc.c), and points to a struct vm_struct that is free, or
was allocated again as something else."""

from __future__ import annotations

import dataclasses

import numpy as np

from slabmon.base.arrays import I64, U64, Bool, contained, distinct
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.merged import KERNEL
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers, Referrers


def without_freed(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    pointers: Referrers,
    caches: CacheTypes,
    structs: Structs,
) -> Referrers:
    """Return the pointers but those of a vmap_area to what is no vm_struct of the same address."""
    area, described = structs.find("vmap_area"), structs.find("vm_struct")
    start, end = structs.offset(area, "va_start"), structs.offset(area, "va_end")
    pointer, address = structs.offset(area, "vm"), structs.offset(described, "addr")
    if start is None or end is None or pointer is None or address is None:
        return pointers

    def stale(areas: I64, starts: U64, target: I64, into: I64) -> Bool:
        """Return which of these pointers, of areas that begin there, are to something else."""
        other: Bool = into != 0
        other |= subjects.length[target] * 8 <= address
        known = np.flatnonzero(~other)
        other[known] = subjects.word(target[known], address) != starts[known]
        return other

    named, between = pointers.named, pointers.between
    for cache in (cache for cache, struct in caches.types.items() if struct == area):
        areas = read.objects_in_use(cache)
        target, into = subjects.find(memory.words(areas + np.uint64(pointer)))
        held = np.flatnonzero(target != NONE)
        starts = memory.words(areas[held] + np.uint64(start))
        live = target[held][~stale(held, starts, target[held], into[held])]
        rows = (named.source == cache) & (named.offset == pointer)
        named = _but(named, rows & ~contained(named.target.astype(np.int64), distinct(live)))
    merged = [cache for cache, found in caches.candidates.items() if area in found]
    rows = np.flatnonzero(
        np.isin(subjects.cache[between.source], merged) & (between.offset == pointer)
    )
    source = between.source[rows].astype(np.int64)
    first, last = subjects.word(source, start), subjects.word(source, end)
    areas = (first >= KERNEL) & (first < last) & ((first | last) % np.uint64(PAGE_BYTES) == 0)
    rows, source, first = rows[areas], source[areas], first[areas]
    target, into = between.target[rows].astype(np.int64), between.into[rows].astype(np.int64)
    freed = np.zeros(len(between), bool)
    freed[rows[stale(source, first, target, into)]] = True
    return dataclasses.replace(pointers, named=named, between=_but(between, freed))


def _but(pointers: Pointers, left_out: Bool) -> Pointers:
    if not left_out.any():
        return pointers
    columns = (pointers.source, pointers.offset, pointers.target, pointers.into)
    return Pointers(*(column[~left_out] for column in columns))
