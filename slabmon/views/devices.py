# SPDX-License-Identifier: Apache-2.0
"""The view of devices with managed resources or memory for DMA."""

from __future__ import annotations

from operator import attrgetter

from slabmon.base.units import BYTES, COUNT
from slabmon.views import columns as c
from slabmon.views.census import OF_DEVICE
from slabmon.views.columns import Kind, attribute
from slabmon.views.view import Link, View

_SAME_DEVICE = (("device.bus", attrgetter("bus")), ("device.name", attrgetter("name")))

DEVICES = View(
    name="devices",
    title="devices with managed (devres) resources or DMA memory",
    rows=lambda snapshot: snapshot.devices,
    key=attrgetter("bus", "name"),
    columns=(
        *c.device_labels(),
        c.DRIVER_MODULE,
        attribute("resources", unit=COUNT, kind=Kind.GAUGE, help="Managed resources it holds."),
        attribute(
            "managed_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Sum of their sizes, without headers.",
            title="managed",
        ),
        attribute(
            "slab_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Bytes that the slab objects behind them occupy.",
            title="slab",
        ),
        attribute(
            "dma_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Bytes that its driver allocated for DMA (dma_alloc_coherent() and its like) "
            "since tracking began and has not freed: whole pages, of no slab.",
            title="DMA",
        ),
        attribute(
            "held_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Managed and DMA memory together, which share none.",
            title="held",
        ),
        c.RETAINED,
        attribute(
            "added", unit=COUNT, kind=Kind.COUNTER, help="Resources added since tracking began."
        ),
        attribute(
            "removed",
            unit=COUNT,
            kind=Kind.COUNTER,
            help="Resources removed since tracking began.",
        ),
        attribute(
            "dma_allocs",
            unit=COUNT,
            kind=Kind.COUNTER,
            help="Allocations of DMA memory since tracking began.",
        ),
        attribute(
            "dma_frees",
            unit=COUNT,
            kind=Kind.COUNTER,
            help="Frees of DMA memory that was allocated since tracking began.",
        ),
        attribute(
            "dma_failed",
            unit=COUNT,
            kind=Kind.COUNTER,
            help="Allocations of DMA memory that failed.",
        ),
        attribute(
            "dma_earlier_frees",
            unit=COUNT,
            kind=Kind.COUNTER,
            help="Frees of DMA memory that was allocated before tracking began.",
        ),
        *c.growth("managed_bytes"),
    ),
    brief=(
        "bus",
        "name",
        "driver",
        "module",
        "held_bytes",
        "managed_bytes",
        "dma_bytes",
        "resources",
        "slab_bytes",
        c.RETAINED.name,
        "growth_bytes_per_hour",
        "history",
        "added",
        "removed",
    ),
    sort="held_bytes",
    figure="managed_bytes",
    links=(
        Link(title="resources", where=_SAME_DEVICE, view="resources"),
        Link(title="caches", where=_SAME_DEVICE, view="holdings"),
        Link(title="retained", where=OF_DEVICE, view="retained"),
        Link(title="objects", where=OF_DEVICE, view="contents"),
    ),
)
