# SPDX-License-Identifier: Apache-2.0
"""Pages that belong to the kernel and to no slab: its image, per-CPU memory, stacks, vmalloc
memory, struct pages, buffers. All of them are in the direct map.

Left out are free pages, pages of processes and files, and pages with a type, such as page tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U8, U64, Bool
from slabmon.kernel.census.layout import Layout, other_kernel
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.pages import slices
from slabmon.kernel.census.reading import Reading

NEEDED = ("page.type", "page.refcount", "page.mapping", "page.compound")
_NO_TYPE = 0xFFFFFFFF  # of a page that no process has mapped; else the word counts mappings
_TYPED = 0xF0000000  # at least (PAGE_TYPE_BASE, include/linux/page-flags.h)
_LARGEST_BLOCK = 1 << 10  # pages, of the page allocator (MAX_PAGE_ORDER)


@dataclass(frozen=True)
class _Slice:
    """What consecutive struct pages say, one row each."""

    first: int  # page frame
    tail: Bool  # a page of a compound page, not its first
    refcount: I64
    typed: Bool
    mapped: Bool  # of a process, or of a file


def find(memory: Memory, layout: Layout, reading: Reading) -> Iterator[I64]:
    """Yield the page frames of pages that the kernel owns, a piece of memory at a time, just after
    it was looked at. Raises UnsupportedHost."""
    layout.require("types of pages", *NEEDED)
    if not _has_known_types(layout):
        raise other_kernel("types of pages", ["types of 6.9 and before, or of 6.12 and later"])
    carried = False
    for first, pages in slices(memory, reading.vmemmap, layout.sizes["page"], reading.ranges):
        decoded = _decode(layout, first, pages)
        kernel = _owned(decoded, carried)
        carried = bool(kernel[-1])
        unreferenced = np.flatnonzero(kernel & ~decoded.tail & (decoded.refcount == 0))
        if "page.lru" in layout and len(unreferenced):
            member, size = layout["page.lru"], layout.sizes["page"]
            links = pages[unreferenced, member : member + 16].view(np.uint64)
            offsets = (first + unreferenced) * size + member
            places = np.uint64(reading.vmemmap) + offsets.astype(np.uint64)
            kernel[unreferenced[_are_listed(memory, reading, size, places, links)]] = False
        yield first + np.flatnonzero(kernel)


def _are_listed(
    memory: Memory, reading: Reading, struct_page: int, places: U64, links: U64
) -> Bool:
    """Return which of these list_heads of struct pages, with next and prev as copied, are in a
    list: both neighbours, other struct pages or in memory, point back. Pages without references
    that are in one are free, on a CPU's list (struct per_cpu_pages); what was in one once is not
    pointed to any more."""
    end = np.uint64(max((each.end for each in reading.ranges), default=0) * struct_page)
    listed: Bool = links[:, 0] != places
    for neighbour, back in ((links[:, 0], 8), (links[:, 1], 0)):
        listed &= (neighbour - np.uint64(reading.vmemmap) < end) | reading.in_ram(neighbour)
        known = np.where(listed, neighbour + np.uint64(back), np.uint64(0))
        listed &= memory.words(known) == places
    return listed


def _has_known_types(layout: Layout) -> bool:
    """6.10 and 6.11 had other types than those before and after."""
    test = layout.slab_page
    return test.mask == 0xFF000000 or test.offset == layout["page.flags"]


def _decode(layout: Layout, first: int, pages: U8) -> _Slice:
    words, halves = pages.view(np.uint64), pages.view(np.uint32)
    kind = halves[:, layout["page.type"] // 4]
    typed = (kind >= np.uint32(_TYPED)) & (kind != np.uint32(_NO_TYPE))
    test = layout.slab_page
    if test.offset == layout["page.type"]:
        # From 6.12 on, the lower bits of a typed page are free for other use.
        typed &= kind < np.uint32(_NO_TYPE & test.mask)
    else:
        typed |= (halves[:, test.offset // 4] & np.uint32(test.mask)) == np.uint32(test.value)
    return _Slice(
        first=first,
        tail=words[:, layout["page.compound"] // 8] & np.uint64(1) != 0,
        refcount=halves[:, layout["page.refcount"] // 4].astype(np.int64),
        typed=typed,
        mapped=words[:, layout["page.mapping"] // 8] != 0,
    )


def _owned(pages: _Slice, carried: bool) -> Bool:
    """Return which pages the kernel owns. `carried` says so of the compound page that the first
    ones may belong to."""
    number = np.arange(len(pages.tail))
    heads = ~pages.tail & (pages.refcount > 0) & ~pages.typed & ~pages.mapped
    of_head = np.maximum.accumulate(np.where(pages.tail, -1, number))
    owned: Bool = np.where(of_head >= 0, heads[of_head], carried)
    owned &= heads | pages.tail
    # Of a block of pages that is not a compound page, only the first has references: DMA memory.
    # What follows such a page within an aligned block can be part of it, but for pages with a type:
    # slabs and blocks of kmalloc have no references either (frozen pages, 6.14 and later).
    # Free pages on a CPU's list are left to find().
    anchor = pages.tail | (pages.refcount > 0) | pages.typed
    before = np.maximum.accumulate(np.where(anchor, number, -1))
    known = np.flatnonzero(~anchor & (before >= 0))
    start = before[known]
    place = pages.first + start
    block = np.minimum(np.where(place > 0, place & -place, 1), _LARGEST_BLOCK)
    compound = pages.tail[np.minimum(start + 1, len(number) - 1)] | pages.tail[start]
    owned[known] = heads[start] & ~compound & (known - start < block)
    return owned
