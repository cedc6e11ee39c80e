# SPDX-License-Identifier: Apache-2.0
"""What modules, cgroups and processes retain, in memory made by hand."""

from __future__ import annotations

import dataclasses

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.base.retained import RetainedBy
from slabmon.kernel.census import retained_rows
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.memory import KernelMemory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reach import Tracer
from tests.support.slab_memory import (
    DIRECT_MAP,
    LAYOUT,
    OFFSETS,
    STRUCT_PAGE,
    VMEMMAP,
    FakeKernel,
)

SIZE = 128
TASK = {"task.pid": 0, "task.tgid": 4, "task.comm": 8, "task.cgroups": 24}
MODULE = {
    "module_kobject.kobj": 8,
    "module_kobject.mod": 64,
    "module.base": 0,
    "module.base[1]": 80,
    "module.size": 8,
    "vmap_area.vm": 16,
    "area.addr": 0,
    "area.pages": 8,
    "area.nr_pages": 16,
}
CGROUP = {
    "css.cgroup": 8,
    "css.parent": 16,
    "css.children": 24,
    "css.sibling": 40,
    "cgroup.kn": 56,
    "cgroup.subsys": 64,
    "css_set.subsys": 0,
}
LAYOUT_OF_ALL = dataclasses.replace(
    LAYOUT,
    offsets={**OFFSETS, **TASK, **MODULE, **CGROUP},
    enums={"CGROUP_SUBSYS_COUNT": 2, "memory_cgrp_id": 1, "MOD_MEM_NUM_TYPES": 2},
)
AREA = 0xFFFFFFFFC0000000


class Host:
    """Objects of 128 bytes in caches of these names, and a page of the kernel that refers to
    some."""

    def __init__(self, *names: str) -> None:
        self.kernel = FakeKernel()
        self.caches = {name: self.kernel.cache(name, SIZE) for name in (*names, "things")}
        self.kernel.slab(self.caches["things"], free=[0])  # shows where the direct map is
        self._slabs = {name: self.kernel.slab(cache) for name, cache in self.caches.items()}
        self._made = dict.fromkeys(self.caches, 0)
        self._root = DIRECT_MAP + self.kernel.add_pages() * PAGE_BYTES

    def new(self, *words: int, cache: str = "things") -> int:
        address = self.kernel.object(self.caches[cache], self._slabs[cache], self._made[cache])
        self._made[cache] += 1
        self.kernel.memory.write(address, bytes(SIZE))
        for place, word in enumerate(words):
            self.kernel.memory.write_word(address + 8 * place, word)
        return address

    def set(self, address: int, **members: int) -> int:
        """Write 64-bit members, STRUCT__MEMBER."""
        for name, value in members.items():
            at = LAYOUT_OF_ALL[name.replace("__", ".")]
            self.kernel.memory.write_word(address + at, value)
        return address

    def hold(self, word: int) -> None:
        self.kernel.memory.write_word(self._root, word)
        self._root += 8

    def rows(self, kind: RetainedBy, task: int = 0) -> dict[str, tuple[int, int]]:
        """Objects of each, and those it retains."""
        objects = PAGE_BYTES // SIZE
        free = set(range(objects))
        for number, name in enumerate(self.caches, 1):
            free |= set(range(number * objects + self._made[name], (number + 1) * objects))
        reading = self.kernel.reading(LAYOUT_OF_ALL, free=free)
        heap = Heap(reading, LAYOUT_OF_ALL)
        memory: KernelMemory = self.kernel.memory  # type: ignore[assignment]  # a fake
        memory.locate = lambda cpu=None: (task, 0)  # type: ignore[method-assign]
        found = retained_rows.find(kind, memory, LAYOUT_OF_ALL, reading, heap, {})
        tracer = Tracer(memory, LAYOUT_OF_ALL, reading, heap)
        reached = tracer.from_outside(found)
        retained = retained_rows.follow(kind, reading, tracer, reached, found)
        assert {row.kind for row in retained.others} <= {kind}
        self.unreached = int((heap.in_use & ~reached).sum())
        return {row.name: (row.objects, row.retained_objects) for row in retained.others}


