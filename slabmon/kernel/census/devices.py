# SPDX-License-Identifier: Apache-2.0
"""All registered devices, and the objects they are in.

Their kobjects are in the kset that is called `devices` (devices_kset, drivers/base/core.c). Those
that lie in the kernel's image, in a module or in vmalloc memory (alloc_netdev_mqs(), where
kmalloc() fails) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U8, U64, contained
from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.census import kobjects
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.kobjects import texts
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.pages import column
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Retainers, depths, in_order, places

_KSET = "devices"
_NEEDED = (
    *kobjects.NEEDED,
    "kobject.name",
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
class Devices(Retainers):
    """Devices, with the objects that they are in, or that are their drivers' data. `addresses` are
    those of each struct device."""

    identities: tuple[Identity, ...]
    addresses: U64


def find(memory: Memory, layout: Layout, reading: Reading, heap: Heap, aliases: Aliases) -> Devices:
    """Find them. Raises UnsupportedHost if this kernel's devices differ."""
    layout.require("devices", *_NEEDED)
    registered, ksets = kobjects.find(memory, layout, reading, heap, aliases, _KSET)
    devices = registered - np.uint64(layout["device.kobj"])
    copies = _Copies.of(memory, layout, devices, ksets)
    if not len(copies.addresses):
        raise UnsupportedHost("no directory of sysfs was found that belongs to a device")
    parent = places(copies.addresses, copies.word("device.parent"))
    order, parent = in_order(parent, depths(parent))
    copies = _Copies(layout, copies.addresses[order], copies.raw[order])
    objects, holder = _holders(heap, copies)
    return Devices(
        identities=tuple(_identities(memory, layout, copies)),
        addresses=copies.addresses,
        parent=parent,
        depth=depths(parent),
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
    for labels in zip(*(texts(memory, each) for each in columns), strict=True):
        bus_name, name, driver_name, module = labels
        yield Identity(bus_name, name, driver_name or None, module or None)


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
