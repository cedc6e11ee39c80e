# SPDX-License-Identifier: Apache-2.0
"""Who holds pages and per-CPU memory, in the ledger of all memory."""

from __future__ import annotations

from slabmon.analysis.page_holders import with_holders
from slabmon.memory.ledger import Ledger, PageHolder
from slabmon.model import FeatureState, Live, State
from tests.support.builders import page_site, snapshot

EMPTY = Ledger(taken=1.0, total_bytes=0, unaccounted_bytes=0, uncounted_bytes=0, rows=())


def test_pages_of_other_rows_and_freed_ones_are_left_out() -> None:
    taken = snapshot()
    slab, freed = page_site(account="slab"), page_site(live=Live())
    ledger = with_holders(EMPTY, snapshot(page_sites=(*taken.page_sites, slab, freed)))
    assert ledger.pages == (
        PageHolder(
            symbol="anon_pipe_write",
            offset=0x1A8,
            module=None,
            live_bytes=262_144,
            live_stderr_bytes=100_000,
            by="alloc_pages",
        ),
    )
    assert [(row.symbol, row.live_bytes) for row in ledger.percpu] == [("mm_init", 64)]


def test_what_is_not_watched_is_a_limit() -> None:
    features = {
        "pages": FeatureState(State.OFF, "not asked for"),
        "percpu": FeatureState(State.ON),
    }
    assert with_holders(EMPTY, snapshot(features=features)).limits == (
        "pages by caller: not asked for",
    )
    assert with_holders(EMPTY, snapshot(features={})).limits == ()