def test_threads_of_a_process_retain_what_only_they_lead_to() -> None:
    host = Host("task_struct")
    shared, both = host.new(host.new()), host.new()
    host.hold(both)
    for pid, tgid, word in ((7, 7, shared), (8, 7, shared), (9, 9, both)):
        task = host.new(pid | tgid << 32, 0, 0, 0, word, cache="task_struct")
        host.kernel.memory.write(task + 8, f"sh{pid}".encode())
        host.hold(task)
    assert host.rows(RetainedBy.PROCESS) == {"sh7[7]": (4, 4), "sh9[9]": (1, 1)}
    assert not host.unreached


def test_cgroups_retain_what_only_they_and_their_children_lead_to() -> None:
    host = Host()
    root, parent, child = (host.new() for _ in range(3))
    for above, below in ((root, parent), (parent, child)):
        head, entry = above + CGROUP["css.children"], below + CGROUP["css.sibling"]
        host.kernel.circle(head, [entry])
    last = child + CGROUP["css.children"]
    host.kernel.circle(last, [])
    for cgroup, above, name in ((root, 0, ""), (parent, root, "a"), (child, parent, "b")):
        node = host.kernel.record("kn", name=host.kernel.place(name.encode() + b"\0" * 64))
        host.set(cgroup, css__cgroup=cgroup, css__parent=above, cgroup__kn=node)
        if above:
            kn_of_parent = int(host.kernel.memory.word(above + CGROUP["cgroup.kn"]))
            host.kernel.memory.write_word(node + OFFSETS["kn.parent"], kn_of_parent)
    # What the memory controller keeps of the root, which another object leads to.
    memory = host.new(0, root, 0)
    host.kernel.circle(memory + CGROUP["css.children"], [])
    host.kernel.memory.write_word(root + CGROUP["cgroup.subsys"] + 8, memory)
    host.kernel.memory.write_word(child + SIZE - 8, host.new(host.new()))
    sets = host.kernel.place((0).to_bytes(8, "little") + memory.to_bytes(8, "little"))
    task = host.kernel.place(bytes(64))
    host.kernel.memory.write_word(task + TASK["task.cgroups"], sets)
    host.hold(root)
    found = host.rows(RetainedBy.CGROUP, task)
    assert found == {"/": (2, 6), "/a": (1, 4), "/a/b": (3, 3)}


def test_modules_retain_what_only_their_memory_leads_to() -> None:
    host = Host("kernfs_node_cache", "vmap_area")
    kset = host.kernel.record("kset", name=host.kernel.place(b"module\0" + bytes(64)))
    module = host.kernel.place(bytes(256))
    host.kernel.memory.write(module + OFFSETS["module.name"], b"gizmo\0")
    directory = host.new()
    node = host.new(cache="kernfs_node_cache")
    host.hold(node)
    host.set(node, kn__priv=directory + 8)
    host.set(directory + 8, kobject__sd=node, kobject__kset=kset)
    host.set(directory, module_kobject__mod=module)
    pages = [host.kernel.add_pages() for _ in range(2)]
    structs = b"".join((VMEMMAP + pfn * STRUCT_PAGE).to_bytes(8, "little") for pfn in pages)
    area = host.new(AREA, host.kernel.place(structs), len(pages))
    host.hold(host.new(0, 0, area, cache="vmap_area"))
    host.set(module, module__base=0x1000, module__size=0x1000)
    host.kernel.memory.write_word(module + MODULE["module.base[1]"], AREA)
    host.kernel.memory.write_word(module + 88, 2 * PAGE_BYTES)
    shared, own = host.new(), host.new(host.new())
    host.hold(shared)
    for place, word in enumerate((shared, own)):
        host.kernel.memory.write_word(DIRECT_MAP + pages[1] * PAGE_BYTES + 8 * place, word)
    assert host.rows(RetainedBy.MODULE) == {"gizmo": (2, 2)}
    assert not host.unreached


@pytest.mark.parametrize("kind", [RetainedBy.MODULE, RetainedBy.CGROUP, RetainedBy.PROCESS])
def test_a_kernel_that_differs_is_named(kind: RetainedBy) -> None:
    host = Host()
    reading = host.kernel.reading()
    memory: KernelMemory = host.kernel.memory  # type: ignore[assignment]  # a fake
    memory.locate = lambda cpu=None: (0, 0)  # type: ignore[method-assign]
    with pytest.raises(UnsupportedHost, match="expected in its BTF"):
        retained_rows.find(kind, memory, LAYOUT, reading, Heap(reading, LAYOUT), {})
