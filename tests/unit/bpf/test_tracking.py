# SPDX-License-Identifier: Apache-2.0
"""Tracking of objects by the BPF programs, run in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slabmon.analysis.sampling import Grouped
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import CONSTANTS, SAMPLE
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import EVERYTHING, Target, Text
from slabmon.kernel.loading.loader import map_names
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.probe.cgroups import ANY_LEVEL
from slabmon.kernel.settings import Settings
from slabmon.kernel.tables.lanes import sum_allocations
from tests.support.hosts import facts
from tests.support.kallsyms import CORE, MODULE
from tests.support.native import OBJECTS, Native
from tests.support.sampler import exponential_gap

SMALL = Settings(
    sample_bytes=4096, site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256
)
EXACT = replace(SMALL, exact=Filter(min_size=1))
SITE = CORE + 0x144
LARGE = CONSTANTS["CACHE_LARGE"]
Open = Callable[..., Native]
# Pool indices by tags, or before 6.1 by a BPF hash.
BOTH_WAYS = pytest.mark.parametrize("guard", [True, False], ids=["tags", "hash"])


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(
        settings: Settings = EXACT,
        text: Text = (),
        target: Target = EVERYTHING,
        guard: bool = True,
        **changes: Any,
    ) -> Native:
        host = facts(recursion_guard=guard, **changes)
        native = Native(make_plan(host, settings, target), tmp_path, monkeypatch)
        native.start(text, caches=target.caches)
        native.set("time", 1000)
        return native

    return make


def with_cache(native: Native, size: int = 96, name: bytes = b"kmalloc-96") -> int:
    cache = native.cache(name, size)
    native.slab(OBJECTS, 1 << 24, cache)
    return cache


def test_the_kernels_gap_is_that_of_the_model(open_native: Open) -> None:
    native = open_native(SMALL)
    rng = np.random.default_rng(11)
    numbers = [0, 1, 2, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, *rng.integers(1 << 32, size=3000)]
    for interval in (64, 4096, 65_536, 1 << 30):
        native.reader.control["sample_interval"] = interval
        assert all(native.gap(int(u)) == exponential_gap(int(u), interval) for u in numbers)


def test_the_first_gap_of_each_lane_is_drawn_too(open_native: Open) -> None:
    """Started at zero, every lane would sample its first allocation."""
    native = open_native(SMALL)
    first: list[int] = []
    for seed in range(100):
        native.start(seed=seed)
        for lanes in native.reader.alloc_lanes:
            first += lanes["head"]["countdown"].tolist()
    assert min(first) >= 1
    assert abs(np.mean(first) - 4096) < 4 * 4096 / math.sqrt(len(first))
    assert np.std(first) == pytest.approx(4096, rel=0.15)


def test_lifetimes_fall_into_decades(open_native: Open) -> None:
    native = open_native()
    for decade in range(CONSTANTS["LIFETIMES"] - 1):
        limit = 10_000 * 10**decade
        assert (native.decade(limit - 1), native.decade(limit)) == (decade, decade + 1)
    assert native.decade((1 << 63) - 1) == CONSTANTS["LIFETIMES"] - 1
    assert native.decade(0) == 0
    assert native.decade((1 << 64) - 1) == 0, "freed where the clock is behind a little"


def test_a_tracked_object_is_what_its_event_said(open_native: Open) -> None:
    native = open_native()
    with_cache(native)
    native.set("time", 123_456)
    native.set("tgid", 77)
    native.set("task", native.task(native.cgroup(1, 9)))
    native.kmalloc(SITE, OBJECTS, 70, 96, cpu=2)
    (sample,) = native.reader.samples()
    names = ("time_ns", "tgid", "cgroup", "requested_bytes", "allocated_bytes", "interval", "stack")
    assert [int(sample[name]) for name in names] == [123_456, 77, 9, 70, 96, 0, 5]
    assert bytes(sample["comm"]) == b"native"
    slot = native.reader.slots()[int(sample["slot"])]
    assert (int(slot["site"]), int(slot["gfp_size_key"])) == (SITE, 0xCC0 << 32 | 96)


def test_every_sample_refers_to_its_own_slot(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    for cpu in range(4):
        for kind in range(5):
            address = OBJECTS + 96 * (cpu * 10 + kind)
            native.kmalloc(SITE + kind, address, 10 + kind, 96, cpu=cpu)
            native.cache_alloc(SITE + 100 + kind, address + 48, cache, cpu=cpu)
    slots = native.reader.slots()
    samples = native.reader.samples()
    assert len(samples) == 40
    for sample in samples:
        site = int(slots[int(sample["slot"])]["site"])
        assert site - SITE == int(sample["requested_bytes"]) - 10 or site - SITE >= 100


def test_a_freed_object_is_untracked_and_its_lifetime_counted(open_native: Open) -> None:
    native = open_native()
    with_cache(native)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.kmalloc(SITE, OBJECTS + 96, 70, 96)
    native.set("time", 1000 + 50_000)
    native.kfree(OBJECTS)
    (sample,) = native.reader.samples()
    assert int(sample["requested_bytes"]) == 70
    assert native.reader.frees().lifetimes[0].tolist()[:3] == [0, 1, 0]
    native.kfree(OBJECTS)
    assert native.reader.frees().lifetimes[0].sum() == 1, "its lifetime is counted once"


@BOTH_WAYS
def test_indices_of_the_pool_are_reused(open_native: Open, guard: bool) -> None:
    native = open_native(guard=guard)
    with_cache(native)
    for i in range(3 * 4096):
        native.kmalloc(SITE, OBJECTS + 96 * (i % 7), 70, 96)
        native.kfree(OBJECTS + 96 * (i % 7))
    assert len(native.reader.samples()) == 0
    assert native.pool_used() == 0
    assert native.tracked() == []
    assert native.reader.losses()["samples_full"] == 0


@BOTH_WAYS
@pytest.mark.parametrize("step", [8, 96, 4096], ids="{} bytes apart".format)
def test_there_is_room_for_as_many_objects_as_asked_for(
    open_native: Open, guard: bool, step: int
) -> None:
    native = open_native(guard=guard)
    with_cache(native)
    addresses = [OBJECTS + step * i for i in range(SMALL.samples)]
    for address in addresses:
        native.kmalloc(SITE, address, 70, 96)
    assert native.tracked() == addresses
    assert len(native.reader.samples()) == SMALL.samples
    assert native.reader.losses()["samples_full"] == 0


@BOTH_WAYS
def test_a_full_pool_is_a_counted_loss(open_native: Open, guard: bool) -> None:
    native = open_native(guard=guard)
    with_cache(native)
    places = native.plan.defines["NR_POOL"]
    for i in range(places + 31):
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    lost = native.reader.losses()["samples_full"]
    assert lost >= 31
    assert len(native.reader.samples()) == places + 31 - lost
    for i in range(places + 31):
        native.kfree(OBJECTS + 96 * i)
    assert (native.pool_used(), len(native.reader.samples())) == (0, 0)


def test_indices_that_cannot_be_released_are_losses(open_native: Open) -> None:
    """A BPF stack refuses if its lock is taken on this CPU: seldom, but the index is lost."""
    native = open_native(guard=False)
    with_cache(native)
    for i in range(9):
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    native.set("stack_busy", 1)
    native.kfree(OBJECTS)
    native.kfree(OBJECTS + 96)
    assert native.tracked() == [OBJECTS + 96 * i for i in range(2, 9)], "forgotten all the same"
    assert (native.reader.losses()["places"], native.pool_used()) == (2, 9)
    native.set("stack_busy", 0)
    native.kfree(OBJECTS + 2 * 96)
    assert (native.reader.losses()["places"], native.pool_used()) == (2, 8)


def test_an_address_allocated_again_is_evidence_of_an_unseen_free(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    for _ in range(3):
        native.cache_alloc(SITE, OBJECTS, cache)
    assert native.reader.unobserved_frees() == {cache: 2}
    assert len(native.reader.samples()) == 1, "only the last one lives"


def test_stacks_that_cannot_be_kept_are_counted_losses(open_native: Open) -> None:
    native = open_native()
    with_cache(native)
    for i, error in enumerate((-17, -12)):
        native.set("stack", error & 0xFFFFFFFF)
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    assert sorted(native.reader.samples()["stack"].tolist()) == [-17, -12]
    losses = native.reader.losses()
    assert (losses["stack_collision"], losses["stack_error"]) == (1, 1)


@pytest.mark.parametrize("settings", [SMALL, EXACT], ids=["sampled", "exact"])
def test_page_backed_objects_are_always_tracked_for_their_size(
    open_native: Open, settings: Settings
) -> None:
    native = open_native(replace(settings, sample_bytes=1 << 30))
    for i, pages in enumerate((3, 5)):
        native.kmalloc(SITE, OBJECTS + (i << 20), pages * 4096, 16_384 << i)
    assert native.reader.samples()["interval"].tolist() == [0, 0]
    native.kfree(OBJECTS + (1 << 20))
    assert native.reader.large_freed_bytes() == 32_768
    assert native.reader.frees().cache.tolist() == [LARGE]
    native.kfree(OBJECTS + (9 << 20))
    assert native.reader.losses()["large_free_size"] == 1, "allocated before tracking"


def test_a_large_kmalloc_that_is_traced_twice_counts_once(open_native: Open) -> None:
    """6.11+: first from inside the allocator's entry point, then from the caller."""
    native = open_native(SMALL)
    inner = CORE + 0x40  # in __kmalloc_noprof
    native.kmalloc(inner, OBJECTS, 10_000, 16_384)
    native.kmalloc(CORE + 0x90, OBJECTS, 10_000, 16_384)
    sums = sum_allocations(native.reader.slots())
    assert (sums.site.tolist(), sums.count.tolist()) == ([CORE + 0x90], [1])
    assert native.reader.unobserved_frees() == {}


