# SPDX-License-Identifier: Apache-2.0
"""All slabs and blocks of page-backed kmalloc as one heap of numbered objects, what words refer to,
and the words in objects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slabmon.base.arrays import I32, I64, U8, U64, Bool
from slabmon.kernel.census.contents import UNIT, UNIT_WORDS, bits, units_of
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import GATHER_BYTES, WINDOW_BYTES, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.stale import Registers, Sheaves

NONE = -1
_LEAF_BITS = 9  # pages of a leaf of _PageTable: 2 MiB of memory
_PHYSICAL_STEP = 64  # bytes to which buffers of devices are aligned
_LINK_FLAGS = 3  # low bits of a page's address in a scatterlist (include/linux/scatterlist.h)
_LARGEST_TRANSFER = 1 << 22  # bytes, from the start of a block of pages on
_SPARSE = 0.5
# Division by sizes of objects as multiplication: exact for slabs, whose offset and size in bytes
# have 40 bits together (Granlund and Montgomery, PLDI 1994).
_SHIFT = 40


class _PageTable:
    """Numbers of pages by page frame, in two levels: most memory has none."""

    def __init__(self, pages: int, pfns: I64, numbers: I64) -> None:
        """`pages` is the number of all page frames."""
        tops = np.unique(pfns >> _LEAF_BITS)
        self._leaves = np.zeros((pages >> _LEAF_BITS) + 1, np.int64)
        self._leaves[tops] = np.arange(1, len(tops) + 1)
        self._numbers = np.full((len(tops) + 1) << _LEAF_BITS, NONE, np.int32)
        self._numbers[self._place(pfns)] = numbers

    def get(self, pfns: I64) -> I32:
        """Return the number of each page, NONE where it has none."""
        return self._numbers.take(self._place(pfns))

    def _place(self, pfns: I64) -> I64:
        place = self._leaves.take(pfns >> _LEAF_BITS)
        place <<= _LEAF_BITS
        place |= pfns & (1 << _LEAF_BITS) - 1
        return place


class Heap:
    """Objects by number: those of slabs as Slabs numbers them, then blocks of pages. A row is a
    slab, or a block, which holds one object."""

    def __init__(self, reading: Reading, layout: Layout) -> None:
        slabs, large = reading.slabs, reading.large
        caches, blocks = slabs.caches, np.arange(len(large.pfn))
        self._direct_map = np.uint64(reading.direct_map)
        self._vmemmap = np.uint64(reading.vmemmap)
        self._struct_page = layout.sizes["page"]
        self._end = max((each.end for each in reading.ranges), default=0) * PAGE_BYTES
        self.in_use = np.concatenate([~reading.free, np.ones(len(blocks), bool)])
        block_bytes = PAGE_BYTES << large.order
        self._cache = np.concatenate([slabs.cache, np.full(len(blocks), len(caches.name))])
        self._size = np.concatenate([caches.size[slabs.cache], block_bytes])
        self._length = np.concatenate([caches.object_size[slabs.cache], block_bytes])
        self._objects = np.concatenate([slabs.objects, np.ones(len(blocks), np.int64), [0]])
        inverse = np.where(self._objects[:-1] > 1, -(-(1 << _SHIFT) // self._size), 0)
        self._inverse = np.append(inverse, 0)
        self._first = np.concatenate([slabs.first, slabs.total + blocks + 1])
        self._page = np.concatenate([slabs.pfn, large.pfn, [0]]) * PAGE_BYTES
        self._pages = np.concatenate([slabs.pages, block_bytes // PAGE_BYTES])
        pads = np.concatenate([caches.red_left_pad[slabs.cache], np.zeros(len(blocks), np.int64)])
        self._start = self._direct_map + (self._page[:-1] + pads).astype(np.uint64)
        self._sheaves = Sheaves(layout, caches)
        self._registers = Registers(layout, caches)
        self._all = self._wanted = self._table(np.arange(len(self._pages)))

    def __len__(self) -> int:
        return int(self._first[-1])

    def _table(self, rows: I64) -> _PageTable:
        pages = self._pages[rows]
        row = np.repeat(rows, pages)
        place = np.arange(len(row)) - np.repeat(np.cumsum(pages) - pages, pages)
        return _PageTable(self._end // PAGE_BYTES, self._page[row] // PAGE_BYTES + place, row)

    def limit_to(self, objects: Bool) -> None:
        """From now on, find references to these objects, and those in rows with them, alone."""
        self._wanted = self._table(np.unique(self.rows_of(np.flatnonzero(objects))))

    def rows_of(self, numbers: I64) -> I64:
        """Return the row of each object."""
        return np.searchsorted(self._first, numbers, side="right") - 1

    def caches_of(self, numbers: I64) -> I64:
        """Return the cache of each object: a row of Caches, their number for blocks of pages."""
        caches: I64 = self._cache[self.rows_of(numbers)]
        return caches

    def lengths_of(self, numbers: I64) -> I64:
        """Return the bytes of objects that their users may use."""
        lengths: I64 = self._length[self.rows_of(numbers)]
        return lengths

    def sizes_of(self, numbers: I64) -> I64:
        """Return the bytes that objects occupy."""
        sizes: I64 = self._size[self.rows_of(numbers)]
        return sizes

    def addresses_of(self, numbers: I64) -> U64:
        """Return where objects start."""
        return self._addresses(self.rows_of(numbers), numbers)

    def _addresses(self, rows: I64, numbers: I64) -> U64:
        offset = (numbers - self._first[rows]) * self._size[rows]
        addresses: U64 = self._start[rows] + offset.astype(np.uint64)
        return addresses

    def find(self, addresses: U64) -> I64:
        """Return the object that each address lies in, NONE if in none."""
        result = np.full(len(addresses), NONE)
        inside = np.flatnonzero(addresses - self._direct_map < np.uint64(self._end))
        at, objects = self._find(addresses[inside] - self._direct_map, self._all)
        result[inside[at]] = objects
        return result

    def _find(self, offsets: U64, table: _PageTable) -> tuple[I64, I64]:
        """Return which of these offsets into the direct map lie in an object, and the objects."""
        place: I64 = offsets.view(np.int64)
        row = table.get(place // PAGE_BYTES)
        at = np.flatnonzero(row != NONE)
        if len(at) < _SPARSE * len(row):
            row, place = row.take(at), place.take(at)
        else:  # taking them out costs more than it saves
            at = np.arange(len(row))
            place = place.copy()
        # A row that is NONE takes the last entry, which has no objects.
        place -= self._page.take(row, mode="wrap")
        place *= self._inverse.take(row, mode="wrap")
        place >>= _SHIFT
        inside = np.flatnonzero(place < self._objects.take(row, mode="wrap"))
        place += self._first.take(row, mode="wrap")
        return at.take(inside), place.take(inside)

    def references(self, words: U64) -> tuple[I64, I64]:
        """Return the places of words that are an address in an object, whatever its low bits, and
        the objects."""
        mapped = words - self._direct_map
        at = np.flatnonzero(mapped < np.uint64(self._end))
        inside, objects = self._find(mapped[at], self._wanted)
        return at[inside], objects

    def transfers(self, words: U64) -> tuple[I64, I64]:
        """Return the places of words that describe an object for a transfer of data, and the
        objects: a physical address, aligned as devices' buffers are; or a struct page, followed by
        an offset in that page and a length."""
        at = np.flatnonzero(words - np.uint64(1) < np.uint64(self._end - 1))
        at = at[words[at] & np.uint64(_PHYSICAL_STEP - 1) == 0]
        inside, objects = self._find(words[at], self._wanted)
        parts = [(at[inside], objects), *self._in_pages(words)]
        return (
            np.concatenate([places for places, _ in parts]),
            np.concatenate([objects for _, objects in parts]),
        )

    def _in_pages(self, words: U64) -> Iterator[tuple[I64, I64]]:
        """Yield places and objects of pointers to struct pages that are followed by two 32-bit
        numbers, an offset and a length (struct scatterlist), or the other way round (bio_vec,
        skb_frag)."""
        described = words[:-1] - self._vmemmap
        at = np.flatnonzero(described < np.uint64(self._end // PAGE_BYTES * self._struct_page))
        number, rest = np.divmod(described[at].astype(np.int64), self._struct_page)
        linked = rest <= _LINK_FLAGS
        linked[linked] = self._wanted.get(number[linked]) != NONE
        at, page = at[linked], number[linked] * PAGE_BYTES
        low, high = words[at + 1] & np.uint64(0xFFFFFFFF), words[at + 1] >> np.uint64(32)
        for start, length in ((low, high), (high, low)):
            offset = page + start.astype(np.int64)
            valid = (length > 0) & (start + length <= np.uint64(_LARGEST_TRANSFER))
            near = np.flatnonzero(valid & (offset < self._end))
            inside, objects = self._find(offset[near].view(np.uint64), self._wanted)
            yield at[near[inside]], objects

    def contents(self, memory: Memory, numbers: I64) -> Iterator[tuple[I64, U64]]:
        """Yield objects and the words in them, one row for each, in pieces; an object of more than
        a page is in several. Words that are no references (see stale) are 0."""
        row = self.rows_of(numbers)
        lengths, addresses = self._length[row], self._addresses(row, numbers)
        order = np.argsort(lengths, kind="stable")
        edges = np.flatnonzero(np.diff(lengths[order])) + 1
        for alike in np.split(order, edges):
            length = int(lengths[alike[0]]) if len(alike) else 0
            for start in range(0, length, GATHER_BYTES):
                size = min(length - start, GATHER_BYTES) & -8
                step = WINDOW_BYTES // max(size, 8)
                for part in np.split(alike, range(step, len(alike), step)) if size else ():
                    raw = memory.gather(addresses[part] + np.uint64(start), size)
                    words = raw.view(np.uint64)
                    if not start:
                        self._sheaves.clear(words, length)
                    self._registers.clear(words, self._cache[row[part]], start)
                    yield numbers[part], words

    def unit_bits(self, numbers: I64) -> U8:
        """Return a bit for every unit of memory: 1 for those of rows that hold these objects."""
        rows = np.unique(self.rows_of(numbers))
        units, _ = units_of(self._page[rows] // PAGE_BYTES, self._pages[rows])
        return bits(units, self._end // UNIT + 1)

    def left_behind(self, memory: Memory, holders: I64, addresses: U64) -> Bool:
        """Return which of the words at these addresses, in these objects, are no references: see
        stale."""
        starts, lengths = self.addresses_of(holders), self.lengths_of(holders)
        stale = self._sheaves.hold(memory, starts, lengths, addresses - starts)
        return stale | self._registers.hold(self.caches_of(holders), addresses - starts)

    def units(self) -> I64:
        """Return the units of memory that the heap lies in."""
        units, _ = units_of(self._page[:-1] // PAGE_BYTES, self._pages)
        return units

    def places(self, units: I64, at: I64) -> U64:
        """Return the address of each word. `at` counts words of the units, one after another."""
        unit, word = np.divmod(at, UNIT_WORDS)
        addresses: U64 = self._direct_map + (units[unit] * UNIT + word * 8).astype(np.uint64)
        return addresses
