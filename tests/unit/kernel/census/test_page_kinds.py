# SPDX-License-Identifier: Apache-2.0
"""Kinds of pages by their struct pages, of kernels whose types are numbers and of older ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from slabmon.base.arrays import U8
from slabmon.kernel.census.layout import PageTest
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.page_kinds import PageKinds, PageMembers
from slabmon.memory.scan import KernelBlocks, MemoryScan, PageKind
from tests.support.memory import reading
from tests.support.slab_memory import SparseMemory

RESERVED, HEAD, LRU = 1 << 10, 1 << 16, 1 << 5
UNTYPED = 0xFFFFFFFF
CPUS = 2
MEMBERS = PageMembers(
    flags=0,
    head=8,
    mapping=24,
    index=32,
    private=40,
    type=48,
    refcount=52,
    reserved=10,
    compound=16,
    lru=5,
    types={
        0xF0: PageKind.FREE,
        0xF2: PageKind.PAGE_TABLE,
        0xF5: PageKind.SLAB,
        0xF6: PageKind.MOVABLE,
        0xF8: PageKind.LARGE_KMALLOC,
    },
    bits={},
    chunk={"base_addr": 8, "nr_pages": 16, "nr_populated": 20},
    pools=True,
)
SLAB = PageTest(48, 0xFF000000, 0xF5000000)
# 5.10: types clear a bit of 0xf0000000 and up; slabs are marked in the flags.
OLD = replace(
    MEMBERS,
    types={},
    bits={0x80: PageKind.FREE, 0x200: PageKind.PAGE_TABLE},
)
OLD_SLAB = PageTest(0, 1 << 9, 1 << 9)


@dataclass(frozen=True)
class Page:
    """One struct page; `tail`: it is of the compound page before it."""

    flags: int = 0
    head: int = 0xFFFF888000001000
    mapping: int = 0
    index: int = 0
    private: int = 0
    type: int = UNTYPED
    refcount: int = 1
    tail: bool = False

    def pack(self) -> bytes:
        head = 0xFFFFEA0000000001 if self.tail else self.head
        words = (self.flags, head, 0, self.mapping, self.index, self.private)
        return struct.pack("<6QIIQ", *words, self.type, self.refcount, 0)


KERNEL, TAIL = Page(), Page(tail=True, refcount=0)
USER, ANONYMOUS = Page(mapping=0xFFFF888012345678), Page(mapping=0xFFFF888012345679)
LISTED = Page(refcount=0)


def free(order: int) -> list[Page]:
    """A free block: its first page alone is marked."""
    return [Page(type=0xF0000000, private=order, refcount=0), *[LISTED] * ((1 << order) - 1)]


def compound(order: int, **fields: Any) -> list[Page]:
    first = Page(flags=HEAD, **fields)
    return [first, *[TAIL] * ((1 << order) - 1)]


def packed(pages: list[Page]) -> U8:
    return np.frombuffer(b"".join(page.pack() for page in pages), np.uint8).reshape(-1, 64)


def scan(
    pages: list[Page],
    members: PageMembers = MEMBERS,
    slab: PageTest = SLAB,
    memory: SparseMemory | None = None,
    slices: int = 1 << 14,
) -> MemoryScan:
    """Scan pages from frame 0 on."""
    kinds = PageKinds(members, slab, CPUS)
    for first in range(0, len(pages), slices):
        kinds.add(first, packed(pages[first : first + slices]))
    return kinds.result(memory or SparseMemory(), reading())


def pages_by_kind(result: MemoryScan) -> Mapping[PageKind, int]:
    return {kind: size // PAGE_BYTES for kind, size in result.kinds.items() if size}


def blocks(result: MemoryScan) -> Mapping[int, int]:
    """Pages in blocks of kind KERNEL, by order."""
    return {block.order: block.bytes // PAGE_BYTES for block in result.blocks}


def test_every_page_has_one_kind() -> None:
    pages = [
        *free(3),
        *compound(2, type=0xF5000000),
        *compound(4, type=0xF8000000),
        Page(type=0xF2000000),
        Page(type=0xF6000000),
        Page(type=0xF1000000),
        USER,
        ANONYMOUS,
        Page(flags=LRU),
        Page(flags=RESERVED),
        Page(type=0, refcount=0),
        Page(head=0xDEAD000000000040 | 77 << 7 | 1 << 1),
        Page(mapping=0xFFFF88801234567A),
        *compound(9, refcount=0),
        KERNEL,
    ]
    assert pages_by_kind(scan(pages)) == {
        PageKind.FREE: 8,
        PageKind.SLAB: 4,
        PageKind.LARGE_KMALLOC: 16,
        PageKind.PAGE_TABLE: 1,
        PageKind.MOVABLE: 2,
        PageKind.OTHER: 1,
        PageKind.USER: 3,
        PageKind.RESERVED: 1,
        PageKind.UNINITIALISED: 1,
        PageKind.PAGE_POOL: 1,
        PageKind.HUGETLB: 512,
        PageKind.KERNEL: 1,
    }


def test_marks_of_older_kernels() -> None:
    pages = [
        Page(type=0xFFFFFF7F, private=1, refcount=0),
        LISTED,
        Page(type=0xFFFFFDFF),
        Page(type=0xFFFFFBFF),
        Page(flags=1 << 9, mapping=0xFFFF888000123400),
        Page(type=0),
        KERNEL,
    ]
    assert pages_by_kind(scan(pages, OLD, OLD_SLAB)) == {
        PageKind.FREE: 2,
        PageKind.PAGE_TABLE: 1,
        PageKind.OTHER: 1,
        PageKind.SLAB: 1,
        PageKind.KERNEL: 2,
    }


def test_blocks_of_kernel_pages_have_orders() -> None:
    pages = [
        *compound(3),
        KERNEL,
        KERNEL,
        *[KERNEL, LISTED],  # order 1 without __GFP_COMP: only the first page has a reference
        *[KERNEL, LISTED, LISTED, LISTED],
        USER,
        KERNEL,
    ]
    result = scan(pages)
    assert blocks(result) == {0: 3, 1: 2, 2: 4, 3: 8}
    assert result.blocks[0] == KernelBlocks(order=0, node=0, bytes=3 * PAGE_BYTES)


def test_a_block_reaches_no_further_than_its_alignment() -> None:
    """The pages behind it are on a CPU's free list."""
    assert blocks(scan([USER, KERNEL, LISTED, LISTED])) == {0: 1}


