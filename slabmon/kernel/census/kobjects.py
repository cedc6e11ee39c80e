# SPDX-License-Identifier: Apache-2.0
"""Kobjects of one kind, by the directories of sysfs.

A directory is a kernfs_node, which leads to its kobject and back (`priv`, `kobject.sd`), and that
to its kset, whose name tells the kind. No symbol and no lock is needed.
"""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import U64, Bool
from slabmon.base.escape import escape
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading

_NODES = "kernfs_node_cache"
_NAME_BYTES = 64
_KERNEL = np.uint64(1 << 63)  # the kernel's half of addresses
NEEDED = ("kn.priv", "kobject.kset", "kobject.sd", "kset.name")


def find(
    memory: Memory,
    layout: Layout,
    reading: Reading,
    heap: Heap,
    aliases: Aliases,
    kset: str,
    *,
    in_modules: bool = False,
) -> tuple[U64, U64]:
    """Return the address of each kobject in ksets of this name, in order, and those of the ksets.
    Kobjects outside the direct map are left out, unless `in_modules`: then they may be in the
    memory of modules. What a kernfs_node leads to is never a device's registers."""
    slabs = reading.slabs
    names = [(name, *aliases.get(name, ())) for name in slabs.caches.name]
    hold_nodes = np.array([_NODES in each for each in names], bool)
    nodes = np.flatnonzero(np.repeat(hold_nodes[slabs.cache], slabs.objects))
    found = [np.zeros((2, 0), np.uint64)]
    for numbers, words in heap.contents(memory, nodes[heap.in_use[nodes]]):
        kobjects = words[:, layout["kn.priv"] // 8]
        known = kobjects >= _KERNEL if in_modules else reading.in_ram(kobjects)
        kobjects, directories = kobjects[known], heap.addresses_of(numbers[known])
        back = memory.words(kobjects + np.uint64(layout["kobject.sd"]))
        kobjects = kobjects[back == directories]
        ksets = memory.words(kobjects + np.uint64(layout["kobject.kset"]))
        found.append(np.stack([kobjects, ksets])[:, _are_called(memory, layout, ksets, kset)])
    kobjects, ksets = np.concatenate(found, axis=1)
    return np.unique(kobjects), np.unique(ksets)


def _are_called(memory: Memory, layout: Layout, ksets: U64, name: str) -> Bool:
    known, number = np.unique(ksets, return_inverse=True)
    pointers = memory.words(known + np.uint64(layout["kset.name"]))
    called = np.array([each == name for each in texts(memory, pointers)], bool) & (known != 0)
    are: Bool = called[number]
    return are


def texts(memory: Memory, pointers: U64) -> list[str]:
    """Return the text at each address, up to 64 bytes; "" where there is none."""
    raw = memory.gather(pointers, _NAME_BYTES)
    found = [escape(row.tobytes().partition(b"\0")[0]) for row in raw]
    return [text if pointer else "" for text, pointer in zip(found, pointers, strict=True)]