def test_a_destroyed_cache_gives_its_address_another_generation(open_native: Open) -> None:
    native = open_native()
    meta = native.cache(b"kmem_cache", 256)
    cache = native.cache(b"mlx5", 96)
    before = native.key(cache)
    native.cache_free(cache, meta)
    after = native.key(cache)
    assert before == cache
    assert after == cache + 1
    native.cache_free(OBJECTS, cache)
    assert sorted(native.reader.frees().cache.tolist()) == sorted([meta, after])


def exact_addresses(native: Native) -> int:
    return len(native.reader.samples())


def test_exact_mode_tracks_everything_its_filter_selects_and_nothing_else(
    open_native: Open,
) -> None:
    settings = replace(SMALL, exact=Filter(cache="kmalloc-96", min_size=50, max_size=80))
    native = open_native(settings, target=Target(caches=("kmalloc-96",)))
    with_cache(native)
    other = native.cache(b"dentry", 192)
    for i, size in enumerate((49, 50, 80, 81)):
        native.kmalloc(SITE, OBJECTS + 96 * i, size, 96)
    native.cache_alloc(SITE, OBJECTS + 4096, other)
    assert sorted(native.reader.samples()["requested_bytes"].tolist()) == [50, 80]
    assert sum_allocations(native.reader.slots()).count.sum() == 5, "all are counted"


