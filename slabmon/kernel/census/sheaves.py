# SPDX-License-Identifier: Apache-2.0
"""Sheaves: arrays of free objects that each CPU keeps (main, spare, and one of objects freed by
kfree_rcu()), and barns of full ones that each NUMA node keeps (mm/slub.c, 6.18+).

Their slabs count these objects as in use. A sheaf of kfree_rcu() that waits for the grace period is
on no list: its objects are free, and still count, until it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import GATHER_BYTES, Memory
from slabmon.kernel.census.percpu import addresses
from slabmon.kernel.census.slabs import NONE, Slabs

_MOST_IN_BARN = 64  # sheaves; MAX_FULL_SHEAVES is 10
NEEDED = ("cache.cpu_sheaves", "sheaf.size", "sheaf.objects", "sheaves.main", "barn.full")


def free_objects(
    memory: Memory,
    layout: Layout,
    slabs: Slabs,
    cpu_offsets: Mapping[int, int],
    nodes: Sequence[int],
) -> I64:
    """Return the numbers of the objects in sheaves."""
    if not layout.has(*NEEDED):
        return np.zeros(0, np.int64)
    parts = [
        *_cpu_sheaves(memory, layout, slabs, cpu_offsets),
        *_barn_sheaves(memory, layout, slabs, nodes),
    ]
    sheaves = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))
    numbers = slabs.find(_objects(memory, layout, sheaves[sheaves != 0]))
    in_slabs: I64 = numbers[numbers != NONE]
    return in_slabs


def _cpu_sheaves(
    memory: Memory, layout: Layout, slabs: Slabs, cpu_offsets: Mapping[int, int]
) -> Iterator[U64]:
    """Yield addresses of sheaves, 0 for none."""
    places = addresses(slabs.caches.cpu_sheaves, cpu_offsets).ravel()
    places = places[places != 0]
    for member in ("sheaves.main", "sheaves.spare", "sheaves.rcu_free"):
        if member in layout:
            yield memory.words(places + np.uint64(layout[member]))


def _barn_sheaves(
    memory: Memory, layout: Layout, slabs: Slabs, nodes: Sequence[int]
) -> Iterator[U64]:
    """Yield addresses of sheaves, a step along all barns' lists at a time."""
    caches = slabs.caches.address[slabs.caches.cpu_sheaves != 0]
    barns = np.concatenate([_barns(memory, layout, caches, node) for node in nodes])
    heads = barns[barns != 0] + np.uint64(layout["barn.full"])
    entries = memory.words(heads)
    for _ in range(_MOST_IN_BARN):
        listed = (entries != heads) & (entries != 0)
        heads, entries = heads[listed], entries[listed]
        if not len(entries):
            return
        yield entries - np.uint64(layout["sheaf.list"])
        entries = memory.words(entries)


def _barns(memory: Memory, layout: Layout, caches: U64, node: int) -> U64:
    """Return the barn of each cache on a node: in kmem_cache.per_node[] from 7.1 on, in the struct
    kmem_cache_node before."""
    if layout.has("cache.barn[0]", "cache.barn[1]"):
        step = layout["cache.barn[1]"] - layout["cache.barn[0]"]
        return memory.words(caches + np.uint64(layout["cache.barn[0]"] + step * node))
    if not layout.has("cache.node", "node.barn"):
        return np.zeros(0, np.uint64)
    places = memory.words(caches + np.uint64(layout["cache.node"] + 8 * node))
    places = places[places != 0]
    return memory.words(places + np.uint64(layout["node.barn"]))


def _objects(memory: Memory, layout: Layout, sheaves: U64) -> U64:
    """Return the addresses of the objects in sheaves."""
    start = layout["sheaf.objects"]
    sizes = memory.gather(sheaves + np.uint64(layout["sheaf.size"]), 4).view(np.uint32)[:, 0]
    room = min(int(sizes.max(initial=0)), (GATHER_BYTES - start) // 8)
    raw = memory.gather(sheaves, start + 8 * room)
    objects = raw[:, start:].copy().view(np.uint64)
    return objects[np.arange(room) < sizes[:, None]]
