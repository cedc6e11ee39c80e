# SPDX-License-Identifier: Apache-2.0
"""Rows of sites, sizes, nodes and pages; and that all rows have the same totals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.probe.gfp import CLASSES, STABLE_BITS, classifier, modifier_masks
from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.caches import LARGE
from slabmon.kernel.tables.lanes import sum_allocations, sum_frees
from slabmon.model import GfpModifier, Live, NodeUse, PageOrder
from tests.support.records import alloc_slots, free_slots, kmalloc
from tests.support.tables import (
    DENTRY,
    GFP_ATOMIC,
    GFP_KERNEL,
    KMALLOC,
    KMALLOC_ROW,
    RECLAIM,
    Row,
    caches,
    directory,
    read,
)


def sizes(*rows: Row) -> dict[int, int]:
    return {bucket.le: bucket.allocs for bucket in assemble.size_rows(read(*rows))}


def test_sizes_are_counted_by_powers_of_two() -> None:
    large = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 16_384), "cache": LARGE, "count": 2}
    named = {"site": 1, "gfp_size_key": kmalloc(GFP_KERNEL, 0), "cache": DENTRY, "count": 9}
    failed = {"site": 2, "gfp_size_key": kmalloc(GFP_KERNEL, 96), "failed": 9}
    assert sizes(KMALLOC_ROW, large, named, failed) == {128: 10, 16_384: 2}


def test_sizes_of_a_bucket_are_summed_as_requested() -> None:
    small = {**KMALLOC_ROW, "gfp_size_key": kmalloc(GFP_KERNEL, 128), "requested_bytes": 1_200}
    (bucket,) = assemble.size_rows(read(KMALLOC_ROW, small))
    assert (bucket.le, bucket.allocs, bucket.requested_bytes) == (128, 20, 1_900)


def test_debugging_does_not_move_sizes_between_buckets() -> None:
    """slub_debug inflates what a kmalloc-96 object occupies beyond 128."""
    inflated = {**KMALLOC_ROW, "gfp_size_key": kmalloc(GFP_KERNEL, 168)}
    assert sizes(inflated) == {128: 10}


def test_nodes_are_the_one_asked_for_or_the_cpus_own() -> None:
    own = {**KMALLOC_ROW, "variant_key": 0}
    asked = {**KMALLOC_ROW, "variant_key": 2, "count": 5}
    both = assemble.node_rows([(0, read(own, asked)), (1, read(own))])
    assert both == (NodeUse(0, 10, 960), NodeUse(1, 15, 5 * 96 + 960))


def test_generations_of_one_site_are_told_apart_however_far_they_lie() -> None:
    rows = read(
        *({**KMALLOC_ROW, "variant_key": generation << 32} for generation in (1, 2, 65_537))
    )
    found = {site.module for site in assemble.site_rows(rows, {}, 0, {})}
    assert found == {"module1", "module2", "module65537"}


def test_a_nodes_number_is_not_mixed_up_with_the_module_generation() -> None:
    row = {**KMALLOC_ROW, "variant_key": 7 << 32 | 3}
    assert assemble.node_rows([(0, read(row))]) == (NodeUse(2, 10, 960),)
    (site,) = assemble.site_rows(read(row), {}, 0, {})
    assert site.module == "module7"


def test_page_events_are_rows_of_order_and_class() -> None:
    taken = sum_allocations(
        alloc_slots(
            {"site": 1, "gfp_size_key": GFP_KERNEL << 32, "count": 5, "failed": 1},
            {"site": 1, "gfp_size_key": (GFP_KERNEL | 0x100) << 32, "count": 2},
            {"site": 4, "gfp_size_key": GFP_ATOMIC << 32, "failed": 3},
        )
    )
    freed = sum_frees(free_slots({"cache": 1, "count": 4}, {"cache": 10, "count": 1}))
    assert assemble.page_rows((taken, freed), classifier({})) == (
        PageOrder(0, "kernel", 7, 0, 1),
        PageOrder(3, "atomic", 0, 0, 3),
        PageOrder(0, None, 0, 4, 0),
        PageOrder(9, None, 0, 1, 0),
    )
    assert assemble.page_rows(None, classifier({})) == ()


def test_an_allocation_counts_for_each_of_its_modifiers() -> None:
    rows = read(
        {**KMALLOC_ROW, "gfp_size_key": kmalloc(GFP_KERNEL | 0x100, 96), "count": 7},
        {**KMALLOC_ROW, "gfp_size_key": kmalloc(GFP_ATOMIC | 0x100, 96), "count": 5, "failed": 3},
        {"site": 2, "gfp_size_key": kmalloc(GFP_ATOMIC, 0), "cache": DENTRY, "count": 2},
        KMALLOC_ROW,
    )
    assert assemble.modifier_rows(rows, {"high": 0x20, "zero": 0x100, "nofail": 0x8000}) == (
        GfpModifier("high", 7, 5 * 96 + 2 * 192, 3),
        GfpModifier("zero", 12, 12 * 96, 3),
        GfpModifier("nofail", 0, 0, 0),
    )


def test_sites_that_resolve_alike_are_one_row() -> None:
    """Another generation of modules with the same module in it, for instance."""
    slots = sum_allocations(
        alloc_slots(
            {**KMALLOC_ROW, "variant_key": 1 << 32}, {**KMALLOC_ROW, "variant_key": 2 << 32}
        )
    )
    rows = assemble.slot_columns(
        slots,
        directory(),
        lambda site, generation: Location("probe", 4, "card"),
        classifier({}),
        STABLE_BITS,
    )
    (site,) = assemble.site_rows(rows, {}, 0, {})
    assert (site.symbol, site.module, site.allocs) == ("probe", "card", 20)


def test_live_estimates_are_joined_by_place() -> None:
    live = Live(1, 96, 0, 96, 96)
    rows = read(KMALLOC_ROW, {**KMALLOC_ROW, "site": 2})
    found = {s.symbol: s for s in assemble.site_rows(rows, {Location("f1", 0, None): live}, 0, {})}
    assert (found["f1"].live, found["f2"].live) == (live, Live())
    assert found["f1"].allocs == 10


SLOT = st.fixed_dictionaries(
    {
        "site": st.integers(1, 4),
        "gfp_size_key": st.sampled_from(
            [
                kmalloc(f, b)
                for f in (GFP_KERNEL, GFP_ATOMIC, 0, 0x11, 0x400DE0)
                for b in (0, 96, 4096, 65_536)
            ]
        ),
        "cache": st.sampled_from([0, LARGE, KMALLOC, DENTRY, RECLAIM, 0xFFFF8881DEAD0000]),
        "variant_key": st.sampled_from([0, 1, 1 << 32]),
        "count": st.integers(0, 2**40),
        "requested_bytes": st.integers(0, 2**45),
        "failed": st.integers(0, 2**32 - 1),
    }
)


@given(st.lists(SLOT, max_size=20))
def test_caches_sites_and_classes_add_up_to_the_same_totals(slots: list[Row]) -> None:
    rows = read(*slots)
    by_cache = list(caches(rows).values())
    by_site = assemble.site_rows(rows, {}, 0, {})
    by_class = assemble.gfp_rows(rows)
    assert [row.name for row in by_class] == list(CLASSES)
    wanted = sum(slot["count"] for slot in slots)
    failed = sum(slot["failed"] for slot in slots)
    for table in (by_cache, by_site, by_class):
        assert sum(row.allocs for row in table) == wanted
        assert sum(row.failed for row in table) == failed
    allocated = sum(row.allocated_bytes for row in by_cache)
    assert sum(row.allocated_bytes for row in by_site) == allocated
    assert sum(row.allocated_bytes for row in by_class) == allocated
    requested = sum(row.requested_bytes for row in by_cache)
    assert sum(row.requested_bytes for row in by_site) == requested
    nodes = assemble.node_rows([(0, rows)])
    assert sum(row.allocs for row in nodes) == wanted
    assert sum(row.allocated_bytes for row in nodes) == allocated
    masks = modifier_masks({"COMP": 18})
    for row in assemble.modifier_rows(rows, masks):
        having = [slot for slot in slots if slot["gfp_size_key"] >> 32 & masks[row.name]]
        assert row.allocs == sum(slot["count"] for slot in having)
        assert row.failed == sum(slot["failed"] for slot in having)
        assert row.allocated_bytes <= allocated


def test_what_is_known_of_its_function_is_joined_by_place() -> None:
    rows = read(KMALLOC_ROW)
    (place,) = rows.locations
    (site,) = assemble.site_rows(rows, {}, 0, {place: assemble.Function(96, "ext4")})
    assert (site.size, site.component) == (96, "ext4")