def test_exact_mode_by_site_and_cgroup(open_native: Open) -> None:
    settings = replace(SMALL, exact=Filter(site="card_probe", cgroup="/x"))
    native = open_native(settings, ((MODULE, MODULE + 0x1000),), Target(cgroup=9, level=0))
    with_cache(native)
    for i, (site, cgroup) in enumerate(
        [(MODULE, 9), (MODULE + 0xFFF, 9), (MODULE + 0x1000, 9), (MODULE - 1, 9), (MODULE, 8)]
    ):
        native.set("task", native.task(native.cgroup(cgroup)))
        native.kmalloc(site, OBJECTS + 96 * i, 70, 96)
    assert tracked_sites(native) == [MODULE, MODULE + 0xFFF]


def tracked_sites(native: Native) -> list[int]:
    slots = native.reader.slots()
    return sorted(int(slots[int(each["slot"])]["site"]) for each in native.reader.samples())


@pytest.mark.parametrize("kernel", ["6.0", "6.18"])
@pytest.mark.parametrize("level", [1, ANY_LEVEL])
def test_exact_mode_includes_the_cgroups_below(open_native: Open, level: int, kernel: str) -> None:
    """Before 6.1 a cgroup has the ids of its ancestors, since then pointers to them."""
    settings = replace(SMALL, exact=Filter(cgroup="/x"))
    target = Target(cgroup=12, level=level)
    native = open_native(settings, target=target, offsets=facts(kernel).offsets)
    with_cache(native)
    for i, ids in enumerate(((1, 12), (1, 12, 123), (1, 12, 123, 5), (1,), (1, 13, 12), (2, 21))):
        native.set("task", native.task(native.cgroup(*ids)))
        native.set("tgid", i)
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    # The fifth is not where the kernel has that cgroup.
    wanted = [0, 1, 2] if level == 1 else [0, 1, 2, 4]
    assert sorted(native.reader.samples()["tgid"].tolist()) == wanted


