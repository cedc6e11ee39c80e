# SPDX-License-Identifier: Apache-2.0
"""Objects by the memory cgroup they are charged to."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np

from slabmon.census.model import CgroupState
from slabmon.kernel.census import cgroups
from tests.support.slab_memory import LAYOUT, OFFSETS, FakeKernel

ONLINE, DYING = 2, 16


class Hierarchy:
    """Memory cgroups in a kernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.children: dict[int, list[int]] = {}

    def cgroup(self, name: str, parent: int = 0, flags: int = ONLINE) -> tuple[int, int]:
        """Add a memory cgroup below another; return its mem_cgroup and its obj_cgroup."""
        kernel, css = self.kernel, OFFSETS["memcg.css"]
        text = kernel.place(name.encode() + b"\0" + bytes(256))
        above = self._node(parent) if parent else 0
        cgroup = kernel.record("cgroup", kn=kernel.record("kn", name=text, parent=above))
        memcg = kernel.record("memcg", size=1024)
        objcg = kernel.record("objcg", memcg=memcg)
        words = {
            OFFSETS["memcg.objcg"]: objcg if flags == ONLINE else 0,
            OFFSETS["memcg.orig_objcg"]: objcg,
            css + OFFSETS["css.cgroup"]: cgroup,
            css + OFFSETS["css.flags"]: flags,
            css + OFFSETS["css.parent"]: parent + css if parent else 0,
        }
        for offset, value in words.items():
            kernel.memory.write_word(memcg + offset, value)
        self.children.setdefault(parent, []).append(memcg)
        self.children[memcg] = []
        self._link(memcg)
        if parent:
            self._link(parent)
        return memcg, objcg

    def _node(self, memcg: int) -> int:
        word = self.kernel.memory.word
        cgroup = word(memcg + OFFSETS["memcg.css"] + OFFSETS["css.cgroup"])
        return word(cgroup + OFFSETS["cgroup.kn"])

    def _link(self, memcg: int) -> None:
        css = OFFSETS["memcg.css"]
        entries = [child + css + OFFSETS["css.sibling"] for child in self.children[memcg]]
        self.kernel.circle(memcg + css + OFFSETS["css.children"], entries)


def vector(kernel: FakeKernel, objcgs: dict[int, int], objects: int) -> int:
    """A slab's object extensions: obj_cgroup by place."""
    return kernel.place(struct.pack(f"<{objects}Q", *(objcgs.get(i, 0) for i in range(objects))))


def rows(kernel: FakeKernel, free: tuple[int, ...] = ()) -> dict[str, tuple[str, int, int, int]]:
    found = cgroups.cgroup_rows(kernel.memory, LAYOUT, kernel.reading(free=free))
    return {row.cgroup: (row.state, row.cgroups, row.objects, row.bytes) for row in found}


def test_objects_in_use_are_counted_for_the_cgroup_they_are_charged_to() -> None:
    kernel = FakeKernel()
    tree = Hierarchy(kernel)
    root, _ = tree.cgroup("")
    top, first = tree.cgroup("web", root)
    _, second = tree.cgroup("one", top)
    cache = kernel.cache("accounted", 64)
    charged = {1: first, 2: second, 3: second, 4: second}
    kernel.slab(cache, free=[0], exts=vector(kernel, charged, cache.objects))
    other = kernel.cache("other", 128)
    kernel.slab(other, exts=vector(kernel, {5: second}, other.objects))
    kernel.slab(cache)  # not accounted
    kernel.large(3, memcg_data=first | 2)
    assert rows(kernel, free=(4,)) == {
        "/web": (CgroupState.ALIVE, 1, 2, 64 + 32768),
        "/web/one": (CgroupState.ALIVE, 1, 3, 2 * 64 + 128),
    }


def test_objects_of_removed_cgroups_are_dying_by_name_where_it_is_known() -> None:
    kernel = FakeKernel()
    tree = Hierarchy(kernel)
    root, _ = tree.cgroup("")
    parent, own = tree.cgroup("parent", root)
    _, zombie = tree.cgroup("zombie", parent, flags=DYING)
    gone = [kernel.record("objcg", memcg=parent) for _ in range(2)]
    kernel.memory.write_word(zombie + OFFSETS["objcg.memcg"], parent)
    cache = kernel.cache("accounted", 64)
    charged = {1: own, 2: zombie, 3: zombie, 4: gone[0], 5: gone[1], 6: gone[1]}
    kernel.slab(cache, free=[0], exts=vector(kernel, charged, cache.objects))
    assert rows(kernel) == {
        "/parent": (CgroupState.ALIVE, 1, 1, 64),
        "/parent/zombie": (CgroupState.DYING, 1, 2, 128),
        "/parent/[removed]": (CgroupState.DYING, 2, 3, 192),
    }


def test_each_numa_node_may_have_an_obj_cgroup_of_its_own() -> None:
    offsets = {k: v for k, v in OFFSETS.items() if k not in ("memcg.objcg", "memcg.orig_objcg")}
    offsets |= {"memcg.nodeinfo": 600, "memcg_node.objcg": 8, "memcg_node.orig_objcg": 16}
    layout = dataclasses.replace(LAYOUT, offsets=offsets)
    kernel = FakeKernel()
    memcg, first = Hierarchy(kernel).cgroup("")
    second, gone = (kernel.record("objcg", memcg=memcg) for _ in range(2))
    for node, objcg in enumerate((first, second)):
        info = kernel.place(struct.pack("<3Q", 0, objcg, objcg))
        kernel.memory.write_word(memcg + 600 + 8 * node, info)
    objcgs = np.array([first, second, gone], np.uint64)
    found = cgroups._identify(kernel.memory, layout, objcgs, nodes=[0, 1])
    assert found == [
        ("/", CgroupState.ALIVE),
        ("/", CgroupState.ALIVE),
        ("/[removed]", CgroupState.DYING),
    ]


def test_a_list_of_children_that_leads_in_a_circle_ends() -> None:
    kernel = FakeKernel()
    tree = Hierarchy(kernel)
    root, _ = tree.cgroup("")
    parent, _ = tree.cgroup("parent", root)
    child, _ = tree.cgroup("child", parent)
    sibling = child + OFFSETS["memcg.css"] + OFFSETS["css.sibling"]
    kernel.memory.write_word(sibling, sibling)
    cache = kernel.cache("accounted", 64)
    gone = kernel.record("objcg", memcg=parent)
    kernel.slab(cache, free=[0], exts=vector(kernel, {1: gone}, cache.objects))
    assert rows(kernel) == {"/parent/[removed]": (CgroupState.DYING, 1, 1, 64)}
