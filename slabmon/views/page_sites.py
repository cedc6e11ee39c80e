# SPDX-License-Identifier: Apache-2.0
"""The view of pages and per-CPU memory by call site."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from slabmon.base.format import human
from slabmon.base.units import BYTES
from slabmon.views import columns as c
from slabmon.views.columns import Column, Kind, attribute, label
from slabmon.views.view import Link, View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slabmon.base.arrays import Values
    from slabmon.views.columns import TableFigures


def _sizes(table: TableFigures) -> Values:
    import numpy as np  # only for figures: it takes too long for the command line

    return np.array([_text(sizes) for sizes in table.now("sizes")], object)


def _text(sizes: Mapping[int, int]) -> str:
    return ", ".join(f"{human(size, BYTES)}: {human(n, BYTES)}" for size, n in sizes.items() if n)


PAGE_SITES = View(
    name="page_sites",
    title="pages and per-CPU memory by caller",
    rows=lambda snapshot: snapshot.page_sites,
    key=attrgetter("kind", "symbol", "offset", "module", "by"),
    columns=(
        label(
            "site",
            "Function and offset of the first caller that is no allocator.",
            path="label",
        ),
        label("module", "Module the call is in; none: core kernel."),
        label("component", "Built-in driver, file system or subsystem, by its prefix."),
        label("kind", "pages, of the page allocator, or percpu: per-CPU memory."),
        label(
            "by",
            "The allocator's function that it called, such as __get_free_pages; one that ends in a "
            "call of another leaves no trace.",
        ),
        label(
            "account",
            "Row of the view memory that counts these pages too (slab, vmalloc, percpu, "
            "page_tables); none: they are kernel pages without an account.",
        ),
        attribute(
            "exact",
            kind=Kind.FLAG,
            help="Whether the figures are exact; else they are estimated from samples.",
        ),
        attribute(
            "allocs",
            unit=c.ALLOCS.unit,
            kind=Kind.ESTIMATE,
            help="Allocations since it is watched.",
        ),
        attribute("frees", unit=c.FREES.unit, kind=Kind.ESTIMATE, help="Frees of these."),
        attribute(
            "failed",
            unit=c.FAILED.unit,
            kind=Kind.COUNTER,
            help="Failed allocations; of per-CPU memory only.",
        ),
        attribute(
            "allocated_bytes",
            unit=BYTES,
            kind=Kind.ESTIMATE,
            help="Bytes allocated since it is watched.",
            title="allocated",
        ),
        attribute(
            "freed_bytes",
            unit=BYTES,
            kind=Kind.ESTIMATE,
            help="Bytes freed of these.",
            title="freed",
        ),
        *c.LIVE,
        Column(
            name="sizes",
            kind=Kind.LABEL,
            help="Live bytes by the size of a block, which of per-CPU memory is that on one CPU.",
            get=_sizes,
            title="by block",
        ),
        c.ALLOC_RATE,
        c.FREE_RATE,
        c.BYTE_RATE,
        *c.growth("live_bytes"),
    ),
    brief=(
        "site",
        "module",
        "kind",
        "live_bytes",
        "growth_bytes_per_hour",
        "history",
        "by",
        "account",
        "allocs",
        "frees",
        "failed",
        "sizes",
    ),
    sort="live_bytes",
    figure="live.bytes",
    figure_error="live.stderr_bytes",
    links=(
        Link(title="same kind", where=(("kind", attrgetter("kind")),), view="page_sites"),
        Link(title="all memory", view="memory"),
    ),
)
