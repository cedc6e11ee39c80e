# SPDX-License-Identifier: Apache-2.0
"""Who holds the pages and the per-CPU memory of the ledger of all memory."""

from __future__ import annotations

from dataclasses import replace

from slabmon.memory.ledger import Ledger, PageHolder
from slabmon.model import BlockKind, PageSite, Snapshot, State

PAGES_FEATURE, PERCPU_FEATURE = "pages", "percpu"
_LIMITS = {PAGES_FEATURE: "pages by caller", PERCPU_FEATURE: "per-CPU memory by caller"}


def unaccounted_pages(snapshot: Snapshot) -> list[PageSite]:
    """Return the call sites that hold pages which no other row of the ledger counts, the largest
    first."""
    return [
        row
        for row in snapshot.page_sites
        if row.kind == BlockKind.PAGES and row.account is None and row.live.bytes
    ]


def percpu_sites(snapshot: Snapshot) -> list[PageSite]:
    """Return the call sites that hold per-CPU memory, the largest first."""
    return [r for r in snapshot.page_sites if r.kind == BlockKind.PERCPU and r.live.bytes]


def with_holders(ledger: Ledger, snapshot: Snapshot) -> Ledger:
    """Return a ledger with the holders of pages and of per-CPU memory of a snapshot. Its limits say
    what is not watched, and why."""
    limits = []
    for name, title in _LIMITS.items():
        feature = snapshot.features.get(name)
        if feature and (feature.state == State.OFF or feature.reason):
            limits.append(f"{title}: {feature.reason}")
    return replace(
        ledger,
        pages=tuple(map(_holder, unaccounted_pages(snapshot))),
        percpu=tuple(map(_holder, percpu_sites(snapshot))),
        limits=(*ledger.limits, *limits),
    )


def _holder(row: PageSite) -> PageHolder:
    return PageHolder(
        symbol=row.symbol,
        offset=row.offset,
        module=row.module,
        live_bytes=row.live.bytes,
        live_stderr_bytes=row.live.stderr_bytes,
        by=row.by,
    )
