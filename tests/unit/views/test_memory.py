# SPDX-License-Identifier: Apache-2.0
"""The view of all memory."""

from __future__ import annotations

import dataclasses

from slabmon.views.memory import MEMORY, rows
from slabmon.views.table import Table
from tests.support.builders import snapshot
from tests.support.censuses import census
from tests.support.memory import MIB, TOTAL, reading, scan

COUNTERS = dataclasses.replace(snapshot(), memory=reading())
SCANNED = dataclasses.replace(COUNTERS, census=dataclasses.replace(census(), memory=scan()))


def test_rows_add_up_with_and_without_struct_pages() -> None:
    for each in (COUNTERS, SCANNED):
        assert sum(row.bytes for row in rows(each)) == TOTAL
        assert rows(each)[-1].name == "unaccounted"
        assert all(row.bytes for row in rows(each)[:-1])


def test_kernel_pages_are_those_of_the_last_census() -> None:
    assert {row.name: row.bytes for row in rows(SCANNED)}["kernel_pages"] == 60 * MIB
    assert "kernel_pages" not in {row.name for row in rows(COUNTERS)}


def test_a_snapshot_without_counters_has_no_rows() -> None:
    assert rows(snapshot()) == ()


def test_shares_are_of_all_memory() -> None:
    table = Table.of(MEMORY, SCANNED)
    cells = table.cells([0], MEMORY.columns)[0]
    shown = dict(zip((column.name for column in MEMORY.columns), cells, strict=True))
    assert (shown["name"], shown["bytes"]) == ("page_cache", 1100 * MIB)
    assert shown["share"] == 0.275
