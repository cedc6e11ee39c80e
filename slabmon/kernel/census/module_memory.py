# SPDX-License-Identifier: Apache-2.0
"""Modules, as what may retain objects: their memory, in areas of vmalloc. Per-CPU variables of
modules are part of per-CPU memory, and so of no module."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.base.escape import escape
from slabmon.kernel.census import kobjects
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Named

_KSET, _AREAS = "module", "vmap_area"
_NAME_BYTES = 56  # MODULE_NAME_LEN
_LARGEST = 1 << 30  # bytes
_INT = np.uint64(0xFFFFFFFF)
NEEDED = (
    *kobjects.NEEDED,
    "module_kobject.kobj",
    "module_kobject.mod",
    "module.name",
    "module.base",
    "module.size",
    "vmap_area.vm",
    "area.addr",
    "area.pages",
    "area.nr_pages",
)


def find(memory: Memory, layout: Layout, reading: Reading, heap: Heap, aliases: Aliases) -> Named:
    """Find all modules that are loaded. Raises UnsupportedHost."""
    layout.require("modules", *NEEDED)
    directories, _ = kobjects.find(memory, layout, reading, heap, aliases, _KSET, in_modules=True)
    shift = layout["module_kobject.mod"] - layout["module_kobject.kobj"]
    modules = memory.words(directories + np.uint64(shift % (1 << 64)))
    modules = modules[modules != 0]
    raw = memory.gather(modules + np.uint64(layout["module.name"]), _NAME_BYTES)
    pages, holder = _pages(memory, layout, reading, heap, aliases, modules)
    return Named(
        names=tuple(escape(row.tobytes().partition(b"\0")[0]) for row in raw),
        parent=np.full(len(modules), NONE),
        depth=np.zeros(len(modules), np.int64),
        objects=np.zeros(0, np.int64),
        holder=np.zeros(0, np.int64),
        pages=pages,
        page_holder=holder,
    )


def _pieces(memory: Memory, layout: Layout, modules: U64) -> Iterator[tuple[U64, U64]]:
    """Yield address and bytes of a piece of each module's memory, 0 for none: module.mem[] from 6.4
    on, module.core_layout before."""
    step = layout.offsets.get("module.base[1]", 0) - layout["module.base"]
    for number in range(layout.enums.get("MOD_MEM_NUM_TYPES", 1)):
        shift = np.uint64(number * step)
        base = memory.words(modules + np.uint64(layout["module.base"]) + shift)
        size = memory.words(modules + np.uint64(layout["module.size"]) + shift) & _INT
        yield base, np.where(size <= np.uint64(_LARGEST), size, np.uint64(0))


def _pages(
    memory: Memory,
    layout: Layout,
    reading: Reading,
    heap: Heap,
    aliases: Aliases,
    modules: U64,
) -> tuple[I64, I64]:
    """Return the page frames of modules' memory, in order, and the module of each."""
    areas = _areas(memory, layout, reading, heap, aliases)
    start = memory.words(areas + np.uint64(layout["area.addr"]))
    count = (memory.words(areas + np.uint64(layout["area.nr_pages"])) & _INT).astype(np.int64)
    vector = memory.words(areas + np.uint64(layout["area.pages"]))
    owner = np.full(len(areas), NONE)
    for base, size in _pieces(memory, layout, modules):
        order = np.argsort(base, kind="stable")
        if not len(order):
            break
        place = np.maximum(np.searchsorted(base[order], start, side="right") - 1, 0)
        module = order[place]
        inside = (start >= base[module]) & (start - base[module] < size[module])
        owner[inside] = module[inside]
    mine = (owner != NONE) & (vector != 0) & (count <= _LARGEST // PAGE_BYTES)
    owner, count, vector = owner[mine], count[mine], vector[mine]
    area = np.repeat(np.arange(len(owner)), count)
    place = np.arange(len(area)) - np.repeat(np.cumsum(count) - count, count)
    structs = memory.words(vector[area] + (8 * place).astype(np.uint64))
    pages, rest = np.divmod(structs - np.uint64(reading.vmemmap), np.uint64(layout.sizes["page"]))
    valid = (rest == 0) & reading.in_ram(
        pages * np.uint64(PAGE_BYTES) + np.uint64(reading.direct_map)
    )
    frames, first = np.unique(pages[valid].astype(np.int64), return_index=True)
    return frames, owner[area][valid][first]


def _areas(memory: Memory, layout: Layout, reading: Reading, heap: Heap, aliases: Aliases) -> U64:
    """Return the address of each vm_struct that a vmap_area has."""
    slabs = reading.slabs
    names = [(name, *aliases.get(name, ())) for name in slabs.caches.name]
    hold_areas = np.array([_AREAS in each for each in names], bool)
    numbers = np.flatnonzero(np.repeat(hold_areas[slabs.cache], slabs.objects))
    places = heap.addresses_of(numbers[heap.in_use[numbers]])
    areas = memory.words(places + np.uint64(layout["vmap_area.vm"]))
    areas = np.unique(areas[reading.in_ram(areas)])
    return areas
