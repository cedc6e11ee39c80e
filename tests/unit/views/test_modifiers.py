# SPDX-License-Identifier: Apache-2.0
"""The view of GFP modifiers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slabmon.base.gfp import MODIFIERS
from slabmon.model import GfpClass, GfpModifier, Snapshot
from slabmon.store.codec import decode
from slabmon.views.modifiers import GFP_MODIFIERS
from slabmon.views.table import Table
from slabmon.views.window import Instant
from tests.support.builders import snapshot, window_of
from tests.support.formats import FORMATS

COUNTED = snapshot(
    gfp=(GfpClass("kernel", 150, 9600, 5), GfpClass("atomic", 50, 3200, 0)),
    modifiers=(GfpModifier("zero", 120, 7680, 5), GfpModifier("high", 50, 3200, 0)),
)
NOT_RECORDED = "not recorded: the slabmon that took this snapshot did not count by modifier"


def cells(table: Table, *columns: str) -> dict[str, tuple[Any, ...]]:
    names = ("modifier", *columns)
    rows = table.cells(table.order(), [GFP_MODIFIERS.column(name) for name in names])
    return {str(row[0]): row[1:] for row in rows}


def later(found: Snapshot, seconds: float, *modifiers: GfpModifier) -> Snapshot:
    tracking = replace(found.tracking, seconds=found.tracking.seconds + seconds)
    return replace(found, tracking=tracking, modifiers=modifiers)


def test_shares_are_of_all_allocations_and_do_not_add_up() -> None:
    found = cells(Table.of(GFP_MODIFIERS, COUNTED), "allocs", "share", "failed")
    assert (found["zero"], found["high"]) == ((120, 0.6, 5), (50, 0.25, 0))


def test_a_modifier_whose_bit_is_unknown_is_shown_as_such() -> None:
    table = Table.of(GFP_MODIFIERS, COUNTED)
    found = cells(table, "allocs", "share", "allocated_bytes", "failed", "allocs_per_second")
    assert set(found) == set(MODIFIERS)
    assert found["nofail"] == (None,) * 5
    assert table.note.startswith("not counted: account, nowarn, noretry, retry_mayfail, nofail, ")
    for row, link in ((row, link) for row in table.listing.rows for link in GFP_MODIFIERS.links):
        assert link.applies(row) == (GFP_MODIFIERS.key(row) in ("zero", "high"))


def test_nothing_is_said_where_all_are_counted() -> None:
    assert Table.of(GFP_MODIFIERS, snapshot()).note == ""


def test_an_earlier_recording_lacks_them_and_says_so() -> None:
    old = decode((FORMATS / "5.snapshot").read_bytes())
    table = Table.of(GFP_MODIFIERS, old)
    assert table.note == NOT_RECORDED
    assert set(cells(table, "allocs", "share", "failed").values()) == {(None,) * 3}


def test_what_was_not_counted_before_has_no_rate_and_no_change() -> None:
    """A daemon continues the counters of an earlier version."""
    counted = later(COUNTED, 10, *COUNTED.modifiers)
    window = window_of(later(COUNTED, 0), counted)
    assert set(cells(Table(GFP_MODIFIERS, window), "allocs_per_second").values()) == {(None,)}
    mark = Instant(later(COUNTED, 0))
    assert cells(Table(GFP_MODIFIERS, window, mark), "allocs", "failed")["zero"] == (None, None)
    mark = Instant(later(COUNTED, 0, GfpModifier("zero", 20, 1280, 2)))
    assert cells(Table(GFP_MODIFIERS, window, mark), "allocs", "failed")["zero"] == (100, 3)