V1 = {"cgroup_v1": True, "memory_controller": 4}


@pytest.mark.parametrize("changes", [{}, V1], ids=["v2", "v1"])
def test_an_object_has_the_cgroup_that_is_charged(
    open_native: Open, changes: dict[str, Any]
) -> None:
    """That of the memory controller's hierarchy, unless the kernel has named another."""
    native = open_native(**changes)
    with_cache(native)
    cgroup, memory, active = native.cgroup(1, 9), native.cgroup(1, 7, 71), native.cgroup(1, 8)
    native.set("task", native.task(cgroup, memory))
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.set("task", native.task(cgroup, memory, active))
    native.kmalloc(SITE, OBJECTS + 96, 70, 96)
    assert native.reader.samples()["cgroup"].tolist() == [71 if changes else 9, 8]


def test_a_filter_follows_the_cgroup_that_is_charged(open_native: Open) -> None:
    settings = replace(SMALL, exact=Filter(cgroup="/x"))
    native = open_native(settings, target=Target(cgroup=12, level=1), **V1)
    with_cache(native)
    inside, outside = native.cgroup(1, 12, 123), native.cgroup(1, 13)
    for i, (cgroup, memory, active) in enumerate(
        [(inside, outside, 0), (outside, inside, 0), (outside, outside, inside)]
    ):
        native.set("task", native.task(cgroup, memory, active))
        native.set("tgid", i)
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    assert sorted(native.reader.samples()["tgid"].tolist()) == [1, 2]


def test_without_cgroups_objects_have_none(open_native: Open) -> None:
    offsets = {name: at for name, at in facts().offsets.items() if "CGROUP" not in name}
    native = open_native(offsets=offsets)
    with_cache(native)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    assert native.reader.samples()["cgroup"].tolist() == [0]


def test_exact_mode_by_process(open_native: Open) -> None:
    native = open_native(replace(SMALL, exact=Filter(pid=7)), target=Target(pid=7))
    with_cache(native)
    for i, pid in enumerate((7, 8, 7, 70)):
        native.set("tgid", pid)
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    assert native.reader.samples()["tgid"].tolist() == [7, 7]


