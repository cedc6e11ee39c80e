# SPDX-License-Identifier: Apache-2.0
"""Room in the kernel's table of call paths: who makes it, and that no figure changes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slabmon.kernel.bpf import maps
from slabmon.kernel.planning import plan
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location
from slabmon.kernel.tables.paths import EVERY_NS
from slabmon.model import BlockKind, PageSite
from tests.support.hosts import facts
from tests.support.kallsyms import CORE, MODULE
from tests.support.native import Native
from tests.unit.bpf.test_blocks import EXACT, OTHER_SITE, PAGE, SITE, SYMBOLS, Blocks

PATHS, FULL = 16, 12  # paths in the table; with more, it makes room
OUTER = CORE + 0x1001  # functions from which the site is reached
LEFT = 7  # pages that the busy path keeps
PERCPU = 0x60FF00000000


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blocks:
    monkeypatch.setattr(plan, "_CALL_PATHS", PATHS)
    for i in range(64):
        monkeypatch.setitem(SYMBOLS, OUTER + 16 * i, Location(f"outer_{i}", 1, None))
    native = Native(make_plan(facts(), EXACT), tmp_path, monkeypatch)
    native.start()
    return Blocks(native, 0)


def come_and_go(blocks: Blocks, path: int, pages: int = 1, site: int = SITE) -> None:
    """Allocate pages by one path and free them."""
    blocks.at(site, OUTER + 16 * path)
    for number in range(pages):
        blocks.alloc(4096 + number)
    for number in range(pages):
        blocks.free(4096 + number)


def looks(blocks: Blocks, count: int = 1) -> list[PageSite]:
    """Look at the table some times, the last of which returns the rows."""
    for _ in range(count):
        blocks.now += EVERY_NS
        rows = blocks.rows()
    return rows


def used(blocks: Blocks) -> int:
    return blocks.native.used("paths")


def test_idle_paths_of_a_site_are_merged_when_the_table_fills_up(blocks: Blocks) -> None:
    for path in range(11):
        come_and_go(blocks, path, 3)
    come_and_go(blocks, 11, 5, OTHER_SITE)
    assert used(blocks) == FULL
    before = looks(blocks, 3)
    assert used(blocks) == FULL, "there is room"
    come_and_go(blocks, 12, 13)
    looks(blocks)
    assert used(blocks) == FULL + 1, "nobody knows yet who is idle"
    rows = looks(blocks, 2)
    assert used(blocks) == 2, "one for each site"
    assert {row.symbol: (row.allocs, row.frees) for row in rows} == {
        "driver_probe": (11 * 3 + 13, 11 * 3 + 13),
        "driver_open": (5, 5),
    }
    assert {row.symbol: row.sizes for row in rows} == {row.symbol: row.sizes for row in before}
    assert blocks.losses() == {}


def test_new_callers_find_room_and_paths_that_return_add_up(blocks: Blocks) -> None:
    for path in range(PATHS):
        come_and_go(blocks, path)
    come_and_go(blocks, 20, site=OTHER_SITE)
    assert blocks.losses() == {"paths_full": 1}
    looks(blocks, 2)
    assert used(blocks) == 1
    come_and_go(blocks, 20, 17, OTHER_SITE)
    for path in range(5):
        come_and_go(blocks, path, 11)
    blocks.table.clear()
    rows = {row.symbol: row for row in looks(blocks)}
    assert (rows["driver_open"].allocs, rows["driver_open"].frees) == (17, 17)
    assert rows["driver_probe"].allocs == rows["driver_probe"].frees == PATHS + 5 * 11
    assert rows["driver_probe"].allocated_bytes == (PATHS + 5 * 11) * PAGE
    assert blocks.losses() == {"paths_full": 1}


def test_it_goes_on_for_many_more_paths_than_there_is_room_for(blocks: Blocks) -> None:
    latest = 0
    for path in range(61):
        come_and_go(blocks, path, 3)
        (row,) = looks(blocks)
        assert row.allocs == row.frees == latest + 3
        latest = row.allocs
    assert used(blocks) <= FULL + 2
    assert len(blocks.table._known) == used(blocks), "of merged paths nothing is kept"
    assert blocks.losses() == {}


def test_paths_in_use_stay(blocks: Blocks) -> None:
    for path in range(13):
        come_and_go(blocks, path)
    blocks.at(SITE, OUTER)
    for number in range(LEFT):
        blocks.alloc(number)
    for _ in range(5):
        come_and_go(blocks, 1)
        (row,) = looks(blocks)
    assert used(blocks) == 3, "one with pages, one with events, one of all others"
    assert (row.live.objects, row.live.bytes) == (LEFT, LEFT * PAGE)
    for number in range(LEFT):
        blocks.free(number)
    (row,) = looks(blocks)
    assert (row.allocs, row.frees, row.live.bytes) == (13 + LEFT + 5, 13 + LEFT + 5, 0)
    assert row.freed_bytes == (13 + LEFT + 5) * PAGE


def test_looks_that_are_close_together_do_not_make_paths_idle(blocks: Blocks) -> None:
    for path in range(13):
        come_and_go(blocks, path)
    looks(blocks)
    blocks.now += EVERY_NS - 1
    blocks.rows()
    assert used(blocks) == 13
    blocks.now += 1
    blocks.rows()
    assert used(blocks) == 1


def test_paths_without_a_name_wait_for_it(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sites of a module whose symbols are not known yet look like one."""
    with monkeypatch.context() as unnamed:
        for site in (SITE, OTHER_SITE):
            unnamed.setitem(SYMBOLS, site, Location(UNKNOWN, 1, None))
        for path in range(7):
            come_and_go(blocks, path, 3)
            come_and_go(blocks, path, 2, OTHER_SITE)
        (row,) = looks(blocks, 3)
        assert (row.allocs, used(blocks)) == (7 * 5, 14)
    blocks.table.clear()
    rows = looks(blocks)
    assert {row.symbol: row.allocs for row in rows} == {"driver_probe": 21, "driver_open": 14}
    assert used(blocks) == 2


