# SPDX-License-Identifier: Apache-2.0
"""Rows of caches: what was counted, and what is known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.probe.gfp import STABLE_BITS, classifier
from slabmon.kernel.probe.slabinfo import Nature
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.caches import LARGE
from slabmon.kernel.tables.lanes import sum_allocations, sum_frees
from slabmon.model import LARGE_CACHE, UNRESOLVED_CACHE, Cache, Live, Slabinfo
from tests.support.records import (
    alloc_slots,
    cache_record,
    free_slots,
    generation_slot,
    generations,
    kmalloc,
)
from tests.support.tables import (
    DENTRY,
    GFP_ATOMIC,
    GFP_KERNEL,
    KMALLOC,
    KMALLOC_ROW,
    NO_FREES,
    RECLAIM,
    caches,
    directory,
    locate,
    read,
)


def plain_rows(
    table: dict[str, Any],
    slabinfo: dict[str, Slabinfo] | None = None,
    bulk_unseen: bool = True,
) -> tuple[Cache, ...]:
    """Rows of caches that nothing but events and slabinfo know."""
    return assemble.cache_rows(
        table,
        live={},
        slabinfo=slabinfo or {},
        aliases={},
        nature_of=lambda _, size: Nature(size, False),
        interval=0,
        bulk_unseen=bulk_unseen,
        net={},
    )


def test_kmalloc_counts_what_was_asked_for_and_whole_buckets() -> None:
    row = caches(read(KMALLOC_ROW))["kmalloc-96"]
    assert (row.allocs, row.requested_bytes, row.allocated_bytes) == (10, 700, 960)
    assert row.aliases == ("alias",)


def test_kmem_cache_alloc_counts_object_sizes() -> None:
    row = caches(
        read({"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 0), "cache": DENTRY, "count": 4})
    )
    assert (row["dentry"].requested_bytes, row["dentry"].allocated_bytes) == (4 * 185, 4 * 192)
    assert row["dentry"].object_size == 185


def test_frees_count_object_sizes_and_page_backed_ones_their_own() -> None:
    frees = sum_frees(free_slots({"cache": DENTRY, "count": 3}, {"cache": LARGE, "count": 2}))
    found = caches(read(), frees, large_freed=40_960)
    assert (found["dentry"].frees, found["dentry"].freed_bytes) == (3, 3 * 192)
    assert (found[LARGE_CACHE].frees, found[LARGE_CACHE].freed_bytes) == (2, 40_960)


def test_large_kmalloc_is_a_cache_of_its_own() -> None:
    row = {
        "site": 1,
        "gfp_size_key": kmalloc(GFP_KERNEL, 16_384),
        "cache": LARGE,
        "count": 2,
        "requested_bytes": 20_000,
    }
    found = caches(read(row))[LARGE_CACHE]
    assert (found.allocs, found.requested_bytes, found.allocated_bytes) == (2, 20_000, 32_768)


@pytest.mark.parametrize(
    ("flags", "bucket", "name"),
    [
        (GFP_KERNEL, 96, "kmalloc-96"),
        (GFP_KERNEL | 0x10, 96, "kmalloc-rcl-96"),
        (GFP_KERNEL, 1 << 20, LARGE_CACHE),
        (GFP_KERNEL, 4096, UNRESOLVED_CACHE),
        (GFP_KERNEL, 0, UNRESOLVED_CACHE),
    ],
)
def test_a_row_that_only_failed_goes_to_the_cache_its_size_and_flags_name(
    flags: int, bucket: int, name: str
) -> None:
    failed = {"site": 1, "gfp_size_key": kmalloc(flags, bucket), "failed": 5}
    found = caches(read(failed))
    assert list(found) == [name]
    row = found[name]
    assert (row.failed, row.allocs, row.requested_bytes, row.allocated_bytes) == (5, 0, 0, 0)


# What one CPU was served, of 96 bytes where a number of bytes is part of the key.
SERVED = {"site": 1, "count": 7}


@pytest.mark.parametrize(
    ("served", "name"),
    [
        ([(GFP_KERNEL, 96, RECLAIM, 0)], "kmalloc-rcl-96"),
        ([(GFP_KERNEL, 96, RECLAIM, 3)], "kmalloc-rcl-96"),
        ([(GFP_KERNEL, 96, RECLAIM, 1 << 32)], "kmalloc-96"),
        ([(GFP_ATOMIC, 96, RECLAIM, 0)], "kmalloc-96"),
        ([(GFP_KERNEL, 96, RECLAIM, 0), (GFP_KERNEL, 96, DENTRY, 3)], "kmalloc-96"),
        ([(GFP_KERNEL, 0, DENTRY, 0)], "dentry"),
    ],
    ids=["other CPU", "other node", "another module's", "other flags", "two caches", "no kmalloc"],
)
def test_a_row_that_only_failed_goes_to_the_one_cache_its_site_used(
    served: list[tuple[int, int, int, int]], name: str
) -> None:
    """A caller may have caches of its own (CONFIG_SLAB_BUCKETS), which no size or flags tell."""
    rows = [
        SERVED | {"gfp_size_key": kmalloc(flags, size), "cache": cache, "variant_key": variant}
        for flags, size, cache, variant in served
    ]
    size = served[0][1]
    failed = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, size), "failed": 5}
    found = caches(read(*rows, failed))
    assert {row.name: row.failed for row in found.values() if row.failed} == {name: 5}


def test_objects_whose_cache_was_not_found_are_unresolved_and_not_dropped() -> None:
    unknown = {
        "site": 1,
        "gfp_size_key": kmalloc(GFP_KERNEL, 96),
        "count": 3,
        "requested_bytes": 99,
    }
    row = caches(read(unknown))[UNRESOLVED_CACHE]
    assert (row.allocs, row.allocated_bytes, row.frees_observable) == (3, 288, False)


def test_live_estimates_are_joined_by_name() -> None:
    found = caches(read(KMALLOC_ROW), live={"kmalloc-96": Live(2, 192, 0, 192, 192)})
    assert found["kmalloc-96"].live == Live(2, 192, 0, 192, 192)


@pytest.mark.parametrize(("interval", "high"), [(0, 0), (64, 236), (65_536, 960)])
def test_without_a_sample_what_went_unseen_is_bounded(interval: int, high: int) -> None:
    """By 3.7 intervals (97.5 %), by what was ever allocated, and by nothing in exact mode."""
    live = caches(read(KMALLOC_ROW), interval=interval)["kmalloc-96"].live
    assert live[:4] == (0, 0, 0, 0)
    assert live.high_bytes == pytest.approx(high, rel=0.02)


def test_what_was_never_allocated_cannot_be_live() -> None:
    frees = sum_frees(free_slots({"cache": DENTRY, "count": 3}))
    assert caches(read(), frees, interval=65_536)["dentry"].live == Live()


def test_an_estimate_is_bounded_by_what_was_ever_allocated() -> None:
    found = caches(read(KMALLOC_ROW), live={"kmalloc-96": Live(8, 800, 300, 500, 2000)})
    assert found["kmalloc-96"].live == Live(8, 800, 300, 500, 960)
    found = caches(read(KMALLOC_ROW), live={"kmalloc-96": Live(20, 1920, 300, 1000, 2000)})
    assert found["kmalloc-96"].live == Live(10, 960, 300, 960, 960)


def test_page_backed_kmalloc_is_exact_in_sampled_mode_too() -> None:
    """All of it is tracked, for its size: none can go unseen."""
    row = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 16_384), "cache": LARGE, "count": 2}
    assert caches(read(row), interval=65_536)[LARGE_CACHE].live == Live()


def test_a_cache_made_anew_with_another_size_adds_to_the_same_row() -> None:
    """A module reloaded: same name, other address, other object size."""
    known = directory()
    moved_on = generations()
    moved_on[generation_slot(DENTRY)] = 1
    again = DENTRY + 0x50000
    known.update(np.array([again], "<u8"), cache_record(b"dentry", 256), moved_on)
    row = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 0), "count": 10}
    slots = sum_allocations(alloc_slots({**row, "cache": DENTRY}, {**row, "cache": again}))
    rows = assemble.slot_columns(slots, known, locate, classifier({}), STABLE_BITS)
    frees = sum_frees(free_slots({"cache": DENTRY, "count": 4}, {"cache": again, "count": 1}))
    table = assemble.cache_sums(rows, frees, known, 0, {})
    (found,) = plain_rows(table)
    assert (found.name, found.allocs, found.frees) == ("dentry", 20, 5)
    assert found.allocated_bytes == 10 * 192 + 10 * 256
    assert found.freed_bytes == 4 * 192 + 256
    assert found.object_size == 256, "of the cache that has the name now"


def test_lifetimes_are_kept_by_decade() -> None:
    decades = list(range(CONSTANTS["LIFETIMES"]))
    frees = sum_frees(
        free_slots(
            {"cache": DENTRY, "count": 1, "lifetimes": decades},
            {"cache": DENTRY, "count": 1, "lifetimes": decades},
        )
    )
    assert caches(read(), frees)["dentry"].lifetimes == tuple(2 * n for n in decades)


def info(active: int = 100, size: int = 96) -> Slabinfo:
    return Slabinfo(active, 2 * active, size, 8192)


def test_slabinfo_is_joined_by_name_and_adds_caches_without_events() -> None:
    found = caches(read(KMALLOC_ROW), slabinfo={"kmalloc-96": info(), "idle": info(7, 56)})
    assert found["kmalloc-96"].slabinfo == info()
    assert found["idle"].slabinfo == info(7, 56)
    assert (found["idle"].object_size, found["idle"].allocs) == (56, 0)
    assert found["idle"].reclaimable, "sysfs says so"


def test_a_second_cache_of_a_name_does_not_claim_the_firsts_slabinfo() -> None:
    twins = directory()
    other = DENTRY + 0x50000
    twins.update(np.array([other], "<u8"), cache_record(b"dentry"), generations())
    slots = sum_allocations(
        alloc_slots({"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 0), "cache": other, "count": 1})
    )
    rows = assemble.slot_columns(slots, twins, locate, classifier({}), STABLE_BITS)
    table = assemble.cache_sums(rows, NO_FREES, twins, 0, {})
    (row,) = plain_rows(table, slabinfo={"dentry": info()})
    assert (row.name, row.slabinfo) == ("dentry#2", None)


def observable(**changes: Any) -> bool:
    return caches(read(KMALLOC_ROW), **changes)["kmalloc-96"].frees_observable


def test_frees_are_observable_until_there_is_evidence_against_it() -> None:
    assert observable()
    assert observable(slabinfo={"kmalloc-96": info(10)})
    assert not observable(unobserved={KMALLOC: 1}), "an address was allocated again unfreed"


def test_more_live_objects_than_the_kernel_has_active_are_evidence() -> None:
    many = {**KMALLOC_ROW, "count": 10_000}
    found = caches(read(many), slabinfo={"kmalloc-96": info(100)})
    assert not found["kmalloc-96"].frees_observable


def test_caches_known_to_be_freed_in_bulk_are_not_observable() -> None:
    found = caches(read(), slabinfo={"maple_node": info(), "dentry": info()})
    assert not found["maple_node"].frees_observable
    assert found["dentry"].frees_observable


BULK = DENTRY + 0x50000


def bulk_rows(bulk_unseen: bool, unobserved: dict[int, int] | None = None) -> dict[str, Cache]:
    """With one free of a cache whose users free in bulk."""
    known = directory()
    known.update(np.array([BULK], "<u8"), cache_record(b"maple_node"), generations())
    frees = sum_frees(free_slots({"cache": BULK, "count": 1}))
    table = assemble.cache_sums(read(), frees, known, 0, unobserved or {})
    rows = plain_rows(table, bulk_unseen=bulk_unseen)
    return {row.name: row for row in rows}


def test_where_bulk_frees_are_seen_such_caches_are_as_observable_as_others() -> None:
    active = {"maple_node": info(), "skbuff_head_cache": info(), "io_kiocb": info()}
    assert assemble.BULK_CACHES.keys() == active.keys()
    found = caches(read(), slabinfo=active, bulk_unseen=False)
    assert all(found[name].frees_observable for name in active)
    found = caches(read(), slabinfo=active, bulk_unseen=True)
    assert not any(found[name].frees_observable for name in active)


@pytest.mark.parametrize("bulk_unseen", [True, False])
def test_a_bulk_cache_seen_in_events_is_observable_where_bulk_frees_are(bulk_unseen: bool) -> None:
    rows = bulk_rows(bulk_unseen)
    assert rows["maple_node"].frees_observable is not bulk_unseen


@pytest.mark.parametrize("bulk_unseen", [True, False])
def test_evidence_of_unseen_frees_counts_wherever_bulk_frees_are_seen(bulk_unseen: bool) -> None:
    many = {**KMALLOC_ROW, "count": 10_000}
    assert observable(bulk_unseen=bulk_unseen)
    assert not observable(unobserved={KMALLOC: 1}, bulk_unseen=bulk_unseen)
    found = caches(read(many), slabinfo={"kmalloc-96": info(100)}, bulk_unseen=bulk_unseen)
    assert not found["kmalloc-96"].frees_observable
    assert not bulk_rows(bulk_unseen, {BULK: 1})["maple_node"].frees_observable
    unknown = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 96), "count": 3}
    found = caches(read(unknown), bulk_unseen=bulk_unseen)
    assert not found[UNRESOLVED_CACHE].frees_observable


def test_unobserved_frees_are_counted() -> None:
    found = caches(read(), unobserved={DENTRY: 3})
    assert found["dentry"].unobserved_frees == 3


def test_a_cache_made_again_shows_its_facts_before_its_first_event() -> None:
    """Its module was reloaded: the identity is still that of the destroyed cache."""
    row = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 0), "cache": DENTRY, "count": 1}
    found = caches(read(row), slabinfo={"dentry": info(size=320)})
    assert (found["dentry"].object_size, found["dentry"].reclaimable) == (320, True)
    found = caches(read(row), slabinfo={"dentry": info(size=192)})
    assert (found["dentry"].object_size, found["dentry"].reclaimable) == (185, False)