def test_exact_mode_of_several_caches(open_native: Open) -> None:
    names = ("kmalloc-64", "kmalloc-cg-64", "n" * 80)
    settings = replace(SMALL, exact=Filter(family="kmalloc-64"))
    native = open_native(settings, target=Target(caches=names))
    for i, name in enumerate((*names, "kmalloc-6", "kmalloc-641", "dentry")):
        address = OBJECTS + (i << 20)
        cache = native.cache(name.encode()[:63], 64 + i)
        native.cache_alloc(SITE + i, address, cache)
    assert tracked_sites(native) == [SITE, SITE + 1, SITE + 2]


def test_exact_mode_follows_a_module_from_its_init_function_on(open_native: Open) -> None:
    """It is called before the daemon hears of the module."""
    native = open_native(replace(SMALL, exact=Filter(module="my-card")))
    with_cache(native)
    init = MODULE + 0x8000
    sites = (MODULE, init, init + 0x1000)

    def allocate(first: int, sites: tuple[int, ...] = sites) -> None:
        for i, site in enumerate(sites):
            native.kmalloc(site, OBJECTS + 96 * (first + i), 70, 96)

    native.module(MODULE, 0x1000, name=b"other")
    allocate(0)
    assert tracked_sites(native) == []
    native.module(MODULE, 0x1000, "on_module_free", name=b"other")
    native.module(MODULE, 0x1000, name=b"my_card", init=(init, init + 0x1000))
    allocate(10)
    assert tracked_sites(native) == [MODULE, init]
    native.module(MODULE, 0x1000, "on_module_free", name=b"my_card")
    native.module(MODULE, 0x1000, name=b"other")
    allocate(20, sites[:1])
    assert tracked_sites(native) == [MODULE, init]


def test_exact_mode_of_page_backed_kmalloc(open_native: Open) -> None:
    native = open_native(
        replace(SMALL, exact=Filter(cache="kmalloc-large")),
        target=Target(caches=("kmalloc-large",)),
    )
    with_cache(native)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.kmalloc(SITE, OBJECTS + (1 << 30), 70_000, 131_072)
    assert native.reader.samples()["allocated_bytes"].tolist() == [131_072]


def test_the_kernels_samples_give_unbiased_estimates_that_hold_the_truth(open_native: Open) -> None:
    """The whole way: events, maps, reader, estimate; half of the objects are freed again."""
    native = open_native(SMALL)
    with_cache(native, 256, b"kmalloc-256")
    trials, objects = 60, 400
    errors, held = [], 0
    for trial in range(trials):
        native.start(seed=trial)
        for i in range(objects):
            native.kmalloc(SITE, OBJECTS + 256 * i, 200, 256, cpu=i % 4)
        for i in range(0, objects, 2):
            native.kfree(OBJECTS + 256 * i)
        samples = native.reader.samples()
        sizes, intervals = samples["allocated_bytes"], samples["interval"]
        (live,) = Grouped(sizes, intervals).by(np.zeros(len(samples), int), 1)
        truth = objects // 2 * 256
        errors.append(live.bytes - truth)
        held += live.low_bytes <= truth <= live.high_bytes
        for i in range(1, objects, 2):
            native.kfree(OBJECTS + 256 * i)
    assert abs(np.mean(errors)) < 3 * np.std(errors, ddof=1) / math.sqrt(trials)
    assert held >= 0.95 * trials - 3 * math.sqrt(trials * 0.95 * 0.05)


@BOTH_WAYS
def test_the_reader_takes_no_record_that_is_being_filled(open_native: Open, guard: bool) -> None:
    native = open_native(guard=guard)
    with_cache(native)
    for i in range(3):
        native.kmalloc(SITE, OBJECTS + 96 * i, 60 + i, 96)
    number = map_names(native.plan).index("pool")
    pool = maps.map_array(number, SAMPLE, native.plan.defines["NR_POOL"])
    place = int(np.flatnonzero(pool["requested_bytes"] == 61)[0])
    pool.view(np.ndarray)["time_ns"][place] = 0
    assert sorted(native.reader.samples()["requested_bytes"].tolist()) == [60, 62]
