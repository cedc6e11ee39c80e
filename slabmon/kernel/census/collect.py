# SPDX-License-Identifier: Apache-2.0
"""Takes one census: struct pages, slabs, free objects, owners, in this order."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.census.model import Census, CgroupObjects
from slabmon.kernel.census import (
    caches,
    cgroups,
    freelists,
    inventory,
    memory_map,
    pages,
    percpu,
    sheaves,
    slabs,
)
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory, Memory
from slabmon.kernel.census.slabs import Slabs
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.facts import count_list, read_text
from slabmon.model import Host


@dataclass(frozen=True)
class Occupancy:
    """Which objects are free. `in_use` counts those that are not, of each slab; `changed` slabs
    have another number of free objects than their descriptor says."""

    free: Bool  # (objects)
    in_use: I64  # (slabs)
    changed: int


def take(memory: KernelMemory, layout: Layout) -> Census:
    """Take a census of the running kernel."""
    start = time.monotonic()
    task, _ = memory.locate()
    ranges = memory_map.ram_ranges(read_text("/proc/iomem") or "")
    vmemmap = memory_map.find_vmemmap(memory, layout, task, ranges)
    cpu_offsets = percpu.offsets(memory, layout, task, percpu.online_cpus())
    found = pages.scan(memory, layout, vmemmap, ranges)
    known = caches.read(memory, layout, np.unique(found.slabs.cache))
    all_slabs, dropped = slabs.assemble(found.slabs, known)
    lists = percpu.cpu_lists(memory, layout, all_slabs, vmemmap, cpu_offsets)
    nodes = memory_map.online_nodes()
    in_sheaves = sheaves.free_objects(memory, layout, all_slabs, cpu_offsets, nodes)
    state = occupancy(memory, all_slabs, lists, in_sheaves)
    charged: tuple[CgroupObjects, ...] = ()
    if layout.has(*cgroups.NEEDED):
        charges = cgroups.charges(memory, layout, all_slabs, state.free, found.large)
        charged = cgroups.cgroup_rows(memory, layout, charges, nodes)
    blocks = inventory.page_blocks(found.large)
    rows = inventory.cache_rows(
        all_slabs,
        state.in_use,
        memory_map.node_of_pages(all_slabs.pfn),
        slabinfo.read_aliases(),
    ) + inventory.large_row(blocks)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    compiler = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Census(
        host=host(),
        seconds=time.monotonic() - start,
        cpu_seconds=sum((*usage[:2], *compiler[:2])),
        peak_bytes=usage.ru_maxrss * 1024,
        passes=1,
        pages_read=found.read,
        objects=sum(row.in_use for row in rows),
        changed_slabs=state.changed + dropped,
        caches=tuple(sorted(rows, key=lambda row: (-row.slab_bytes, row.name))),
        page_blocks=blocks,
        cgroups=charged,
        limits=limits(layout),
    )


def host() -> Host:
    """Return which machine this is."""
    return Host(
        platform.release(),
        platform.machine(),
        count_list(read_text("/sys/devices/system/cpu/possible")),
        read_text("/proc/sys/kernel/random/boot_id") or "",
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def occupancy(
    memory: Memory, all_slabs: Slabs, cpu_lists: tuple[I64, U64], in_sheaves: I64
) -> Occupancy:
    """Find the free objects: of slabs' freelists, of the CPUs' own, and of sheaves.

    In-use counts rest on the slabs' counters, which change as one word; the freelists say which
    objects are free, and may be torn where a slab changed meanwhile.
    """
    free = np.zeros(all_slabs.total, bool)
    partial = np.flatnonzero(all_slabs.freelist != 0)
    listed, lengths = freelists.walk(memory, all_slabs, partial, all_slabs.freelist[partial])
    free[listed] = True
    expected = all_slabs.objects - all_slabs.inuse
    changed = lengths != expected[partial]
    in_use = all_slabs.inuse.copy()
    rows, heads = cpu_lists
    for numbers in (freelists.walk(memory, all_slabs, rows, heads)[0], in_sheaves):
        fresh = np.unique(numbers)
        fresh = fresh[~free[fresh]]
        free[fresh] = True
        np.subtract.at(in_use, all_slabs.rows_of(fresh), 1)
    return Occupancy(free=free, in_use=np.maximum(in_use, 0), changed=int(changed.sum()))


def limits(layout: Layout) -> tuple[str, ...]:
    """Return what this kernel does not let a census see."""
    lacks = []
    if layout.large_page is None:
        lacks.append(
            "this kernel does not mark page-backed kmalloc in struct page (PGTY_large_kmalloc): "
            "kmalloc-large is not counted"
        )
    if not layout.has(*cgroups.NEEDED):
        lacks.append("no memory cgroups (CONFIG_MEMCG), or charges of objects are not understood")
    elif "memcg.objcg" not in layout and "memcg_node.objcg" not in layout:
        lacks.append("removed cgroups are not distinguished from their parents")
    return tuple(lacks)
