# SPDX-License-Identifier: Apache-2.0
"""What modules, cgroups and processes retain: rows of objects and bytes."""

from __future__ import annotations

from slabmon.base.arrays import Bool
from slabmon.base.retained import RetainedBy
from slabmon.census.model import RetainedObjects
from slabmon.kernel.census import (
    cgroup_tree,
    held_rows,
    module_memory,
    processes,
    retention,
)
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.held_rows import Figures, Retained
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Named


def find(
    kind: RetainedBy,
    memory: KernelMemory,
    layout: Layout,
    reading: Reading,
    heap: Heap,
    aliases: Aliases,
) -> Named:
    """Find all retainers of a kind other than devices. Raises UnsupportedHost."""
    if kind is RetainedBy.MODULE:
        return module_memory.find(memory, layout, reading, heap, aliases)
    if kind is RetainedBy.CGROUP:
        return cgroup_tree.find(memory, layout, heap, memory.locate()[0])
    return processes.find(memory, layout, reading, heap)


def follow(
    kind: RetainedBy, reading: Reading, tracer: Tracer, reached: Bool, found: Named
) -> Retained:
    """Mark as reached what the reached objects lead to, and return what these retainers hold of
    it. The tracer has searched the memory outside the heap with them."""
    held = retention.follow(tracer, reached, found)
    rows = [
        _row(kind, found.names[each.number], each)
        for each in held_rows.figures(reading, tracer.heap, found, held)
    ]
    rows.sort(key=lambda row: (-row.retained_bytes, row.name))
    names = tuple((kind.value, name) for name in found.names)
    return Retained(others=tuple(rows), held=held, names=names)


def _row(kind: RetainedBy, name: str, figures: Figures) -> RetainedObjects:
    return RetainedObjects(
        kind=kind,
        name=name,
        objects=figures.objects,
        bytes=figures.bytes,
        retained_objects=figures.retained_objects,
        retained_bytes=figures.retained_bytes,
        by_cache=figures.by_cache,
    )
