# SPDX-License-Identifier: Apache-2.0
"""All registered devices, and the objects they are in.

A directory of sysfs is a kernfs_node, which leads to its kobject and back (`priv`, `kobject.sd`);
that of a device is in the kset that is called `devices` (devices_kset, drivers/base/core.c). No
symbol and no lock is needed. Devices that lie in the kernel's image, in a module or in vmalloc
memory (alloc_netdev_mqs(), where kmalloc() fails) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U8, U64, Bool, contained
from slabmon.base.errors import UnsupportedHost
from slabmon.base.escape import escape
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.pages import column
from slabmon.kernel.census.reading import Reading

_NODES = "kernfs_node_cache"
_KSET = "devices"
_NAME_BYTES = 64
_NEEDED = (
    "kn.priv",
    "kobject.name",
    "kobject.kset",
    "kobject.sd",
    "kset.name",
    "device.kobj",
    "device.parent",
    "device.bus",
    "device.class",
    "device.driver",
    "device.driver_data",
    "bus.name",
    "class.name",
    "driver.name",
    "driver.owner",
    "module.name",
)


@dataclass(frozen=True)
class Identity:
    """What a device is called. `bus` is the bus, else the class, else empty, as in DeviceIdentity
    (kernel/devres/walker.py)."""

    bus: str
    name: str
    driver: str | None
    module: str | None


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Devices by number, parents before their children. `parent` is a number, NONE at the top.
    `objects` are numbers in a heap of the objects a device is in, or that are its driver's data,
    each once; `holder` is the device of each."""

    identities: tuple[Identity, ...]
    parent: I64  # (devices,)
    depth: I64  # (devices,), 0 at the top
    objects: I64  # (objects,)
    holder: I64  # (objects,) device


def find(memory: Memory, layout: Layout, reading: Reading, heap: Heap, aliases: Aliases) -> Devices:
    """Find them. Raises UnsupportedHost if this kernel's devices are not understood."""
    missing = [name for name in _NEEDED if name not in layout]
    if missing:
        raise UnsupportedHost(f"this kernel's devices are not understood ({', '.join(missing)})")
    copies = _Copies.of(memory, layout, *_addresses(memory, layout, reading, heap, aliases))
    if not len(copies.addresses):
        raise UnsupportedHost("no directory of sysfs was found that belongs to a device")
    parent = _places(copies.addresses, copies.word("device.parent"))
    depth = _depths(parent)
    order = np.lexsort((copies.addresses, depth))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    parent = np.where(parent[order] == NONE, NONE, place[parent[order]])
    copies = _Copies(layout, copies.addresses[order], copies.raw[order])
    objects, holder = _holders(heap, copies)
    return Devices(
        identities=tuple(_identities(memory, layout, copies)),
        parent=parent,
        depth=depth[order],
        objects=objects,
        holder=holder,
    )


@dataclass(frozen=True)
class _Copies:
    """Copies of devices' structs, each of one moment: (devices, bytes)."""

    layout: Layout
    addresses: U64  # (devices,)
    raw: U8

    @classmethod
    def of(cls, memory: Memory, layout: Layout, addresses: U64, ksets: U64) -> _Copies:
        """Copy the structs at these addresses that are registered: those in one of these ksets.
        Others were freed meanwhile, and what is in them leads anywhere."""
        size = max(layout[name] for name in _NEEDED if name.startswith("device."))
        raw = memory.gather(addresses, size + layout["kobject.sd"] + 8)
        copies = cls(layout, addresses, raw)
        registered = contained(copies.word("device.kobj", "kobject.kset"), ksets)
        return cls(layout, addresses[registered], raw[registered])

    def word(self, member: str, part: str | None = None) -> U64:
        """Return a member of each struct, or a part of it."""
        offset = self.layout[member] + (self.layout[part] if part else 0)
        words: U64 = column(self.raw, offset, np.uint64)
        return words