def test_pages_on_lists_of_cpus_are_of_no_block() -> None:
    assert blocks(scan([USER, LISTED, LISTED, LISTED])) == {}


@pytest.mark.parametrize("slices", [64, 1024])
def test_a_compound_page_may_be_larger_than_a_slice(slices: int) -> None:
    pages = [*compound(11, type=0xF5000000), *compound(4)]
    result = scan(pages, slices=slices)
    assert pages_by_kind(result) == {PageKind.SLAB: 2048, PageKind.KERNEL: 16}


@pytest.mark.parametrize("place", ["private", "index"])
def test_per_cpu_pages_point_to_their_chunk(place: str) -> None:
    chunk, other = 0xFFFF888000300000, 0xFFFF888000400000
    memory = SparseMemory()
    # struct pcpu_chunk: base_addr, then nr_pages and nr_populated.
    memory.write(chunk, struct.pack("<QQII", 0, 0xFFFFE8FFFFC00000, 256, 3))
    memory.write(other, struct.pack("<QQII", 0, 0x1234, 256, 2))
    in_chunk, elsewhere = (
        replace(KERNEL, private=value) if place == "private" else replace(KERNEL, index=value)
        for value in (chunk, other)
    )
    pages = [in_chunk] * 7 + [elsewhere] * 4  # one of the seven belongs to the chunk no longer
    assert scan([*pages, KERNEL], memory=memory).percpu_bytes == 6 * PAGE_BYTES


def test_a_kernel_that_does_not_describe_its_chunks() -> None:
    assert scan([KERNEL], replace(MEMBERS, chunk={})).percpu_bytes is None


def test_kinds_that_this_kernel_marks() -> None:
    assert PageKind.LARGE_KMALLOC in scan([KERNEL]).marks
    assert scan([KERNEL], OLD, OLD_SLAB).marks == (
        PageKind.FREE,
        PageKind.PAGE_POOL,
        PageKind.PAGE_TABLE,
        PageKind.SLAB,
    )
