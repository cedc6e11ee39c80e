# SPDX-License-Identifier: Apache-2.0
"""What each device holds: rows of objects and bytes, with and without those of devices below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, Bool
from slabmon.base.errors import UnsupportedHost
from slabmon.census.model import DEVICES_UNSUPPORTED, DeviceObjects
from slabmon.kernel.census import devices, retention
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.devices import Devices
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retention import Held
from slabmon.model import LARGE_CACHE

_NAMED = 8  # caches of a device


@dataclass(frozen=True)
class Retained:
    """Rows of devices that hold something, those that retain most first, or why there are none."""

    rows: tuple[DeviceObjects, ...] = ()
    limits: tuple[str, ...] = ()


def follow(
    memory: Memory,
    layout: Layout,
    reading: Reading,
    tracer: Tracer,
    reached: Bool,
    aliases: Aliases,
) -> Retained:
    """Mark as reached what the reached objects lead to, and return what devices hold of it."""
    try:
        found = devices.find(memory, layout, reading, tracer.heap, aliases)
    except UnsupportedHost as error:
        tracer.follow(reached, tracer.heap.in_use)
        return Retained(limits=(f"{DEVICES_UNSUPPORTED}: {error}",))
    held = retention.follow(tracer, reached, found)
    rows = _rows(reading, tracer.heap, found, held)
    return Retained(tuple(sorted(rows, key=lambda row: (-row.retained_bytes, row.bus, row.name))))


def _rows(reading: Reading, heap: Heap, found: Devices, held: Held) -> Iterator[DeviceObjects]:
    mine = held.device != NONE
    device, size = held.device[mine], heap.sizes_of(held.objects[mine])
    cache = heap.caches_of(held.objects[mine])
    count = len(found.identities)
    objects = np.bincount(device, minlength=count)
    own = np.bincount(device, size, minlength=count).astype(np.int64)
    retained_objects, retained = _with_children(found, objects), _with_children(found, own)
    names = (*reading.slabs.caches.name, LARGE_CACHE)
    order = np.argsort(device, kind="stable")
    edges = np.cumsum(objects)
    for number in np.flatnonzero(retained_objects).tolist():
        its = order[edges[number] - objects[number] : edges[number]]
        by_cache = np.bincount(cache[its], size[its], minlength=len(names)).astype(np.int64)
        largest = np.argsort(-by_cache, kind="stable")[:_NAMED].tolist()
        identity = found.identities[number]
        yield DeviceObjects(
            bus=identity.bus,
            name=identity.name,
            driver=identity.driver,
            module=identity.module,
            objects=int(objects[number]),
            bytes=int(own[number]),
            retained_objects=int(retained_objects[number]),
            retained_bytes=int(retained[number]),
            by_cache={names[n]: int(by_cache[n]) for n in largest if by_cache[n]},
        )


def _with_children(found: Devices, values: I64) -> I64:
    """Return the sum of each device's value and those of all devices below it."""
    total = values.copy()
    for depth in range(int(found.depth.max(initial=0)), 0, -1):
        level = found.depth == depth
        np.add.at(total, found.parent[level], total[level])
    return total
