# SPDX-License-Identifier: Apache-2.0
"""What every page of memory is, from its struct page (include/linux/mm_types.h, page-flags.h)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import I64, U8, U32, U64, Bool
from slabmon.kernel.census.evidence import numbered
from slabmon.kernel.census.layout import PageTest
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES, node_of_pages
from slabmon.kernel.probe.btf import Btf
from slabmon.memory.reading import MemoryReading
from slabmon.memory.scan import KernelBlocks, MemoryScan, PageKind

# Kinds of pages by what page_type calls them, without PGTY_ or PG_.
_TYPES = {
    "buddy": PageKind.FREE,
    "unaccepted": PageKind.FREE,
    "offline": PageKind.OFFLINE,
    "table": PageKind.PAGE_TABLE,
    "hugetlb": PageKind.HUGETLB,
    "slab": PageKind.SLAB,
    "zsmalloc": PageKind.MOVABLE,
    "large_kmalloc": PageKind.LARGE_KMALLOC,
    "netpp": PageKind.PAGE_POOL,
}
# Before 6.11 the types were macros, which BTF does not have: a type clears its bit.
_BITS = {"PG_buddy": 0x80, "PG_offline": 0x100, "PG_table": 0x200}
_BASE, _UNTYPED = 0xF0000000, 0xFFFFFF80  # PAGE_TYPE_BASE, PAGE_MAPCOUNT_RESERVE
_NO_TYPE = 0xFF000000  # and above, of types that are numbers (page_has_type(), 6.12 and later)
_LARGEST_ORDER = 10  # of the page allocator, MAX_PAGE_ORDER
_ORDER_BITS = 6
# A page of a pool: PP_SIGNATURE, with an index of its DMA mapping in the 32 bits from the seventh
# (include/linux/mm.h, page_pool/types.h), on machines with CONFIG_ILLEGAL_POINTER_VALUE.
_POOL_MAGIC = 0xDEAD000000000040
_POOL_MASK = ~(0xFFFFFFFF << 7 | 0x3) % (1 << 64)
_ANONYMOUS, _MOVABLE, _MAPPING = 1, 2, 3  # low bits of page->mapping
_MOST_CHUNKS = 4096
_KINDS = tuple(PageKind)
_NUMBER = {kind: np.uint8(number) for number, kind in enumerate(_KINDS)}


@dataclass(frozen=True, kw_only=True)
class PageMembers:
    """Words of struct page, each 8 bytes at a multiple of 8, and the bits of `flags`."""

    flags: int
    head: int  # compound_head, whose lowest bit marks a tail page
    mapping: int
    index: int
    private: int
    type: int  # 32 bits
    refcount: int  # 32 bits
    reserved: int
    compound: int
    lru: int
    types: Mapping[int, PageKind]  # by the highest byte of page_type, 6.12 and later
    bits: Mapping[int, PageKind]  # by the bit that is clear, before
    chunk: Mapping[str, int]  # offsets of struct pcpu_chunk
    pools: bool  # pages of page pools have PP_SIGNATURE

    @classmethod
    def of(cls, btf: Btf) -> PageMembers | None:
        """Return where the members are, or None if this kernel has other ones."""
        btf.load(struct={"page", "pcpu_chunk"})
        flags = btf.enum_values("PG_reserved")
        places = {
            name: btf.offset("page", *members)
            for name, members in {
                "flags": ("flags",),
                "head": ("compound_head", "compound_info"),
                "mapping": ("mapping",),
                "index": ("index", "__folio_index"),
                "private": ("private",),
                "type": ("page_type", "_mapcount"),
                "refcount": ("_refcount",),
            }.items()
        }
        if None in places.values() or not {"PG_reserved", "PG_lru"} <= flags.keys():
            return None
        named = btf.enum_values("PGTY_buddy")
        bits = {} if named else btf.enum_values("PG_buddy") or _BITS
        chunk = {
            member: at
            for member in ("base_addr", "nr_pages", "nr_populated")
            if (at := btf.offset("pcpu_chunk", member)) is not None
        }
        return cls(
            **{name: at for name, at in places.items() if at is not None},
            reserved=flags["PG_reserved"],
            compound=flags.get("PG_head", flags["PG_reserved"]),
            lru=flags["PG_lru"],
            types={
                value: _TYPES[name.removeprefix("PGTY_")]
                for name, value in named.items()
                if name.removeprefix("PGTY_") in _TYPES
            },
            bits={
                value & 0xFFFFFFFF: _TYPES[name.removeprefix("PG_")]
                for name, value in bits.items()
                if name.removeprefix("PG_") in _TYPES
            },
            chunk=chunk if len(chunk) == 3 else {},
            pools=btf.offset("page", "pp_magic") is not None,
        )


@dataclass
class PageKinds:
    """Adds up the kinds of pages, a slice of consecutive struct pages after the other, in order."""

    members: PageMembers
    slab: PageTest
    cpus: int  # possible ones
    pages: I64 = field(default_factory=lambda: np.zeros(len(_KINDS), np.int64))  # by kind
    _blocks: Counter[tuple[int, int]] = field(default_factory=Counter)  # pages, by order and node
    _chunks: tuple[Counter[int], Counter[int]] = field(
        default_factory=lambda: (Counter(), Counter())
    )
    _last: np.uint8 = _NUMBER[PageKind.OTHER]  # kind of the last page that is no tail

    def __post_init__(self) -> None:
        self._kind_of_type = np.full(256, _NUMBER[PageKind.OTHER])
        for value, kind in self.members.types.items():
            self._kind_of_type[value] = _NUMBER[kind]

    def add(self, first: int, pages: U8) -> None:
        """Add the struct pages from page frame `first` on: (pages, bytes)."""
        words = pages.view(np.uint64)
        tail = words[:, self.members.head // 8] & np.uint64(1) != 0
        kinds = self._heads(words, pages.view(np.uint32))
        order = words[:, self.members.private // 8]
        number = np.arange(len(pages))
        head = np.maximum.accumulate(np.where(tail, -1, number))
        kinds = np.where(head < 0, self._last, kinds[head])
        kinds[_covered(kinds == _NUMBER[PageKind.FREE], tail, order)] = _NUMBER[PageKind.FREE]
        self._last = kinds[-1]
        self.pages += np.bincount(kinds, minlength=len(_KINDS))
        self._add_blocks(first, kinds, tail, words)

    def _heads(self, words: U64, halves: U32) -> U8:
        """Return the kind of each page, as if none was a tail. Later rules win."""
        members = self.members
        flags = words[:, members.flags // 8]
        mapping = words[:, members.mapping // 8]
        refcount = halves[:, members.refcount // 4]
        kind_word = halves[:, members.type // 4]
        kinds = np.full(len(words), _NUMBER[PageKind.KERNEL])

        def mark(mask: Bool, kind: PageKind) -> None:
            kinds[mask] = _NUMBER[kind]

        if members.pools:  # pp_magic lies where compound_head does
            magic = words[:, members.head // 8] & np.uint64(_POOL_MASK)
            mark(magic == np.uint64(_POOL_MAGIC), PageKind.PAGE_POOL)
        # Pages that were truncated are still on a list of user pages.
        mark((mapping != 0) | _bit(flags, members.lru), PageKind.USER)
        mark(mapping & np.uint64(_MAPPING) == np.uint64(_MOVABLE), PageKind.MOVABLE)
        slab = halves[:, self.slab.offset // 4] & np.uint32(self.slab.mask)
        mark(slab == np.uint32(self.slab.value), PageKind.SLAB)
        unused = refcount == 0
        mark(unused, PageKind.UNREFERENCED)
        mark(unused & (kind_word == 0), PageKind.UNINITIALISED)
        mark(unused & _bit(flags, members.compound), PageKind.HUGETLB)
        self._mark_types(kinds, kind_word, mark)
        mark(_bit(flags, members.reserved), PageKind.RESERVED)
        return kinds

    def _mark_types(
        self, kinds: U8, kind_word: U32, mark: Callable[[Bool, PageKind], None]
    ) -> None:
        if self.members.types:
            at = np.flatnonzero((kind_word >= np.uint32(_BASE)) & (kind_word < np.uint32(_NO_TYPE)))
            kinds[at] = self._kind_of_type[kind_word[at] >> 24]
            return
        typed = (kind_word >= np.uint32(_BASE)) & (kind_word < np.uint32(_UNTYPED))
        mark(typed, PageKind.OTHER)
        for bit, kind in self.members.bits.items():
            mark(typed & (kind_word & np.uint32(bit) == 0), kind)

    def _add_blocks(self, first: int, kinds: U8, tail: Bool, words: U64) -> None:
        """Add the blocks of kind KERNEL, by order and node. Without __GFP_COMP only the first page
        of a block has a reference, so the pages without one that follow are of the block, as far
        as its alignment allows. Some of them may be on a CPU's free list instead."""
        is_head = ~tail
        heads = np.flatnonzero((kinds == _NUMBER[PageKind.KERNEL]) & is_head)
        if not len(heads):
            return
        ends = np.append(np.flatnonzero(is_head), len(kinds))
        lengths = ends[np.searchsorted(ends, heads) + 1] - heads
        single = lengths == 1
        behind = _unreferenced_behind(kinds)[heads[single]]
        aligned = _lowest_bit(heads[single] + first)
        reach = np.minimum(_highest_bit(behind + 1), aligned)
        lengths[single] = np.minimum(reach, 1 << _LARGEST_ORDER)
        orders = np.log2(np.maximum(lengths, 1)).astype(np.int64)
        nodes = node_of_pages(heads + first)
        sums = np.bincount(nodes << _ORDER_BITS | orders, weights=lengths).astype(np.int64)
        for key in np.flatnonzero(sums).tolist():
            node, order = divmod(key, 1 << _ORDER_BITS)
            self._blocks[order, node] += int(sums[key])
        for offset, chunks in zip(
            (self.members.private, self.members.index), self._chunks, strict=True
        ):
            values = words[heads[single], offset // 8]
            values = values[values >> np.uint64(63) != 0]
            distinct, _, counts = numbered(values)
            chunks.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
            if len(chunks) > _MOST_CHUNKS:
                self._forget_rare(chunks)

    @staticmethod
    def _forget_rare(chunks: Counter[int]) -> None:
        for value, _ in chunks.most_common()[_MOST_CHUNKS // 2 :]:
            del chunks[value]

    def percpu_bytes(self, memory: Memory) -> int | None:
        """Return the bytes of pages that the per-CPU allocator populated, which point to their
        chunk (pcpu_set_page_chunk(), mm/percpu.c), or None if that is not to be seen. A chunk has
        its populated pages on each possible CPU; other pages may still point to it that were its
        pages once."""
        chunk = self.members.chunk
        if not chunk:
            return None
        size = max(chunk.values()) + 8
        return PAGE_BYTES * max(
            sum(
                _populated(record, chunk, count // self.cpus) * self.cpus
                for count, record in zip(
                    chunks.values(),
                    memory.gather(np.array(list(chunks), np.uint64), size),
                    strict=True,
                )
            )
            for chunks in self._chunks
        )

    def result(self, memory: Memory, reading: MemoryReading) -> MemoryScan:
        """Return the sums, with the counters as they were afterwards."""
        marks = {*self.members.types.values(), *self.members.bits.values(), PageKind.SLAB}
        if self.members.pools:
            marks.add(PageKind.PAGE_POOL)
        return MemoryScan(
            reading=reading,
            kinds={
                kind: int(pages) * PAGE_BYTES
                for kind, pages in zip(_KINDS, self.pages.tolist(), strict=True)
            },
            blocks=tuple(
                KernelBlocks(order=order, node=node, bytes=pages * PAGE_BYTES)
                for (order, node), pages in sorted(self._blocks.items())
            ),
            percpu_bytes=self.percpu_bytes(memory),
            marks=tuple(sorted(marks)),
        )


def _bit(flags: U64, number: int) -> Bool:
    result: Bool = flags & np.uint64(1 << number) != 0
    return result


def _covered(free: Bool, tail: Bool, orders: U64) -> Bool:
    """Return which pages are of a free block: its first page alone is marked, and has its order.
    Blocks are aligned, and so within a slice."""
    first = np.flatnonzero(free & ~tail)
    sizes = 1 << np.minimum(orders[first], _LARGEST_ORDER).astype(np.int64)
    edges = np.zeros(len(free) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, np.minimum(first + sizes, len(free)), -1)
    return np.cumsum(edges[:-1]) > 0


def _unreferenced_behind(kinds: U8) -> I64:
    """Return how many UNREFERENCED pages follow each page."""
    number = np.arange(len(kinds) + 1)
    other = np.where(np.append(kinds, 255) != _NUMBER[PageKind.UNREFERENCED], number, len(kinds))
    following = np.minimum.accumulate(other[::-1])[::-1]
    return following[1:] - number[1:]


def _highest_bit(values: I64) -> I64:
    """Return the largest power of two that is no larger, of values from 1 on."""
    return 1 << np.log2(values).astype(np.int64)


def _lowest_bit(values: I64) -> I64:
    """Return the largest power of two that divides each value."""
    return np.where(values == 0, 1 << _LARGEST_ORDER, values & -values)


def _populated(record: U8, chunk: Mapping[str, int], most: int) -> int:
    """Return how many pages for each CPU a struct pcpu_chunk has, 0 if the record is none or has
    more than `most`."""

    def number(name: str, size: int) -> int:
        return int.from_bytes(record[chunk[name] : chunk[name] + size].tobytes(), "little")

    populated, base = number("nr_populated", 4), number("base_addr", 8)
    valid = base >> 63 and base % PAGE_BYTES == 0 and populated <= number("nr_pages", 4)
    return populated if valid and populated <= most else 0
