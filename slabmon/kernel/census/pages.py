# SPDX-License-Identifier: Apache-2.0
"""The struct pages of all memory, and the first pages of slabs and page-backed kmalloc in them.

Full slabs are on no list (mm/slub.c), so every struct page is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U8, U64, Bool
from slabmon.kernel.census.layout import Layout, PageTest
from slabmon.kernel.census.memory import WINDOW_BYTES, Memory
from slabmon.kernel.census.memory_map import PageRange

_SMALLEST = 64  # struct pages, of 64 bytes, that one page of memory holds
_COUNTER_BITS = 0x7FFF  # slab->objects shares its half word with slab->frozen
IN_OBJECT = 0  # as a stride: each extension lies in its object's padding
EXTS_FLAGS = 7  # OBJEXTS_FLAGS_MASK (include/linux/memcontrol.h); bit 0 only, before 6.10


@dataclass(frozen=True, kw_only=True)
class SlabPages:
    """Descriptors of slabs, one row each, in order of page frames."""

    pfn: I64
    cache: U64  # address of its kmem_cache
    freelist: U64  # address of its first free object
    inuse: I64
    objects: I64
    exts: U64  # address of its first object's extension; 0: none
    stride: I64  # bytes from one object's extension to the next one's, or IN_OBJECT
    charged: Bool  # whether extensions name a memory cgroup


@dataclass(frozen=True, kw_only=True)
class LargePages:
    """Blocks of pages that kmalloc returned: first page frame, order, memory cgroup data."""

    pfn: I64
    order: I64
    memcg_data: U64


@dataclass(frozen=True, kw_only=True)
class Pages:
    """What a scan found. `read` counts struct pages."""

    slabs: SlabPages
    large: LargePages
    read: int


# Struct pages between two reports of progress: 4 GiB of memory.
_REPORT_PAGES = 1 << 20


def scan(
    memory: Memory,
    layout: Layout,
    vmemmap: int,
    ranges: Sequence[PageRange],
    progress: Callable[[float], object] = lambda _: None,
    observe: Callable[[int, U8], object] = lambda *_: None,
) -> Pages:
    """Read all struct pages; report the share of them that is read. `observe` is called with page
    frame numbers and the struct pages from there on, in order."""
    size = layout.sizes["page"]
    slabs: list[tuple[I64, U8]] = []
    large: list[tuple[I64, U8]] = []
    read, reported = 0, 0
    total = sum(each.end - each.first for each in ranges)
    for first, pages in slices(memory, vmemmap, size, ranges):
        read += len(pages)
        observe(first, pages)
        if read - reported >= _REPORT_PAGES:
            reported = read
            progress(read / total)
        for test, parts in ((layout.slab_page, slabs), (layout.large_page, large)):
            if test is not None:
                at = _matching(pages, test)
                parts.append((first + at, pages[at]))
    return Pages(
        slabs=_slabs(layout, *_joined(slabs, size)),
        large=_large(memory, layout, vmemmap, *_joined(large, size)),
        read=read,
    )


def column(pages: U8, offset: int, dtype: type[np.generic]) -> np.ndarray:
    """Return one member of records that are rows of bytes."""
    return pages[:, offset : offset + np.dtype(dtype).itemsize].copy().view(dtype)[:, 0]


def slices(
    memory: Memory, vmemmap: int, size: int, ranges: Sequence[PageRange]
) -> Iterator[tuple[int, U8]]:
    """Yield page frames and their struct pages, a window full at most; (pages, struct bytes).
    What cannot be read is left out."""
    window = WINDOW_BYTES // size
    for pages in ranges:
        first, count = pages.first, window
        while first < pages.end:
            end = min((first // count + 1) * count, pages.end)
            data = memory.block(vmemmap + first * size, (end - first) * size)
            if data is not None:
                yield first, data.reshape(end - first, size)
                count = window
            elif count > _SMALLEST:
                count = max(count // 8, _SMALLEST)
                continue
            first = end


def _matching(pages: U8, test: PageTest) -> I64:
    words = pages.view(np.uint32)[:, test.offset // 4]
    return np.flatnonzero((words & np.uint32(test.mask)) == np.uint32(test.value))


def _joined(parts: Sequence[tuple[I64, U8]], size: int) -> tuple[I64, U8]:
    if not parts:
        return np.zeros(0, np.int64), np.zeros((0, size), np.uint8)
    return np.concatenate([pfns for pfns, _ in parts]), np.concatenate([data for _, data in parts])


def _slabs(layout: Layout, pfns: I64, pages: U8) -> SlabPages:
    """Decode struct slab (mm/slab.h); struct page before 5.17."""
    exts, stride, charged = _extensions(layout, pages)
    return SlabPages(
        pfn=pfns,
        cache=column(pages, layout["slab.cache"], np.uint64),
        freelist=column(pages, layout["slab.freelist"], np.uint64),
        inuse=column(pages, layout["slab.inuse"], np.uint16).astype(np.int64),
        objects=column(pages, layout["slab.objects"], np.uint16).astype(np.int64) & _COUNTER_BITS,
        exts=exts,
        stride=stride,
        charged=charged,
    )


def _extensions(layout: Layout, pages: U8) -> tuple[U64, I64, Bool]:
    """Return exts, stride and charged of SlabPages (slab_obj_ext(), mm/slab.h)."""
    exts = np.zeros(len(pages), np.uint64)
    stride = np.full(len(pages), layout.sizes.get("slabobj_ext", 8), np.int64)
    charged = np.ones(len(pages), bool)
    if "slab.exts" in layout:
        exts = column(pages, layout["slab.exts"], np.uint64) & np.uint64(~EXTS_FLAGS % (1 << 64))
    if "slab.stride" in layout:
        stride = column(pages, layout["slab.stride"], np.uint32).astype(np.int64)
    if "slab.exts_in_object" in layout:
        # An extension is an element for the cgroup, and one for the tag behind it; or one of them.
        charged = _bit(layout, pages, "slab.exts_needs_objcg")
        stride *= np.maximum(charged.astype(np.int64) + layout.tagged, 1)
        stride = np.where(_bit(layout, pages, "slab.exts_in_object"), IN_OBJECT, stride)
    return exts, stride, charged


def _bit(layout: Layout, pages: U8, name: str) -> Bool:
    """Return a bit field of one bit; it is set where the kernel does not have it."""
    if name not in layout:
        return np.ones(len(pages), bool)
    bit: Bool = column(pages, layout[name], np.uint8) & layout.masks[name] != 0
    return bit


def _large(memory: Memory, layout: Layout, vmemmap: int, pfns: I64, pages: U8) -> LargePages:
    """Decode page-backed kmalloc. The second struct page holds the order of a compound page in the
    low byte of its flags (folio_order(), include/linux/mm.h)."""
    size = layout.sizes["page"]
    memcg_data = np.zeros(len(pfns), np.uint64)
    if "page.memcg_data" in layout:
        memcg_data = column(pages, layout["page.memcg_data"], np.uint64)
    second = (np.uint64(vmemmap) + (pfns.astype(np.uint64) + np.uint64(1)) * np.uint64(size)) + (
        np.uint64(layout["page.flags"])
    )
    order = (memory.words(second) & np.uint64(0xFF)).astype(np.int64)
    return LargePages(pfn=pfns, order=order, memcg_data=memcg_data)
