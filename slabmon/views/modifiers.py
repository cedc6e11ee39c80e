# SPDX-License-Identifier: Apache-2.0
"""The view of GFP modifiers."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from slabmon.base.gfp import MODIFIERS
from slabmon.base.units import PERCENT
from slabmon.views import columns as c
from slabmon.views.columns import Column, Kind, label
from slabmon.views.drilldown import group_links
from slabmon.views.view import View

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.views.table import Table


class ModifierRow(NamedTuple):
    """A modifier's counters, and `total_allocs` of all allocations. None: not counted."""

    name: str
    allocs: int | None = None
    allocated_bytes: int | None = None
    failed: int | None = None
    total_allocs: int | None = None

    @property
    def counted(self) -> bool:
        """Whether the snapshot has counters of the modifier."""
        return self.allocs is not None


def rows(snapshot: Snapshot) -> list[ModifierRow]:
    """Return all modifiers: a rate or difference to a snapshot that lacks one is unknown then."""
    total = sum(row.allocs for row in snapshot.gfp)
    counted = {
        row.name: ModifierRow(row.name, row.allocs, row.allocated_bytes, row.failed, total)
        for row in snapshot.modifiers
    }
    return [counted.get(name, ModifierRow(name)) for name in MODIFIERS]


def note(table: Table) -> str:
    """Return why modifiers are not counted, "" if all are."""
    if not table.window.snapshot.modifiers:
        return "not recorded: the slabmon that took this snapshot did not count by modifier"
    unknown = [row.name for row in rows(table.window.snapshot) if not row.counted]
    if not unknown:
        return ""
    return (
        f"not counted: {', '.join(unknown)}; neither BTF nor the format of the kmalloc tracepoint "
        "has their bits"
    )


GFP_MODIFIERS = View(
    name="modifiers",
    title="allocations by modifier of GFP flags: one may have several or none, so that rows do "
    "not add up to the total",
    rows=rows,
    key=attrgetter("name"),
    columns=(
        label(
            "modifier",
            "`zero` is __GFP_ZERO (kzalloc), and so on: what callers ask for. __GFP_ACCOUNT and "
            "__GFP_COMP that the allocator adds by itself do not count.",
            path="name",
        ),
        c.ALLOCS,
        Column(
            name="share",
            unit=PERCENT,
            kind=Kind.RATIO,
            help="Share of all allocations since tracking began.",
            get=lambda t: t.quotient(t.now("allocs"), t.now("total_allocs")),
        ),
        c.ALLOCATED,
        c.FAILED,
        c.ALLOC_RATE,
        c.BYTE_RATE,
        c.FAIL_RATE,
    ),
    brief=(
        "modifier",
        "allocs",
        "share",
        "allocs_per_second",
        "allocated_bytes",
        "allocated_bytes_per_second",
        "failed",
        "failed_per_second",
    ),
    sort="allocs",
    links=tuple(
        replace(link, applies=attrgetter("counted"))
        for link in group_links("modifier", get=attrgetter("name"))
    ),
    note=note,
)
