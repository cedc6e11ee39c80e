# SPDX-License-Identifier: Apache-2.0
"""Pages and per-CPU memory by call path, by the BPF programs run in this process."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables.paths import PathTable, chances, write_chances
from slabmon.model import BlockKind, PageSite
from tests.support.hosts import KERNELS, facts
from tests.support.kallsyms import CORE, MODULE
from tests.support.native import GFP_KERNEL, Native

PAGES = 0xFFFFEA0004000000  # struct page of a page whose number is a multiple of 1024
STRUCT, PAGE = 64, 4096
MOVABLE, COMP = 1 << 3, 1 << 18
SMALL = Settings(pages=True, site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256)
EXACT = replace(SMALL, exact=Filter(min_size=1))
HELPER, SITE, OTHER_SITE = CORE + 0x11, CORE + 0x144, CORE + 0x188
SYMBOLS = {
    1: Location("bpf_prog_0123456789abcdef", 1, None),
    2: Location("bpf_trace_run4", 1, None),
    HELPER: Location("__get_free_pages", 0x11, None),
    SITE: Location("driver_probe", 0x44, None),
    OTHER_SITE: Location("driver_open", 0x88, None),
    MODULE + 0x20: Location("probe", 0x20, "planted"),
}


class Blocks:
    """A plan's programs and what is read of them."""

    def __init__(self, native: Native, interval: int) -> None:
        self.native = native
        self._interval = interval
        self.now = 0  # of the table's clock, in nanoseconds
        control = native.reader.control
        self.table = PathTable(
            native.programs, native.plan, control, self._locate, {}, lambda: self.now
        )
        write_chances(control, PAGE, interval)
        self.at(SITE)

    @staticmethod
    def _locate(address: int, generation: int) -> Location:
        location = SYMBOLS[address + 1]
        return location._replace(offset=location.offset - 1)

    def at(self, *frames: int) -> None:
        self.native.callers(HELPER, *frames)

    def alloc(self, number: int, order: int = 0, gfp: int = GFP_KERNEL) -> None:
        self.native.run("on_mm_page_alloc", PAGES + number * STRUCT, order, gfp, 0)

    def free(self, number: int, order: int = 0) -> None:
        self.native.run("on_mm_page_free", PAGES + number * STRUCT, order)

    def percpu_alloc(self, pointer: int, size: int) -> None:
        args = [0] * 12
        args[self.native.plan.defines["ARG_PERCPU_SIZE"]] = size
        args[self.native.plan.defines["ARG_PERCPU_POINTER"]] = pointer
        self.native.run("on_percpu_alloc_percpu", *args)

    def rows(self, kind: BlockKind = BlockKind.PAGES) -> list[PageSite]:
        exact = self.native.plan.settings.exact
        return [row for row in self.table.rows(self._interval, exact) if row.kind == kind]

    def row(self, kind: BlockKind = BlockKind.PAGES) -> PageSite:
        (row,) = self.rows(kind)
        return row

    def losses(self) -> dict[str, int]:
        return {name: n for name, n in self.native.reader.losses().items() if n}


Open = Callable[..., Blocks]


@pytest.fixture
def open_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(settings: Settings = EXACT, kernel: str = "6.18", interval: int = 0) -> Blocks:
        native = Native(make_plan(facts(kernel), settings), tmp_path, monkeypatch)
        native.start()
        return Blocks(native, interval)

    return make


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_of_the_kernel_are_counted_exactly_by_call_site(
    open_blocks: Open, kernel: str
) -> None:
    blocks = open_blocks(kernel=kernel)
    for i in range(101):
        blocks.alloc(i)
    blocks.at(OTHER_SITE)
    for i in range(13):
        blocks.alloc(1024 + 4 * i, 2, GFP_KERNEL | COMP)
    for i in range(37):
        blocks.free(i)
    small, large = blocks.rows()
    assert (large.symbol, large.offset, large.by) == ("driver_open", 0x88, "__get_free_pages")
    assert (large.allocs, large.frees, large.live.bytes) == (13, 0, 13 * 4 * PAGE)
    assert (small.symbol, small.allocs, small.frees) == ("driver_probe", 101, 37)
    assert (small.live.objects, small.live.bytes) == (64, 64 * PAGE)
    assert (small.live.stderr_bytes, small.live.high_bytes) == (0, 64 * PAGE)
    assert (small.exact, small.sizes) == (True, {PAGE: 64 * PAGE})
    assert large.sizes == {4 * PAGE: 13 * 4 * PAGE}
    assert blocks.losses() == {}


