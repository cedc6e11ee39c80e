# SPDX-License-Identifier: Apache-2.0
"""Cgroups, as what may retain objects: their struct cgroup, and what their controllers keep of them
(cgroup_subsys_state), the mem_cgroup included; removed ones as long as these last."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import U64
from slabmon.kernel.census import cgroups
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.retainers import Named, depths, in_order, places

_DEEPEST = 64
_COUNT, _MEMORY = "CGROUP_SUBSYS_COUNT", "memory_cgrp_id"
NEEDED = (
    "css.cgroup",
    "css.parent",
    "css.children",
    "css.sibling",
    "cgroup.kn",
    "cgroup.subsys",
    "css_set.subsys",
    "task.cgroups",
    "kn.name",
)


def find(memory: Memory, layout: Layout, heap: Heap, task: int) -> Named:
    """Find the cgroups of the hierarchy that this task's memory is charged in, called by their
    paths. Raises UnsupportedHost."""
    layout.require("cgroups", *NEEDED, enums=(_COUNT, _MEMORY))
    css = cgroups.descendants(memory, layout, _roots(memory, layout, task))
    owner = memory.words(css + np.uint64(layout["css.cgroup"]))
    known = owner != 0
    css, owner = css[known], owner[known]
    addresses, holder = np.unique(owner, return_inverse=True)
    # The css of a cgroup itself is its first member, and has the parent cgroup's as its parent.
    above = memory.words(addresses + np.uint64(layout["css.parent"]))
    parent = places(addresses, above)
    order, parent = in_order(parent, depths(parent))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    objects = heap.find(np.concatenate([addresses, css]))
    holders = place[np.concatenate([np.arange(len(addresses)), holder.reshape(-1)])]
    valid = objects != NONE
    valid[valid] = heap.in_use[objects[valid]]
    distinct, first = np.unique(objects[valid], return_index=True)
    return Named(
        names=tuple(cgroups.paths(memory, layout, addresses[order])),
        parent=parent,
        depth=depths(parent),
        objects=distinct,
        holder=holders[valid][first],
    )


def _roots(memory: Memory, layout: Layout, task: int) -> U64:
    """Return what the controllers of the memory controller's hierarchy keep of its root, and the
    css of the root itself."""
    sets = memory.word(task + layout["task.cgroups"])
    at = sets + layout["css_set.subsys"] + 8 * layout.enums[_MEMORY]
    root = memory.word(at)
    for _ in range(_DEEPEST):
        above = memory.word(root + layout["css.parent"])
        root = above or root
    cgroup = memory.word(root + layout["css.cgroup"])
    places = np.uint64(cgroup + layout["cgroup.subsys"]) + 8 * np.arange(
        layout.enums[_COUNT], dtype=np.uint64
    )
    found = np.append(memory.words(places), np.uint64(cgroup))
    roots: U64 = found[found != 0]
    return roots
