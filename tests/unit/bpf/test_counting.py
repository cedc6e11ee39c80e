# SPDX-License-Identifier: Apache-2.0
"""Counters of the BPF programs, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.tables.lanes import Allocations, sum_allocations
from tests.support.hosts import KERNELS, facts
from tests.support.kallsyms import CORE, MODULE
from tests.support.native import GFP_KERNEL, OBJECTS, Native

SMALL = Settings(site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256)
SITE = CORE + 0x144
Open = Callable[..., Native]


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(kernel: str = "6.18", settings: Settings = SMALL, **changes: object) -> Native:
        plan = make_plan(facts(kernel, **changes), settings)
        native = Native(plan, tmp_path, monkeypatch)
        native.start()
        return native

    return make


def allocations(native: Native) -> Allocations:
    return sum_allocations(native.reader.slots())


def test_allocations_and_frees_of_all_cpus_are_counted(open_native: Open) -> None:
    native = open_native()
    cache = native.cache(b"kmalloc-96", 96)
    native.slab(OBJECTS, 1 << 20, cache)
    for i in range(101):
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96, cpu=i % 4)
    for i in range(37):
        native.kfree(OBJECTS + 96 * i, cpu=(i + 1) % 4)
    sums, frees = allocations(native), native.reader.frees()
    assert sums.site.tolist() == [SITE]
    assert sums.gfp_size_key.tolist() == [GFP_KERNEL << 32 | 96]
    assert (sums.count.tolist(), sums.requested.tolist()) == ([101], [7070])
    assert sums.cache.tolist() == frees.cache.tolist() == [cache]
    assert frees.count.tolist() == [37]
    assert sum(native.reader.losses().values()) == 0


def test_a_cache_is_introduced_with_its_name_sizes_and_flags(open_native: Open) -> None:
    native = open_native()
    cache = native.cache(b"dentry", 192, flags=0x20000)
    native.cache_alloc(SITE, OBJECTS, cache)
    native.cache_free(OBJECTS, cache)
    keys, records = native.reader.caches()
    assert keys.tolist() == [cache]
    assert records["name"].tolist() == [b"dentry"]
    assert (int(records["size"][0]), int(records["flags"][0])) == (192, 0x20000)
    assert allocations(native).count.tolist() == [1]
    assert native.reader.frees().count.tolist() == [1]


def test_failures_are_counted_apart(open_native: Open) -> None:
    native = open_native()
    cache = native.cache(b"dentry", 192)
    for _ in range(3):
        native.kmalloc(SITE, 0, 70, 96)
        native.cache_alloc(SITE, 0, cache)
    sums = allocations(native)
    assert (sums.count.tolist(), sums.failed.tolist()) == ([0, 0], [3, 3])
    assert sorted(sums.cache.tolist()) == [0, cache]


def test_null_and_zero_sized_objects_are_no_events(open_native: Open) -> None:
    native = open_native()
    native.kmalloc(SITE, 16, 0, 0)
    for address in (0, 16):
        native.kfree(address)
        native.cache_free(address, 0)
    assert len(allocations(native).site) == len(native.reader.frees().cache) == 0
    assert sum(native.reader.losses().values()) == 0


def test_different_flags_sizes_and_sites_have_slots_of_their_own(open_native: Open) -> None:
    native = open_native()
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    for site in (SITE, SITE + 1):
        for gfp in (GFP_KERNEL, 0x820):
            for _ in range(2):
                native.kmalloc(site, OBJECTS, 70, 96, gfp)
    assert allocations(native).count.tolist() == [2] * 4


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_events_of_every_kernel_are_understood(open_native: Open, kernel: str) -> None:
    native = open_native(kernel, nodes=1, kfunc_get_cache=1)
    cache = native.cache(b"kmalloc-96", 96)
    native.slab(OBJECTS, 1 << 20, cache)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.cache_alloc(SITE, OBJECTS + 96, cache)
    if "kmalloc_node" in native.plan.attach:
        native.kmalloc(SITE, OBJECTS + 192, 80, 96, event="on_kmalloc_node")
    native.kfree(OBJECTS)
    native.cache_free(OBJECTS + 96, cache)
    sums = allocations(native)
    rows = dict(zip(sums.gfp_size_key.tolist(), sums.count.tolist(), strict=True))
    kmallocs = 2 if "kmalloc_node" in native.plan.attach else 1
    assert rows == {GFP_KERNEL << 32: 1, GFP_KERNEL << 32 | 96: kmallocs}
    assert set(sums.cache.tolist()) == {cache}
    assert native.reader.frees().count.tolist() == [2]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_node_asked_for_is_never_taken_from_another_argument(
    open_native: Open, kernel: str
) -> None:
    """Without a node argument no node is requested: `variant_key` is 0."""
    native = open_native(kernel, nodes=2, kfunc_get_cache=1)
    cache = native.cache(b"kmalloc-96", 96)
    native.slab(OBJECTS, 1 << 20, cache)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.cache_alloc(SITE, OBJECTS + 96, cache)
    assert set(allocations(native).variant_key.tolist()) == {0}


@pytest.mark.parametrize("kernel", ["5.10", "6.0", "6.12"])
def test_a_node_that_is_told_is_kept(open_native: Open, kernel: str) -> None:
    native = open_native(kernel, nodes=2, kfunc_get_cache=1)
    event = "on_kmalloc_node" if "kmalloc_node" in native.plan.attach else "on_kmalloc"
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    native.kmalloc(SITE, OBJECTS, 70, 96, node=1, event=event)
    assert allocations(native).variant_key.tolist() == [2]


def test_sites_in_modules_carry_the_generation_of_modules(open_native: Open) -> None:
    native = open_native()
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    native.reader.control["module_generation"] = 6
    native.module(MODULE & ~0xFFF, 0x3000)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.kmalloc(MODULE, OBJECTS + 96, 70, 96)
    sums = allocations(native)
    assert dict(zip(sums.site.tolist(), sums.variant_key.tolist(), strict=True)) == {
        SITE: 0,
        MODULE: 7 << 32,
    }


def test_one_module_site_has_a_slot_for_each_generation(open_native: Open) -> None:
    native = open_native()
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    native.module(MODULE, 4096)
    native.kmalloc(MODULE, OBJECTS, 70, 96)
    native.module(MODULE, 4096, "on_module_free")
    native.module(MODULE, 4096)
    for _ in range(2):
        native.kmalloc(MODULE, OBJECTS, 70, 96)
    sums = allocations(native)
    counts = dict(zip(sums.variant_key.tolist(), sums.count.tolist(), strict=True))
    assert counts == {1 << 32: 1, 3 << 32: 2}


@pytest.mark.parametrize("size", [1, 0xFFF, 0x1000, 0x1001, 15 << 20])
def test_reloads_of_one_module_leave_the_slots_of_others_alone(
    open_native: Open, size: int
) -> None:
    """Sites that share a page of text with the module do too, but there are none."""
    native = open_native()
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    base = 0xFFFFFFFFC1008000
    first, last = base >> 12, base + size - 1 >> 12
    inside = [base, base + size // 2, base + size - 1, first << 12, (last << 12) + 0xFFF]
    outside = [(first << 12) - 1, last + 1 << 12]
    native.module(base, size)
    for site in (*inside, *outside):
        native.kmalloc(site, OBJECTS, 70, 96)
    sums = allocations(native)
    keys = dict(zip(sums.site.tolist(), sums.variant_key.tolist(), strict=True))
    assert {keys[site] for site in inside} == {1 << 32}
    assert {keys[site] for site in outside} == {0}


def test_slots_that_collide_are_not_mixed_up(open_native: Open) -> None:
    """Nearly as many kinds of requests as slots: many do not get the slot of their hash."""
    native = open_native(settings=replace(SMALL, site_slots=64))
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    for gfp in range(50):
        for _ in range(gfp + 1):
            native.kmalloc(SITE, OBJECTS, 70, 96, gfp)
    sums = allocations(native)
    flags = [request >> 32 for request in sums.gfp_size_key.tolist()]
    counts = dict(zip(flags, sums.count.tolist(), strict=True))
    assert all(count == gfp + 1 for gfp, count in counts.items())
    assert sum(counts.values()) + native.reader.losses()["site_slots_full"] == 50 * 51 // 2


def test_a_cache_made_again_and_again_at_one_address_finds_slots(open_native: Open) -> None:
    """As when a driver is reloaded, or another cache shares its generation counter: each
    generation is another cache to the call sites in the kernel itself."""
    native = open_native(settings=replace(SMALL, cache_slots=256))
    meta, cache = native.cache(b"kmem_cache", 256), native.cache(b"bio-264", 320)
    for made in range(CONSTANTS["CACHE_GENERATION_MASK"] + 1):
        native.cache_alloc(SITE, OBJECTS + 320 * made, cache)
        native.cache_free(OBJECTS + 320 * made, cache)
        native.cache_free(cache, meta)
    sums, frees = allocations(native), native.reader.frees()
    assert sums.count.tolist() == [1] * len(sums.site) == [1] * 64
    assert sorted(frees.count.tolist()) == [*[1] * 64, 64]
    assert sum(native.reader.losses().values()) == 0


def test_a_full_lane_counts_what_it_cannot_hold(open_native: Open) -> None:
    native = open_native()
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    events = 4 * 256
    for i in range(events):
        native.kmalloc(SITE + i, OBJECTS + 96 * i, 70, 96)
    counted = int(allocations(native).count.sum())
    assert counted < events
    assert counted + native.reader.losses()["site_slots_full"] == events


def test_an_object_whose_cache_is_not_found_is_a_loss(open_native: Open) -> None:
    native = open_native("6.12", page_symbols=False)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.kfree(OBJECTS)
    assert native.reader.losses()["cache_unresolved"] == 2
    assert allocations(native).count.tolist() == [1]


def test_the_largest_slab_bucket_is_not_taken_for_page_backed(open_native: Open) -> None:
    """kmalloc-8k holds 8192 bytes: KMALLOC_MAX_CACHE_SIZE is two pages, inclusive."""
    native = open_native("6.12", page_symbols=False)
    native.kmalloc(SITE, OBJECTS, 8192, 8192)
    native.kmalloc(SITE, OBJECTS + 65536, 16_384, 16_384)
    sums = allocations(native)
    buckets = [request & 0xFFFFFFFF for request in sums.gfp_size_key.tolist()]
    caches = dict(zip(buckets, sums.cache.tolist(), strict=True))
    assert caches == {8192: CONSTANTS["CACHE_UNKNOWN"], 16_384: CONSTANTS["CACHE_LARGE"]}


def test_unresolvable_kmallocs_are_not_taken_for_page_backed(open_native: Open) -> None:
    """As on arm64 with random kmalloc caches and no bpf_get_kmem_cache()."""
    native = open_native("6.12", page_symbols=False, site_decides_cache=False)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    assert allocations(native).cache.tolist() == [CONSTANTS["CACHE_UNKNOWN"]]


def test_one_site_may_use_several_caches_of_a_size(open_native: Open) -> None:
    native = open_native(site_decides_cache=False)
    one, two = native.cache(b"kmalloc-rnd-01-96", 96), native.cache(b"kmalloc-rnd-02-96", 96)
    native.slab(OBJECTS, 4096, one)
    native.slab(OBJECTS + 4096, 4096, two)
    for i in range(6):
        native.kmalloc(SITE, OBJECTS + 4096 * (i % 2 or i == 2), 70, 96)
    sums = allocations(native)
    counts = dict(zip(sums.cache.tolist(), sums.count.tolist(), strict=True))
    assert counts == {one: 2, two: 4}


def test_pages_are_counted_by_order_and_flags(open_native: Open) -> None:
    native = open_native(settings=replace(SMALL, pages=True))
    for order in (0, 0, 3):
        native.run("on_mm_page_alloc", 0x1000, order, GFP_KERNEL, 0)
    native.run("on_mm_page_alloc", 0, 3, GFP_KERNEL, 0)
    native.run("on_mm_page_free", 0x1000, 3)
    pages = native.reader.pages()
    assert pages is not None
    taken, freed = pages
    assert dict(zip(taken.site.tolist(), taken.count.tolist(), strict=True)) == {1: 2, 4: 1}
    assert dict(zip(taken.site.tolist(), taken.failed.tolist(), strict=True)) == {1: 0, 4: 1}
    assert (freed.cache.tolist(), freed.count.tolist()) == ([4], [1])


def test_nested_events_count_in_lanes_of_their_own(open_native: Open) -> None:
    """Kernels before 6.1 run a program inside itself: `depth` counts the levels."""
    native = open_native("5.10", kfunc_get_cache=1)
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    lanes = native.reader.alloc_lanes[0]
    for depth in range(4):
        lanes["head"]["depth"][0] = depth
        native.kmalloc(SITE, OBJECTS, 70, 96)
        assert int(lanes["head"]["depth"][0]) == depth, "as it was before"
    used = [int(lane["slots"]["count"].sum()) for lane in lanes[:3]]
    assert used == [1, 1, 1]
    assert native.reader.losses()["nesting"] == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_gfp_bits_of_a_request_are_those_of_its_slot(open_native: Open, kernel: str) -> None:
    native = open_native(kernel, nodes=1, kfunc_get_cache=1)
    cache = native.cache(b"kmalloc-96", 96)
    native.slab(OBJECTS, 1 << 20, cache)
    for bit in range(32):
        native.kmalloc(SITE, 0, 70, 96, 1 << bit)
        native.cache_alloc(SITE, OBJECTS, cache, 1 << bit)
    sums = allocations(native)
    flags = [request >> 32 for request in sums.gfp_size_key.tolist()]
    assert sorted(flags) == sorted([1 << bit for bit in range(32)] * 2)
    assert set((sums.count + sums.failed).tolist()) == {1}
