# SPDX-License-Identifier: Apache-2.0
"""The objects whose owner their cache does not name, and the words in them.

An object of kmalloc, or of a cache that several were merged into, can be anything: those are the
subjects of signatures. What is in them stays in the child that takes the census.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import F64, I64, U8, U64, Bool
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.slabs import Slabs

NONE = -1
_OBJECT_BYTES = 64  # kept of an object beside its words
PAGE_WORDS = PAGE_BYTES // 8


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Objects in use that are to be named, in order of addresses, and their words.

    `cache` is a row of Caches, or their number for page-backed kmalloc. `slab` is a row of Slabs,
    NONE for page-backed kmalloc. `start` is where an
    object's first word lies in `words`, `length` how many it has. `pages` has a bit for every page
    frame that holds some. `scale` is, for each cache, how many objects one of these stands for.
    """

    address: U64
    cache: I64
    slab: I64
    start: I64
    length: I64
    words: U64
    pages: U8
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


def page_frames(first: I64, pages: I64) -> tuple[I64, I64]:
    """Return the page frames of blocks of pages, and the place of each one's block."""
    block = np.repeat(np.arange(len(first)), pages)
    starts = np.cumsum(pages) - pages
    return first[block] + np.arange(len(block)) - starts[block], block


def page_bits(pfns: I64, count: int) -> U8:
    """Return a bit for each of `count` page frames: 1 for these."""
    bits = np.zeros(-(-count // 8), np.uint8)
    np.bitwise_or.at(bits, pfns >> 3, (1 << (pfns & 7)).astype(np.uint8))
    return bits


def has_bit(bits: U8, pfns: I64) -> Bool:
    """Return whether each page frame's bit is set."""
    masks = np.left_shift(1, pfns & 7).astype(np.uint8)
    found: Bool = np.bitwise_and(bits[pfns >> 3], masks).astype(bool)
    return found


def read(memory: Memory, reading: Reading, rows: I64, share: float) -> Subjects:
    """Read all objects in use of these slabs, and page-backed kmalloc."""
    slabs, large = reading.slabs, reading.large
    caches = slabs.caches
    pfns, block = page_frames(
        np.concatenate([slabs.pfn[rows], large.pfn]),
        np.concatenate([slabs.pages[rows], 1 << large.order]),
    )
    base = np.uint64(reading.direct_map)
    words = memory.gather(base + pfns.astype(np.uint64) * np.uint64(PAGE_BYTES), PAGE_BYTES)
    first_page = np.searchsorted(block, np.arange(len(rows) + len(large.pfn)))
    row, place = slabs.objects_of(rows)
    used = ~reading.free[slabs.first[row] + place]
    row, place = row[used], place[used]
    cache = slabs.cache[row]
    offset = caches.red_left_pad[cache] + place * caches.size[cache]
    of_slab = first_page[np.searchsorted(rows, row)] * PAGE_WORDS + offset // 8
    blocks = base + large.pfn.astype(np.uint64) * np.uint64(PAGE_BYTES)
    address = np.concatenate([slabs.address[row] + offset.astype(np.uint64), blocks])
    order = np.argsort(address, kind="stable")
    number = np.concatenate([cache, np.full(len(blocks), len(caches.name))])
    start = np.concatenate([of_slab, first_page[len(rows) :] * PAGE_WORDS])
    length = np.concatenate([caches.object_size[cache] // 8, PAGE_WORDS << large.order])
    return Subjects(
        address=address[order],
        cache=number[order],
        slab=np.concatenate([row, np.full(len(blocks), NONE)])[order],
        start=start[order],
        length=length[order],
        words=words.view(np.uint64).reshape(-1),
        pages=page_bits(pfns, max((pages.end for pages in reading.ranges), default=0) + 1),
        scale=_scale(reading, cache),
        share=share,
    )


def _scale(reading: Reading, cache: I64) -> tuple[float, ...]:
    count = len(reading.slabs.caches.name)
    total = np.bincount(reading.slabs.cache, weights=reading.in_use, minlength=count)
    read_ = np.bincount(cache, minlength=count)
    return (*(total / np.maximum(read_, 1)).tolist(), 1.0)
