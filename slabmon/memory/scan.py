# SPDX-License-Identifier: Apache-2.0
"""What the struct pages of a host say: what each page of its memory is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from slabmon.base.fields import Int
from slabmon.memory.reading import MemoryReading


class PageKind(StrEnum):
    """What a page is, by its struct page."""

    FREE = "free"
    UNINITIALISED = "uninitialised"  # struct page not set up yet: free, or not there
    UNREFERENCED = "unreferenced"  # on a CPU's free list, or behind the first page of a block
    USER = "user"  # anonymous, or of a file
    RESERVED = "reserved"  # PG_reserved: never given to the page allocator, or by a driver
    SLAB = "slab"
    LARGE_KMALLOC = "large_kmalloc"
    PAGE_TABLE = "page_table"
    PAGE_POOL = "page_pool"
    HUGETLB = "hugetlb"
    MOVABLE = "movable"  # of a driver, which can move them: zsmalloc, balloons
    OFFLINE = "offline"  # given to the hypervisor
    OTHER = "other"  # of another type
    KERNEL = "kernel"  # in use, and nothing says by whom


@dataclass(frozen=True, kw_only=True)
class KernelBlocks:
    """Blocks of 2^order pages of kind KERNEL on one NUMA node. Where a block is no compound page
    its order is inferred from the pages behind its first one."""

    order: Int
    node: Int
    bytes: Int


@dataclass(frozen=True, kw_only=True)
class MemoryScan:
    """One look at all struct pages, and the counters at about the same time.

    `kinds` are bytes by kind. `blocks` are those of kind KERNEL, with the UNREFERENCED pages that
    belong to them. `percpu_bytes` are pages of kind KERNEL that the per-CPU allocator populated
    (None: not recognised). `marks` are the kinds that this kernel distinguishes.
    """

    reading: MemoryReading
    kinds: Mapping[PageKind, Int]
    blocks: tuple[KernelBlocks, ...] = ()
    percpu_bytes: Int | None = None
    marks: tuple[PageKind, ...] = ()
