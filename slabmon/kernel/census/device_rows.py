# SPDX-License-Identifier: Apache-2.0
"""What each device holds: rows of objects and bytes, with and without those of devices below it."""

from __future__ import annotations

from slabmon.base.arrays import Bool
from slabmon.base.errors import UnsupportedHost
from slabmon.census.model import DEVICES_UNSUPPORTED, DeviceObjects
from slabmon.kernel.census import devices, held_rows, retention
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.devices import Identity
from slabmon.kernel.census.held_rows import Figures, Retained
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.reading import Reading


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
        tracer.follow_stacks(reached, tracer.heap.in_use)
        return Retained(limits=(f"{DEVICES_UNSUPPORTED}: {error}",))
    held = retention.follow(tracer, reached, found)
    rows = [
        _row(found.identities[each.number], each)
        for each in held_rows.figures(reading, tracer.heap, found, held)
    ]
    rows.sort(key=lambda row: (-row.retained_bytes, row.bus, row.name))
    names = tuple((identity.bus, identity.name) for identity in found.identities)
    return Retained(tuple(rows), held=held, names=names)


def _row(identity: Identity, figures: Figures) -> DeviceObjects:
    return DeviceObjects(
        bus=identity.bus,
        name=identity.name,
        driver=identity.driver,
        module=identity.module,
        objects=figures.objects,
        bytes=figures.bytes,
        retained_objects=figures.retained_objects,
        retained_bytes=figures.retained_bytes,
        by_cache=figures.by_cache,
    )
