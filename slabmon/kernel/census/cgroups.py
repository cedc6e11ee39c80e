# SPDX-License-Identifier: Apache-2.0
"""The memory cgroup that each object is charged to, by its slab's vector of object extensions.

slabobj_ext[].objcg (mm/slab.h; 6.10+), a vector of obj_cgroup pointers before (5.9+), leads to a
struct obj_cgroup and that to a struct mem_cgroup, of cgroup v1 or v2 alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import U64, Bool
from slabmon.base.escape import escape
from slabmon.base.workloads import REMOVED
from slabmon.census.model import CgroupObjects, CgroupState
from slabmon.kernel.census.extensions import count_words
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.pages import EXTS_FLAGS, LargePages
from slabmon.kernel.census.reading import Reading
from slabmon.model import LARGE_CACHE

_KMEM_PAGES = 2  # MEMCG_DATA_KMEM (include/linux/memcontrol.h)
_POINTER = np.uint64(~EXTS_FLAGS % (1 << 64))
_DEEPEST, _MOST_CGROUPS, _NAME_BYTES = 64, 1 << 20, 256
NEEDED = ("slab.exts", "objcg.memcg", "memcg.css", "css.cgroup", "cgroup.kn", "kn.name")


def tells(layout: Layout, member: str) -> bool:
    """Return whether mem_cgroup has this member, or has one for each NUMA node (7.1+)."""
    return f"memcg.{member}" in layout or layout.has(f"memcg_node.{member}", "memcg.nodeinfo")


@dataclass(frozen=True)
class Charge:
    """Objects of one cache charged to one struct obj_cgroup."""

    objcg: int
    cache: str
    objects: int
    bytes: int


def charges(memory: Memory, layout: Layout, read: Reading) -> list[Charge]:
    """Return what is charged to each obj_cgroup."""
    slabs = read.slabs
    rows = np.flatnonzero((slabs.exts != 0) & slabs.charged)
    member = np.full(len(rows), layout.offsets.get("ext.objcg", 0))
    sizes, names = slabs.caches.size.tolist(), slabs.caches.name
    result = [
        Charge(objcg, names[cache], count, count * sizes[cache])
        for (objcg, cache), count in count_words(memory, read, rows, member, _POINTER).items()
    ]
    return result + _large_charges(read.large)


def _large_charges(large: LargePages) -> list[Charge]:
    kmem = large.memcg_data & np.uint64(EXTS_FLAGS) == _KMEM_PAGES
    pairs = zip((large.memcg_data[kmem] & _POINTER).tolist(), large.order[kmem], strict=True)
    return [Charge(objcg, LARGE_CACHE, 1, PAGE_BYTES << int(order)) for objcg, order in pairs]


@dataclass
class _Row:
    removed: set[int] = field(default_factory=set)
    objects: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def cgroup_rows(memory: Memory, layout: Layout, read: Reading) -> tuple[CgroupObjects, ...]:
    """Return a row for each cgroup that holds objects, largest first."""
    if not layout.has(*NEEDED):
        return ()
    charged = charges(memory, layout, read)
    objcgs = np.unique(np.array([charge.objcg for charge in charged], np.uint64))
    names = _identify(memory, layout, objcgs, read.nodes)
    named = dict(zip(objcgs.tolist(), names, strict=True))
    rows: dict[tuple[str, CgroupState], _Row] = defaultdict(_Row)
    for charge in charged:
        row = rows[named[charge.objcg]]
        row.removed.add(charge.objcg)
        row.objects[charge.cache] += charge.objects
        row.bytes[charge.cache] += charge.bytes
    result = (
        CgroupObjects(
            cgroup=path,
            state=state,
            cgroups=len(row.removed) if path.endswith(REMOVED) else 1,
            objects=sum(row.objects.values()),
            bytes=sum(row.bytes.values()),
            by_cache=_largest_first(row.bytes),
            objects_by_cache=_largest_first(row.objects),
        )
        for (path, state), row in rows.items()
    )
    return tuple(sorted(result, key=lambda row: (-row.bytes, row.cgroup)))


def _largest_first(values: dict[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))


def _identify(
    memory: Memory, layout: Layout, objcgs: U64, nodes: Sequence[int]
) -> list[tuple[str, CgroupState]]:
    """Return path and state of the cgroup behind each obj_cgroup.

    A removed cgroup's obj_cgroup points to the nearest ancestor that is there, whose own is another
    (memcg_reparent_objcgs()); orig_objcg keeps it as long as the removed cgroup's struct mem_cgroup
    lasts (6.7+).
    """
    memcgs = memory.words(objcgs + np.uint64(layout["objcg.memcg"]))
    current = _members(memory, layout, memcgs, "objcg", nodes)
    inherited = (current != objcgs).all(axis=0) & (len(current) > 0)
    former = _former_owners(memory, layout, memcgs, nodes) if inherited.any() else {}
    owners = memcgs.copy()
    for at in np.flatnonzero(inherited).tolist():
        owners[at] = former.get(int(objcgs[at]), memcgs[at])
    online = _are_online(memory, layout, owners)
    result = []
    owning = memory.words(owners + np.uint64(layout["memcg.css"] + layout["css.cgroup"]))
    for at, path in enumerate(paths(memory, layout, owning)):
        if inherited[at] and owners[at] == memcgs[at]:
            result.append((f"{path.rstrip('/')}/{REMOVED}", CgroupState.DYING))
        else:
            alive = online[at] and not inherited[at]
            result.append((path, CgroupState.ALIVE if alive else CgroupState.DYING))
    return result


def _members(memory: Memory, layout: Layout, memcgs: U64, name: str, nodes: Sequence[int]) -> U64:
    """Return a member of each mem_cgroup, (1, memcgs), or where there is one for each NUMA node
    (7.1+), (nodes, memcgs); (0, memcgs) where there is none."""
    if f"memcg.{name}" in layout:
        return memory.words(memcgs + np.uint64(layout[f"memcg.{name}"]))[None]
    if not layout.has(f"memcg_node.{name}", "memcg.nodeinfo"):
        return np.zeros((0, len(memcgs)), np.uint64)
    infos = [memory.words(memcgs + np.uint64(layout["memcg.nodeinfo"] + 8 * n)) for n in nodes]
    return np.stack(
        [memory.words(info + np.uint64(layout[f"memcg_node.{name}"])) for info in infos]
    )


def _are_online(memory: Memory, layout: Layout, memcgs: U64) -> Bool:
    places = memcgs + np.uint64(layout["memcg.css"] + layout["css.flags"])
    flags = memory.gather(places, 4).view(np.uint32)[:, 0]
    online: Bool = (flags & layout.css_online != 0) & (flags & layout.css_dying == 0)
    return online


def paths(memory: Memory, layout: Layout, cgroups: U64) -> list[str]:
    """Return each cgroup's path, by the names of its kernfs nodes up to the root's, which is
    empty."""
    nodes = memory.words(cgroups + np.uint64(layout["cgroup.kn"]))
    parts: list[list[str]] = [[] for _ in nodes]
    for _ in range(_DEEPEST):
        if not nodes.any():
            break
        names = memory.words(nodes + np.uint64(layout["kn.name"]))
        raw = memory.gather(np.where(nodes == 0, np.uint64(0), names), _NAME_BYTES)
        for path, name in zip(parts, raw, strict=True):
            path.append(escape(name.tobytes().partition(b"\0")[0]))
        parents = memory.words(nodes + np.uint64(layout["kn.parent"]))
        nodes = np.where(nodes == 0, np.uint64(0), parents)
    return ["/" + "/".join(filter(None, reversed(path))) for path in parts]


def _former_owners(
    memory: Memory, layout: Layout, memcgs: U64, nodes: Sequence[int]
) -> dict[int, int]:
    """Return the mem_cgroup that each obj_cgroup was made for, of all memory cgroups that exist:
    removed ones stay among their parent's children until nothing refers to them."""
    if not layout.has("css.parent", "css.children", "css.sibling"):
        return {}
    css = np.unique(memcgs) + np.uint64(layout["memcg.css"])
    for _ in range(_DEEPEST):
        parents = memory.words(css + np.uint64(layout["css.parent"]))
        css = np.unique(np.where(parents == 0, css, parents))
    everyone = descendants(memory, layout, css) - np.uint64(layout["memcg.css"])
    originals = _members(memory, layout, everyone, "orig_objcg", nodes)
    return {
        original: memcg
        for of_node in originals
        for original, memcg in zip(of_node.tolist(), everyone.tolist(), strict=True)
        if original
    }


def descendants(memory: Memory, layout: Layout, roots: U64) -> U64:
    """Return these css and all below them, a step along all lists of children at a time. Lists may
    change meanwhile and lead in circles: each entry is followed once."""
    seen: set[int] = set(roots.tolist())
    parents = roots
    while len(parents):
        heads = parents + np.uint64(layout["css.children"])
        entries = memory.words(heads)
        children = []
        while len(entries):
            css = entries - np.uint64(layout["css.sibling"])
            fresh = np.array([number not in seen for number in css.tolist()], bool)
            fresh &= (entries != heads) & (entries != 0) & (len(seen) < _MOST_CGROUPS)
            heads, entries, css = heads[fresh], entries[fresh], css[fresh]
            seen.update(css.tolist())
            children.append(css)
            entries = memory.words(entries)
        parents = np.concatenate(children) if children else parents[:0]
    return np.array(sorted(seen), np.uint64)
