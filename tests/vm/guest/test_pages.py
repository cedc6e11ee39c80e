# SPDX-License-Identifier: Apache-2.0
"""Planted pages and per-CPU memory appear at their call sites."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import BlockKind, PageSite
from tests.vm.guest import planted as module

CPUS = len(os.sched_getaffinity(0))
# get_zeroed_page() and alloc_pages_exact() may end in a jump, and then leave no frame.
TAIL_CALLED = {
    "get_zeroed_page": {"get_zeroed_page", "__get_free_pages", "alloc_pages"},
    "alloc_pages_exact": {"alloc_pages_exact", "__get_free_pages"},
    "__get_free_pages": {"__get_free_pages", "alloc_pages"},
    "alloc_pages": {
        "alloc_pages",
        "alloc_pages_current",
        "__alloc_pages",
        "__alloc_pages_nodemask",
    },
    "__alloc_percpu": {"__alloc_percpu", "pcpu_alloc"},
}


@pytest.fixture(autouse=True)
def dropped(planted: None) -> Iterator[None]:
    yield
    module.pages("drop")


def of_module(tracker: Tracker) -> dict[str, PageSite]:
    """The rows of the planted module, by function."""
    snapshot = tracker.snapshot()
    losses = {name: n for name, n in snapshot.losses.items() if n}
    print(losses)
    assert not losses.keys() & {"blocks_full", "paths_full", "block_stacks", "blocks_replaced"}
    rows = [row for row in snapshot.page_sites if row.module == module.NAME]
    for row in rows:
        print(row)
    assert len({row.symbol for row in rows}) == len(rows)
    return {row.symbol: row for row in rows}


def test_each_site_is_counted_exactly() -> None:
    """In three steps: all is held, some of it is freed, all of it is."""
    settings = Settings(exact=Filter(module=module.NAME), samples=65536)
    before = {site.symbol: site for site in module.pages("drop")}
    with open_tracker(settings) as tracker:
        for step in ("hold", "less", "drop"):
            expected = module.pages(step)
            rows = of_module(tracker)
            assert rows.keys() == {site.symbol for site in expected if site.kind != "user"}
            for site in expected:
                if site.kind == "user":
                    continue
                row, cpus = rows[site.symbol], CPUS if site.kind == "percpu" else 1
                earlier = before[site.symbol]
                assert (row.kind, row.exact) == (site.kind, True)
                assert row.by in TAIL_CALLED[site.by]
                assert row.allocs == site.allocs - earlier.allocs
                assert row.allocated_bytes == cpus * (
                    site.allocated_bytes - earlier.allocated_bytes
                )
                assert row.freed_bytes == cpus * (site.freed_bytes - earlier.freed_bytes)
                assert row.live.bytes == cpus * site.live_bytes
                assert row.live.stderr_bytes == 0
                assert row.account == ("percpu" if site.kind == "percpu" else None)
                assert row.sizes == {site.size: cpus * site.live_bytes}


def test_a_sample_is_within_its_error() -> None:
    with open_tracker(Settings(pages=True, sample_bytes=16 << 10)) as tracker:
        for step in ("hold", "less"):
            expected = [site for site in module.pages(step) if site.kind == "pages"]
            rows = of_module(tracker)
            for site in expected:
                row = rows.get(site.symbol)
                live = row.live.bytes if row else 0
                error = row.live.stderr_bytes if row else 0
                assert abs(live - site.live_bytes) <= 5 * max(error, 32 << 10)
            total = sum(site.live_bytes for site in expected)
            live = sum(rows[site.symbol].live.bytes for site in expected if site.symbol in rows)
            error2 = sum(row.live.stderr_bytes**2 for row in rows.values())
            assert abs(live - total) <= 5 * error2**0.5
        (percpu,) = [site for site in module.pages() if site.kind == "percpu"]
        assert rows[percpu.symbol].live.bytes == CPUS * percpu.live_bytes
        module.pages("drop")
        assert not any(row.live.bytes for row in of_module(tracker).values())


def test_memory_of_the_other_kinds_is_at_its_sites() -> None:
    """Memory that tests of the ledger plant: pages by order, per-CPU memory, vmalloc."""
    with open_tracker(Settings(exact=Filter(module=module.NAME), samples=131072)) as tracker:
        try:
            held = module.memory("hold")
            rows = tracker.snapshot().page_sites
            by_size: dict[int, int] = {}
            for row in rows:
                if row.module == module.NAME and row.account is None:
                    for size, live in row.sizes.items():
                        by_size[size] = by_size.get(size, 0) + live
            print(by_size, held)
            page = os.sysconf("SC_PAGE_SIZE")
            assert by_size.get(page, 0) >= held["order0"]
            assert by_size.get(page << 2, 0) == held["order2"]
            assert by_size.get(page << 3, 0) == held["order3"]
            percpu = [r for r in rows if r.kind == BlockKind.PERCPU and r.module == module.NAME]
            assert sum(row.live.bytes for row in percpu) == held["percpu"]
        finally:
            module.memory("drop")
        rows = tracker.snapshot().page_sites
        left = [row for row in rows if row.module == module.NAME and row.account is None]
        assert not any(row.live.bytes for row in left)
