# SPDX-License-Identifier: Apache-2.0
"""The view of all memory: the ledger's rows, and what is unaccounted."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from slabmon.base.units import BYTES
from slabmon.views.census import census_note
from slabmon.views.columns import SHARE, Kind, attribute, growth, label
from slabmon.views.view import Link, View

if TYPE_CHECKING:
    from slabmon.model import Snapshot

UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """A row of the ledger, or what is unaccounted, with the total that it is a share of."""

    name: str
    title: str
    kind: str
    bytes: int
    total_bytes: int
    exactness: str
    source: str


def rows(snapshot: Snapshot) -> tuple[MemoryRow, ...]:
    """Return the ledger of a snapshot, with the struct pages of its last census; () if it has no
    counters of memory. Rows of nothing are left out."""
    from slabmon.memory.ledger import account  # only here: it imports msgspec

    if snapshot.memory is None:
        return ()
    ledger = account(snapshot.memory, snapshot.census.memory if snapshot.census else None)
    total = ledger.total_bytes
    return (
        *(
            MemoryRow(
                name=row.name,
                title=row.title,
                kind=row.kind,
                bytes=row.bytes,
                total_bytes=total,
                exactness=row.exactness,
                source=row.source,
            )
            for row in ledger.rows
            if row.bytes
        ),
        MemoryRow(
            name=UNACCOUNTED,
            title=UNACCOUNTED,
            kind=UNACCOUNTED,
            bytes=ledger.unaccounted_bytes,
            total_bytes=total,
            exactness="inferred",
            source="MemTotal less all rows",
        ),
    )


MEMORY = View(
    name="memory",
    title="all of the host's memory, adding up to MemTotal",
    rows=rows,
    key=attrgetter("name"),
    columns=(
        label("title", "What the memory is for.", title="memory"),
        label("name", "Name of the row in metrics and JSON."),
        label("kind", "kernel, user, cache, free, reserved, or unaccounted."),
        attribute("bytes", unit=BYTES, kind=Kind.GAUGE, help="Memory of the row."),
        SHARE,
        *growth("bytes"),
        label("exactness", "Whether the kernel counts it, or it is inferred.", title="sure"),
        label("source", "Where the figure is from."),
    ),
    brief=("title", "bytes", "share", "growth_bytes_per_hour", "history", "kind", "source"),
    sort="bytes",
    figure="bytes",
    links=(Link(title="same-kind", where=(("kind", attrgetter("kind")),), view="memory"),),
    note=census_note,
    census=True,
)