def test_pages_of_users_and_failures_are_left_out(open_blocks: Open) -> None:
    blocks = open_blocks()
    blocks.alloc(0, gfp=GFP_KERNEL | MOVABLE)
    blocks.native.run("on_mm_page_alloc", 0, 0, GFP_KERNEL, 0)
    blocks.free(0)
    assert blocks.rows() == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_block_is_freed_page_by_page(open_blocks: Open, kernel: str) -> None:
    """As alloc_pages_exact() of five pages does it."""
    blocks = open_blocks(kernel=kernel)
    blocks.alloc(8, 3)
    for number in (13, 14, 15):
        blocks.free(number)
    assert blocks.row().live.bytes == 5 * PAGE
    for number in (13, 14, 15):  # others had them meanwhile
        blocks.free(number)
    assert blocks.row().live.bytes == 5 * PAGE
    blocks.free(8)
    blocks.free(10, 1)
    assert blocks.row().live.bytes == 2 * PAGE
    blocks.free(8)
    blocks.free(9)
    blocks.free(12)
    assert blocks.row().live.bytes == 0
    assert blocks.row().freed_bytes == 8 * PAGE
    assert blocks.native.used("page_blocks") == 0
    assert blocks.losses() == {}


def test_parts_of_large_blocks_are_bounded_and_counted(open_blocks: Open) -> None:
    blocks = open_blocks()
    blocks.alloc(0, 8)
    blocks.free(4, 2)  # a 64th of it
    blocks.free(8)  # less than that
    assert blocks.row().live.bytes == 252 * PAGE
    assert blocks.losses() == {"block_parts": 1}
    blocks.free(0, 8)
    assert blocks.row().live.bytes == 0


def test_a_compound_page_ends_at_once(open_blocks: Open) -> None:
    blocks = open_blocks()
    blocks.alloc(8, 3, GFP_KERNEL | COMP)
    blocks.free(9)
    assert blocks.row().live.bytes == 8 * PAGE
    blocks.free(8, 3)
    assert blocks.row().live.bytes == 0


def test_a_block_whose_free_was_not_seen_is_replaced(open_blocks: Open) -> None:
    blocks = open_blocks()
    blocks.alloc(8)
    blocks.at(OTHER_SITE)
    blocks.alloc(8)
    assert {row.symbol: row.live.bytes for row in blocks.rows()} == {
        "driver_probe": 0,
        "driver_open": PAGE,
    }
    assert blocks.losses() == {"blocks_replaced": 1}


def test_a_full_table_is_a_counted_loss(open_blocks: Open) -> None:
    blocks = open_blocks()
    places = blocks.native.plan.defines["NR_PAGE_BLOCKS"]
    for i in range(places + 11):
        blocks.alloc(i)
    assert blocks.row().live.objects == places
    assert blocks.losses() == {"blocks_full": 11}


@pytest.mark.parametrize("order", [0, 2])
def test_a_sample_estimates_live_bytes_within_its_error(
    open_blocks: Open, order: int, rng: random.Random
) -> None:
    interval, count = 256 << 10, 20_011
    blocks = open_blocks(replace(SMALL, samples=65536), interval=interval)
    blocks.native.set("random", rng.getrandbits(31) | 1)
    size = PAGE << order
    for i in range(count):
        blocks.alloc(i << order, order, GFP_KERNEL | COMP)
    row = blocks.row()
    assert not row.exact
    assert row.live.bytes == pytest.approx(count * size, abs=5 * row.live.stderr_bytes)
    assert row.allocated_bytes == row.live.bytes
    expected = math.sqrt(count * size * interval)
    assert row.live.stderr_bytes == pytest.approx(expected, rel=0.2)
    assert row.live.low_bytes < row.live.bytes == row.live.high_bytes
    for i in range(count):
        blocks.free(i << order, order)
    row = blocks.row()
    assert (row.live.bytes, row.live.stderr_bytes) == (0, 0)
    assert blocks.losses() == {}