def _addresses(
    memory: Memory, layout: Layout, reading: Reading, heap: Heap, aliases: Aliases
) -> tuple[U64, U64]:
    """Return the address of each struct device, in order, and those of the ksets they are in."""
    slabs = reading.slabs
    names = [(name, *aliases.get(name, ())) for name in slabs.caches.name]
    hold_nodes = np.array([_NODES in each for each in names], bool)
    nodes = np.flatnonzero(np.repeat(hold_nodes[slabs.cache], slabs.objects))
    found = [np.zeros((2, 0), np.uint64)]
    for numbers, words in heap.contents(memory, nodes[heap.in_use[nodes]]):
        kobjects = words[:, layout["kn.priv"] // 8]
        known = reading.in_ram(kobjects)
        kobjects, directories = kobjects[known], heap.addresses_of(numbers[known])
        back = memory.words(kobjects + np.uint64(layout["kobject.sd"]))
        kobjects = kobjects[back == directories]
        ksets = memory.words(kobjects + np.uint64(layout["kobject.kset"]))
        found.append(np.stack([kobjects, ksets])[:, _are_called(memory, layout, ksets, _KSET)])
    kobjects, ksets = np.concatenate(found, axis=1)
    return np.unique(kobjects) - np.uint64(layout["device.kobj"]), np.unique(ksets)


def _are_called(memory: Memory, layout: Layout, ksets: U64, name: str) -> Bool:
    known, number = np.unique(ksets, return_inverse=True)
    pointers = memory.words(known + np.uint64(layout["kset.name"]))
    called = np.array([each == name for each in _texts(memory, pointers)], bool) & (known != 0)
    are: Bool = called[number]
    return are


def _places(addresses: U64, wanted: U64) -> I64:
    """Return the place of each wanted address among the addresses, NONE if it is not there."""
    place = np.minimum(np.searchsorted(addresses, wanted), len(addresses) - 1)
    return np.where(addresses[place] == wanted, place, NONE)


def _depths(parent: I64) -> I64:
    """Return how many parents each device has. What changes meanwhile may lead in circles: a device
    whose parents do not end has none."""
    depth = np.zeros(len(parent), np.int64)
    at = parent
    while (at != NONE).any() and depth.max() < len(parent):
        depth[at != NONE] += 1
        at = np.where(at == NONE, NONE, parent[at])
    endless = at != NONE
    parent[endless], depth[endless] = NONE, 0
    return depth


def _identities(memory: Memory, layout: Layout, copies: _Copies) -> Iterator[Identity]:
    def word(place: U64, member: str) -> U64:
        """Return a member of each struct, 0 where there is no struct."""
        return np.where(place == 0, np.uint64(0), memory.words(place + np.uint64(layout[member])))

    bus, driver = copies.word("device.bus"), copies.word("device.driver")
    owner = word(driver, "driver.owner")
    columns = (
        np.where(bus == 0, word(copies.word("device.class"), "class.name"), word(bus, "bus.name")),
        copies.word("device.kobj", "kobject.name"),
        word(driver, "driver.name"),
        np.where(owner == 0, np.uint64(0), owner + np.uint64(layout["module.name"])),
    )
    for texts in zip(*(_texts(memory, each) for each in columns), strict=True):
        bus_name, name, driver_name, module = texts
        yield Identity(bus_name, name, driver_name or None, module or None)


def _texts(memory: Memory, pointers: U64) -> list[str]:
    raw = memory.gather(pointers, _NAME_BYTES)
    texts = [escape(row.tobytes().partition(b"\0")[0]) for row in raw]
    return [text if pointer else "" for text, pointer in zip(texts, pointers, strict=True)]


def _holders(heap: Heap, copies: _Copies) -> tuple[I64, I64]:
    """Return the objects that devices are in, and those that are their drivers' data, and the
    device of each: that which is in it, and of several the topmost."""
    data = copies.word("device.driver_data")
    objects = np.concatenate([heap.find(copies.addresses), heap.find(data)])
    holder = np.tile(np.arange(len(data)), 2)
    valid = objects != NONE
    valid[valid] = heap.in_use[objects[valid]]
    distinct, first = np.unique(objects[valid], return_index=True)
    return distinct, holder[valid][first]