def test_sizes_and_kinds_are_not_mixed(blocks: Blocks) -> None:
    for path in range(5):
        come_and_go(blocks, path)
        for order in (1, 2):
            blocks.alloc(1024, order)
            blocks.free(1024, order)
        for i, size in enumerate((24, 40)):
            blocks.percpu_alloc(PERCPU + 64 * i, size)
            blocks.native.run("on_percpu_free_percpu", 0, 0, PERCPU + 64 * i)
        if path == 2:
            looks(blocks, 2)
    assert used(blocks) == 5 + 2 * 5
    looks(blocks, 2)
    assert used(blocks) == 5
    pages, memory = blocks.row(), blocks.row(BlockKind.PERCPU)
    assert (pages.allocs, pages.allocated_bytes) == (15, 5 * (1 + 2 + 4) * PAGE)
    assert (memory.allocs, memory.allocated_bytes) == (10, 5 * (24 + 40) * facts().cpus)


def test_the_path_with_the_latest_names_is_kept(blocks: Blocks) -> None:
    """Of a module that was loaded three times, at the same address."""
    for path in range(13):
        if path in (2, 5, 11):
            blocks.native.module(MODULE, 0x1000)
        come_and_go(blocks, path, site=MODULE + 0x20)
    (row,) = looks(blocks, 2)
    _, (record,) = blocks.table._read()
    assert (row.module, row.allocs, int(record["generation"])) == ("planted", 13, 3)


@pytest.mark.parametrize(("moment", "lost"), [("update", 2), ("delete", 1)])
def test_what_is_allocated_while_its_path_is_merged_is_a_counted_loss(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch, moment: str, lost: int
) -> None:
    """It is in no figure, and its free changes none."""
    for path in range(13):
        come_and_go(blocks, path)
    looks(blocks)
    change: Any = getattr(maps, moment)

    def interrupted(fd: int, key: np.ndarray, *value: np.ndarray) -> None:
        """All paths have an event before the first change of the table."""
        monkeypatch.setattr(maps, moment, change)
        for path in range(13):
            blocks.at(SITE, OUTER + 16 * path)
            blocks.alloc(path)
        change(fd, key, *value)

    monkeypatch.setattr(maps, moment, interrupted)
    looks(blocks)
    assert blocks.losses() == {"paths_full": lost}
    (row,) = looks(blocks)
    assert (row.allocs, row.live.objects) == (13 + 13 - lost, 13 - lost)
    for path in range(13):
        blocks.free(path)
    (row,) = looks(blocks)
    assert (row.frees, row.live.bytes) == (13 + 13 - lost, 0)
    assert blocks.native.used("page_blocks") == 0
