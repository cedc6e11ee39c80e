# SPDX-License-Identifier: Apache-2.0
"""One reading of all slabs: struct pages, caches, and which objects are free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census import caches, freelists, memory_map, pages, percpu, sheaves, slabs
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES, PageRange
from slabmon.kernel.census.memory_scan import MemoryWatch
from slabmon.kernel.census.pages import LargePages, Pages
from slabmon.kernel.census.slabs import Slabs
from slabmon.kernel.probe.facts import read_text


@dataclass(frozen=True)
class Occupancy:
    """Which objects are free. `in_use` counts those that are not, of each slab; `changed` slabs
    have another number of free objects than their descriptor says."""

    free: Bool  # (objects)
    in_use: I64  # (slabs)
    changed: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What all further questions start from. `pages_read` counts struct pages, `changed` slabs that
    changed meanwhile. Page frame 0 is mapped at `direct_map`, its struct page at `vmemmap`."""

    ranges: Sequence[PageRange]
    nodes: Sequence[int]  # NUMA
    vmemmap: int
    direct_map: int
    slabs: Slabs
    large: LargePages
    free: Bool  # (objects)
    in_use: I64  # (slabs)
    pages_read: int
    changed: int
    cpu_offsets: Mapping[int, int] = field(default_factory=dict)  # see percpu.offsets()
    data_page: int = 0  # see memory_map.start_of_data()

    def in_ram(self, words: U64) -> Bool:
        """Return which words are an address of RAM in the direct map. Where others lead may be a
        device's registers (ioremap()): reading those has effects, or is an error."""
        pages = (words - np.uint64(self.direct_map)) // np.uint64(PAGE_BYTES)
        edges = np.array(self.ranges, np.uint64)
        place = np.searchsorted(edges[:, 0], pages, side="right") - 1
        inside: Bool = (place >= 0) & (pages < edges[np.maximum(place, 0), 1])
        return inside

    def objects_in_use(self, cache: int, most_slabs: int | None = None) -> U64:
        """Return the addresses of all objects in use of a cache, by its row, or of those in so many
        random slabs of it."""
        slabs = self.slabs
        rows = np.flatnonzero(slabs.cache == cache)
        if most_slabs is not None and most_slabs < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, most_slabs, replace=False))
        row, place = slabs.objects_of(rows)
        used = ~self.free[slabs.first[row] + place]
        caches = slabs.caches
        offset = caches.red_left_pad[cache] + place[used] * caches.size[cache]
        addresses: U64 = slabs.address[row[used]] + offset.astype(np.uint64)
        return addresses


# The share of a reading's work that struct pages are.
_SCANNED = 0.5


def read(
    memory: KernelMemory,
    layout: Layout,
    progress: Callable[[float], object] = lambda _: None,
    watch: MemoryWatch | None = None,
) -> Reading:
    """Read all slabs of the running kernel; report the share of the work that is done. `watch`
    takes what all pages are from the same struct pages."""
    task, _ = memory.locate()
    iomem = read_text("/proc/iomem") or ""
    ranges = memory_map.ram_ranges(iomem)
    nodes = memory_map.online_nodes()
    vmemmap = memory_map.find_vmemmap(memory, layout, task, ranges)
    cpu_offsets = percpu.offsets(memory, layout, task, percpu.online_cpus())
    scanned = scan_pages(
        memory, layout, vmemmap, ranges, watch, lambda share: progress(_SCANNED * share)
    )
    kmem_caches = caches.read(memory, layout, scanned.slabs.cache)
    rows, direct_map = slabs.assemble(scanned.slabs, kmem_caches)
    cpu_lists = percpu.cpu_lists(memory, layout, rows, vmemmap, cpu_offsets)
    in_sheaves = sheaves.free_objects(memory, layout, rows, cpu_offsets, nodes)
    state = occupancy(memory, rows, cpu_lists, in_sheaves)
    return Reading(
        ranges=ranges,
        nodes=nodes,
        vmemmap=vmemmap,
        direct_map=direct_map,
        slabs=rows,
        large=scanned.large,
        free=state.free,
        in_use=state.in_use,
        pages_read=scanned.read,
        changed=state.changed + len(scanned.slabs.pfn) - len(rows),
        cpu_offsets=cpu_offsets,
        data_page=memory_map.start_of_data(iomem),
    )


def read_pages(
    memory: KernelMemory, layout: Layout, watch: MemoryWatch, progress: Callable[[float], object]
) -> int:
    """Read all struct pages, and nothing else; return how many."""
    task, _ = memory.locate()
    ranges = memory_map.ram_ranges(read_text("/proc/iomem") or "")
    vmemmap = memory_map.find_vmemmap(memory, layout, task, ranges)
    return scan_pages(memory, layout, vmemmap, ranges, watch, progress).read


def scan_pages(
    memory: KernelMemory,
    layout: Layout,
    vmemmap: int,
    ranges: Sequence[PageRange],
    watch: MemoryWatch | None,
    progress: Callable[[float], object],
) -> Pages:
    """Read all struct pages and return the slabs among them."""
    if watch is None:
        return pages.scan(memory, layout, vmemmap, ranges, progress)
    scanned = pages.scan(memory, layout, vmemmap, ranges, progress, watch.add)
    watch.finish(memory)
    return scanned


def occupancy(
    memory: Memory, rows: Slabs, cpu_lists: tuple[I64, U64], in_sheaves: I64
) -> Occupancy:
    """Find the free objects: of slabs' freelists, of the CPUs' own, and of sheaves.

    In-use counts rest on the slabs' counters, which change as one word; the freelists say which
    objects are free, and may be torn where a slab changed meanwhile.
    """
    free = np.zeros(rows.total, bool)
    partial = np.flatnonzero(rows.freelist != 0)
    listed, lengths = freelists.walk(memory, rows, partial, rows.freelist[partial])
    free[listed] = True
    changed = lengths != (rows.objects - rows.inuse)[partial]
    in_use = rows.inuse.copy()
    for numbers in (freelists.walk(memory, rows, *cpu_lists)[0], in_sheaves):
        fresh = np.unique(numbers)
        fresh = fresh[~free[fresh]]
        free[fresh] = True
        np.subtract.at(in_use, rows.rows_of(fresh), 1)
    return Occupancy(free=free, in_use=np.maximum(in_use, 0), changed=int(changed.sum()))
