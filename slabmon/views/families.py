# SPDX-License-Identifier: Apache-2.0
"""The view of families of caches."""

from __future__ import annotations

from operator import attrgetter

from slabmon.base.units import BYTES, COUNT
from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.columns import Kind, attribute, label
from slabmon.views.drilldown import group_links
from slabmon.views.view import Link, View

FAMILIES = View(
    name="families",
    title="families of caches: all kinds of one kmalloc size together",
    rows=rows.families,
    key=attrgetter("name"),
    columns=(
        label(
            "family",
            "The name that kmalloc-64, kmalloc-cg-64, kmalloc-rcl-64, kmalloc-rnd-NN-64, "
            "kmalloc-part-NN-64 and dma-kmalloc-64 share; of other caches, their name.",
            path="name",
        ),
        attribute("caches", unit=COUNT, kind=Kind.GAUGE, help="Caches in the family."),
        c.HELD,
        c.ALLOCS,
        c.FREES,
        c.FAILED,
        c.REQUESTED,
        c.ALLOCATED,
        *c.LIVE,
        c.OBSERVABLE,
        attribute(
            "active_objects",
            unit=COUNT,
            kind=Kind.GAUGE,
            help="Objects in use by /proc/slabinfo, earlier ones included; an upper bound.",
            title="active",
        ),
        attribute(
            "slab_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Memory of all slabs of its caches (/proc/slabinfo).",
            title="slabs",
        ),
        c.ALLOC_RATE,
        c.FREE_RATE,
        c.FAIL_RATE,
        c.BYTE_RATE,
        *c.WASTE,
        *c.growth("live_bytes"),
        c.GROWTH_ERROR,
        *c.AGES,
    ),
    brief=(
        "family",
        "caches",
        "held_bytes",
        "live_bytes",
        "live_high_bytes",
        "growth_bytes_per_hour",
        "history",
        "allocs_per_second",
        "frees_per_second",
        "allocated_bytes",
        "failed",
    ),
    sort="held_bytes",
    figure="live.bytes",
    figure_error="live.stderr_bytes",
    links=(
        Link(title="caches", where=(("family", attrgetter("name")),), view="caches"),
        *group_links("family", get=attrgetter("name"), without=("cache",)),
    ),
)
