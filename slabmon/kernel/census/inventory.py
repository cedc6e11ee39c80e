# SPDX-License-Identifier: Apache-2.0
"""How many objects each cache holds, and how full its slabs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slabmon.base.arrays import I64
from slabmon.census.model import TENTHS, CensusCache, NodeSlabs, PageBlocks
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.pages import LargePages
from slabmon.kernel.census.slabs import Slabs
from slabmon.model import LARGE_CACHE

Aliases = Mapping[str, tuple[str, ...]]


def cache_rows(slabs: Slabs, in_use: I64, nodes: I64, aliases: Aliases) -> tuple[CensusCache, ...]:
    """Return a row for each cache that has slabs. `in_use` counts each slab's objects in use,
    `nodes` is the NUMA node of each slab."""
    result = []
    for number, name in enumerate(slabs.caches.name):
        rows = np.flatnonzero(slabs.cache == number)
        if not len(rows):
            continue
        used, objects = in_use[rows], slabs.objects[rows]
        sizes = slabs.pages[rows] * PAGE_BYTES
        result.append(
            CensusCache(
                name=name,
                aliases=aliases.get(name, ()),
                slabs=len(rows),
                objects=int(objects.sum()),
                in_use=int(used.sum()),
                free=int((objects - used).sum()),
                object_size=int(slabs.caches.object_size[number]),
                size=int(slabs.caches.size[number]),
                slab_bytes=int(sizes.sum()),
                spare_bytes=_spare_bytes(used, objects, sizes),
                empty_slabs=int((used == 0).sum()),
                fill=_fill(used, objects),
                nodes=_node_rows(nodes[rows], used, objects, sizes),
            )
        )
    return tuple(result)


def large_row(blocks: Sequence[PageBlocks]) -> tuple[CensusCache, ...]:
    """Return the row of page-backed kmalloc, where there is any."""
    count = sum(block.objects for block in blocks)
    if not count:
        return ()
    row = CensusCache(
        name=LARGE_CACHE,
        slabs=count,
        objects=count,
        in_use=count,
        free=0,
        object_size=0,
        size=0,
        slab_bytes=sum(block.bytes for block in blocks),
        fill=(*(0,) * (TENTHS - 1), count),
    )
    return (row,)


def page_blocks(large: LargePages) -> tuple[PageBlocks, ...]:
    """Return page-backed kmalloc by order."""
    orders, counts = np.unique(large.order, return_counts=True)
    return tuple(
        PageBlocks(order=order, objects=count, bytes=count * (PAGE_BYTES << order))
        for order, count in zip(orders.tolist(), counts.tolist(), strict=True)
    )


def _fill(used: I64, objects: I64) -> tuple[int, ...]:
    tenths = np.minimum(used * TENTHS // objects, TENTHS - 1)
    return tuple(np.bincount(tenths, minlength=TENTHS).tolist())


def _spare_bytes(used: I64, objects: I64, sizes: I64) -> int:
    """Return the bytes of the slabs that would be empty if the objects in use filled the fullest
    ones."""
    largest = np.argsort(-objects, kind="stable")
    room = np.cumsum(objects[largest])
    needed = int(np.searchsorted(room, used.sum()) + 1) if used.sum() else 0
    return int(sizes[largest][needed:].sum())


def _node_rows(nodes: I64, used: I64, objects: I64, sizes: I64) -> tuple[NodeSlabs, ...]:
    return tuple(
        NodeSlabs(
            node=node,
            slabs=int(on_node.sum()),
            objects=int(objects[on_node].sum()),
            in_use=int(used[on_node].sum()),
            slab_bytes=int(sizes[on_node].sum()),
        )
        for node in np.unique(nodes).tolist()
        for on_node in (nodes == node,)
    )