def test_chances_by_order() -> None:
    chance, weight, variance = chances(PAGE, 256 << 10)
    p = 1 - math.exp(-PAGE / (256 << 10))
    assert chance[0] / 2**32 == pytest.approx(p)
    assert weight[0] == pytest.approx(PAGE / p, abs=1)
    assert variance[0] * 65536 == pytest.approx(PAGE**2 * (1 - p) / p**2, rel=1e-3)
    assert (int(chance[15]), int(variance[15])) == (1 << 32, 0)
    chance, weight, variance = chances(PAGE, 0)
    assert set(chance.tolist()) == {1 << 32}
    assert weight.tolist() == [PAGE << order for order in range(16)]
    assert not variance.any()


def test_the_filter_of_exact_mode_selects_pages(open_blocks: Open) -> None:
    blocks = open_blocks(replace(SMALL, exact=Filter(module="planted")))
    blocks.native.reader.select_text(((MODULE, MODULE + 0x1000),))
    blocks.alloc(1)
    assert blocks.rows() == []
    blocks.at(MODULE + 0x20, SITE)
    blocks.alloc(2)
    assert (blocks.row().module, blocks.row().live.bytes) == ("planted", PAGE)
    blocks.at(SITE, MODULE + 0x20)  # a function that the module calls
    blocks.alloc(3)
    assert blocks.row().live.bytes == PAGE


@pytest.mark.parametrize(
    ("site", "shown"),
    [("driver_probe", 1), ("driver_probe+0x10", 1), ("driver_probe#1+16", 1), ("driver_open", 0)],
)
def test_a_site_of_exact_mode_is_shown_however_it_is_written(
    open_blocks: Open, site: str, shown: int
) -> None:
    blocks = open_blocks(replace(SMALL, exact=Filter(site=site)))
    blocks.native.reader.select_text(((SITE, SITE + 1),))
    blocks.alloc(1)
    assert len(blocks.rows()) == shown


def test_pages_are_forgotten_while_nothing_is_attached(open_blocks: Open) -> None:
    blocks = open_blocks()
    blocks.alloc(1)
    blocks.percpu_alloc(0x60FF00000010, 24)
    blocks.table.forget_pages()
    assert (blocks.row().live.bytes, blocks.row().allocs) == (0, 1)
    assert blocks.row(BlockKind.PERCPU).live.objects == 1
    blocks.free(1)
    assert (blocks.row().live.bytes, blocks.row().frees) == (0, 0)
    blocks.alloc(1)
    assert blocks.row().live.bytes == PAGE


@pytest.mark.parametrize("kernel", KERNELS)
def test_per_cpu_memory_is_exact_on_all_cpus(open_blocks: Open, kernel: str) -> None:
    blocks = open_blocks(replace(SMALL, pages=False), kernel=kernel, interval=256 << 10)
    for i in range(149):
        blocks.percpu_alloc(0x60FF00000000 + 32 * i, 24)
    for i in range(50):
        blocks.native.run("on_percpu_free_percpu", 0, 0, 0x60FF00000000 + 32 * i)
    blocks.native.run("on_percpu_free_percpu", 0, 0, 0x60FF01000000)  # from before
    for _ in range(3):
        blocks.native.run("on_percpu_alloc_percpu_fail", 0, 0, 24, 8)
    row = blocks.row(BlockKind.PERCPU)
    cpus = facts(kernel).cpus
    assert (row.allocs, row.frees, row.failed, row.exact) == (149, 50, 3, True)
    assert (row.live.objects, row.live.bytes) == (99, 99 * 24 * cpus)
    assert (row.allocated_bytes, row.freed_bytes) == (149 * 24 * cpus, 50 * 24 * cpus)
    assert row.sizes == {24: 99 * 24 * cpus}
    assert (row.live.stderr_bytes, row.live.high_bytes) == (0, row.live.bytes)
    assert blocks.losses() == {}
