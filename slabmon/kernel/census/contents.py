# SPDX-License-Identifier: Apache-2.0
"""The objects whose owner their cache does not name, and the words in them.

An object of kmalloc, or of a cache that several were merged into, can be anything: those are the
subjects of signatures. What is in them stays in the child that takes the census.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import F64, I64, U8, U64, Bool
from slabmon.kernel.census.evidence import in_order
from slabmon.kernel.census.memory import GATHER_BYTES, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.slabs import Slabs

NONE = -1
_OBJECT_BYTES = 64  # kept of an object beside its words
UNIT = GATHER_BYTES  # bytes read at once, in which pages are counted here: a page, or a part of it
UNIT_WORDS = UNIT // 8
UNITS_PER_PAGE = PAGE_BYTES // UNIT


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Objects in use that are to be named, in order of addresses, and their words.

    `cache` is a row of Caches, or their number for page-backed kmalloc. `slab` is a row of Slabs,
    NONE for page-backed kmalloc. `start` is where an
    object's first word lies in `words`, `length` how many it has. `units` has a bit for every unit
    of memory that holds some. `scale` is, for each cache, how many objects one of these stands for.
    """

    address: U64
    cache: I64
    slab: I64
    start: I64
    length: I64
    words: U64
    units: U8
    scale: tuple[float, ...]
    share: float  # of slabs of these caches that were read

    def __len__(self) -> int:
        return len(self.address)

    def find(self, addresses: U64) -> tuple[I64, I64]:
        """Return the object that each address lies in, NONE if in none, and the offset into it."""
        if not len(self):
            return np.full(len(addresses), NONE), np.zeros(len(addresses), np.int64)
        number = np.searchsorted(self.address, addresses, side="right") - 1
        known = np.maximum(number, 0)
        offset = (addresses - self.address[known]).astype(np.int64)
        inside = (number >= 0) & (offset < self.length[known] * 8)
        return np.where(inside, number, NONE), offset

    def holds(self, units: I64) -> Bool:
        """Return whether units of memory hold some."""
        eight = self.units.take(units >> 3)
        found: Bool = (eight >> (units.astype(np.uint8) & 7) & 1).view(bool)
        return found

    def word(self, numbers: I64, offset: int) -> U64:
        """Return the word at this offset of each object, which must be as long."""
        return self.words[self.start[numbers] + offset // 8]


def choose(slabs: Slabs, wanted: Bool, most_bytes: int, seed: int = 0) -> tuple[I64, float]:
    """Return the slabs of wanted caches, and 1.0; if what is kept of them would take more than
    `most_bytes`, random ones of the largest of these caches, and the share of slabs chosen.
    `wanted` is by cache."""
    rows = np.flatnonzero(wanted[slabs.cache])
    rows = np.random.default_rng(seed).permutation(rows)
    rows = rows[np.argsort(slabs.cache[rows], kind="stable")]
    cache = slabs.cache[rows]
    sizes = slabs.pages[rows] * PAGE_BYTES + slabs.objects[rows] * _OBJECT_BYTES
    per_cache = np.bincount(cache, weights=sizes, minlength=len(wanted))
    level = _level(per_cache.astype(np.float64), most_bytes)
    before = np.cumsum(sizes) - sizes
    starts = np.searchsorted(cache, np.arange(len(wanted)))
    within = before - before[np.minimum(starts, max(len(rows) - 1, 0))][cache]
    kept = within + sizes <= level
    return np.sort(rows[kept]), float(kept.mean()) if len(rows) else 1.0


def _level(sizes: F64, total: float) -> float:
    """Return the size to which the largest must be cut for all together to be `total`."""
    ordered = np.sort(sizes)
    for number, size in enumerate(ordered.tolist()):
        if total < size * (len(ordered) - number):
            return total / (len(ordered) - number)
        total -= size
    return float(sizes.max(initial=0))


def units_of(first: I64, pages: I64) -> tuple[I64, I64]:
    """Return the units of blocks of pages, and the place of each one's block. `first` are page
    frames."""
    counts = pages * UNITS_PER_PAGE
    block = np.repeat(np.arange(len(first)), counts)
    starts = np.cumsum(counts) - counts
    return first[block] * UNITS_PER_PAGE + np.arange(len(block)) - starts[block], block


def unit_addresses(direct_map: int, units: I64) -> U64:
    """Return where units of memory are mapped."""
    return np.uint64(direct_map) + units.astype(np.uint64) * np.uint64(UNIT)


def bits(units: I64, count: int) -> U8:
    """Return a bit for each of `count` units: 1 for these."""
    bits = np.zeros(-(-count // 8), np.uint8)
    np.bitwise_or.at(bits, units >> 3, (1 << (units & 7)).astype(np.uint8))
    return bits


def read(memory: Memory, reading: Reading, rows: I64, share: float) -> Subjects:
    """Read all objects in use of these slabs, and page-backed kmalloc."""
    slabs, large = reading.slabs, reading.large
    caches = slabs.caches
    units, block = units_of(
        np.concatenate([slabs.pfn[rows], large.pfn]),
        np.concatenate([slabs.pages[rows], 1 << large.order]),
    )
    words = memory.gather(unit_addresses(reading.direct_map, units), UNIT)
    first_unit = np.searchsorted(block, np.arange(len(rows) + len(large.pfn)))
    row, place = slabs.objects_of(rows)
    used = ~reading.free[slabs.first[row] + place]
    row, place = row[used], place[used]
    cache = slabs.cache[row]
    offset = caches.red_left_pad[cache] + place * caches.size[cache]
    of_slab = first_unit[np.searchsorted(rows, row)] * UNIT_WORDS + offset // 8
    blocks = unit_addresses(reading.direct_map, large.pfn * UNITS_PER_PAGE)
    address = np.concatenate([slabs.address[row] + offset.astype(np.uint64), blocks])
    order = in_order(address - np.uint64(reading.direct_map))
    number = np.concatenate([cache, np.full(len(blocks), len(caches.name))])
    start = np.concatenate([of_slab, first_unit[len(rows) :] * UNIT_WORDS])
    length = np.concatenate([caches.object_size[cache], PAGE_BYTES << large.order]) // 8
    end = max((pages.end for pages in reading.ranges), default=0) + 1
    return Subjects(
        address=address[order],
        cache=number[order],
        slab=np.concatenate([row, np.full(len(blocks), NONE)])[order],
        start=start[order],
        length=length[order],
        words=words.view(np.uint64).reshape(-1),
        units=bits(units, end * UNITS_PER_PAGE),
        scale=_scale(reading, cache),
        share=share,
    )


def _scale(reading: Reading, cache: I64) -> tuple[float, ...]:
    count = len(reading.slabs.caches.name)
    total = np.bincount(reading.slabs.cache, weights=reading.in_use, minlength=count)
    read_ = np.bincount(cache, minlength=count)
    return (*(total / np.maximum(read_, 1)).tolist(), 1.0)
