# SPDX-License-Identifier: Apache-2.0
"""Counting and tracking of kmem_cache_alloc_bulk(), run in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slabmon.analysis.sampling import Grouped
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import Text
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.symbols.kallsyms import UNKNOWN
from slabmon.kernel.tables.lanes import Allocations, sum_allocations
from tests.support.hosts import facts
from tests.support.kallsyms import CORE, MODULE
from tests.support.native import BULK_ALLOC, GFP_KERNEL, OBJECTS, Native

SMALL = Settings(
    sample_bytes=4096, site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256
)
EXACT = replace(SMALL, exact=Filter(min_size=1))
SITE = CORE + 0x144
SIZE = 256
LOOKED_AT = 34 * 16  # one program and 33 tail calls, 16 objects each
ALLOC_KERNELS = ["6.1", "6.12", "6.18", "7.3"]
Open = Callable[..., Native]


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(
        kernel: str = "6.18",
        settings: Settings = EXACT,
        text: Text = (),
        hidden: bool = False,
    ) -> Native:
        host = facts(kernel, kfunc_get_cache=1)
        native = Native(make_plan(host, settings), tmp_path, monkeypatch, hidden)
        native.start(text)
        native.set("time", 1000)
        native.callers(BULK_ALLOC + 9, SITE)
        return native

    return make


def with_cache(native: Native, name: bytes = b"maple_node", start: int = OBJECTS) -> int:
    cache = native.cache(name, SIZE)
    native.slab(start, 1 << 24, cache)
    return cache


def objects(count: int, start: int = OBJECTS) -> list[int]:
    return [start + SIZE * i for i in range(count)]


def allocations(native: Native) -> Allocations:
    return sum_allocations(native.reader.slots())


def lost(native: Native) -> dict[str, int]:
    return {reason: count for reason, count in native.reader.losses().items() if count}


@pytest.mark.parametrize("kernel", ALLOC_KERNELS)
@pytest.mark.parametrize("count", [1, 16, 17, 61, 509])
def test_every_object_is_counted_and_tracked(open_native: Open, kernel: str, count: int) -> None:
    native = open_native(kernel)
    cache = with_cache(native)
    native.bulk_alloc(cache, objects(count), cpu=2)
    sums = allocations(native)
    assert (sums.site.tolist(), sums.cache.tolist()) == ([SITE], [cache])
    assert (sums.gfp_size_key.tolist(), sums.variant_key.tolist()) == ([GFP_KERNEL << 32], [0])
    assert (sums.count.tolist(), sums.failed.tolist()) == ([count], [0])
    assert native.tracked() == objects(count)
    samples, slots = native.reader.samples(), native.reader.slots()
    assert set(samples["allocated_bytes"].tolist()) == {SIZE}
    assert set(slots[samples["slot"]]["site"].tolist()) == {SITE}
    assert lost(native) == {}


@pytest.mark.parametrize("count", [LOOKED_AT, LOOKED_AT + 1, 1009])
def test_of_more_objects_than_can_be_looked_at_the_rest_is_a_loss(
    open_native: Open, count: int
) -> None:
    native = open_native()
    cache = with_cache(native)
    native.bulk_alloc(cache, objects(count))
    assert allocations(native).count.tolist() == [count], "counted all the same"
    assert native.tracked() == objects(LOOKED_AT)
    assert native.reader.losses()["bulk_too_long"] == count - LOOKED_AT
    after = objects(61, OBJECTS + (1 << 20))
    native.bulk_alloc(cache, after)
    assert native.tracked() == [*objects(LOOKED_AT), *after], "the next call begins at its start"
    assert native.reader.losses()["bulk_too_long"] == count - LOOKED_AT


def test_a_call_that_is_cut_short_leaves_nothing_behind(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    native.set("no_tail_calls", 1)
    native.bulk_alloc(cache, objects(61))
    assert native.tracked() == objects(16)
    assert lost(native) == {"bulk_too_long": 45}
    native.set("no_tail_calls", 0)
    native.bulk_alloc(cache, objects(17, OBJECTS + (1 << 20)))
    assert len(native.tracked()) == 16 + 17
    assert lost(native) == {"bulk_too_long": 45}


@pytest.mark.parametrize(
    ("kernel", "returned"),
    [("6.1", 0), ("6.18", 0), ("6.18", 1 << 32), ("7.3", 0), ("7.3", 0xABCD00)],
)
def test_a_failure_is_one_failed_request(open_native: Open, kernel: str, returned: int) -> None:
    """Only the bits of the return type count: the rest of the register is undefined."""
    native = open_native(kernel)
    cache = with_cache(native)
    native.bulk_alloc(cache, objects(61), returned)
    sums = allocations(native)
    assert (sums.count.tolist(), sums.failed.tolist()) == ([0], [1])
    assert native.tracked() == []
    native.bulk_alloc(cache, objects(17))
    sums = allocations(native)
    assert (sums.count.tolist(), sums.failed.tolist()) == ([17], [1])


@pytest.mark.parametrize("kernel", ["6.1", "6.18"])
def test_a_number_whose_last_byte_is_zero_is_no_failure(open_native: Open, kernel: str) -> None:
    native = open_native(kernel)
    native.bulk_alloc(with_cache(native), objects(256), 256)
    assert allocations(native).count.tolist() == [256]


@pytest.mark.parametrize("kernel", ["6.18", "7.3"])
def test_a_request_for_nothing_is_no_event(open_native: Open, kernel: str) -> None:
    """It returns 0 or false, as a failure does."""
    native = open_native(kernel)
    native.bulk_alloc(with_cache(native), [], 0)
    assert len(allocations(native).site) == 0
    assert lost(native) == {}


@pytest.mark.parametrize(
    ("frames", "site"),
    [
        ((BULK_ALLOC + 9, SITE, CORE + 0x90), SITE),
        ((SITE, CORE + 0x90), SITE),
        ((BULK_ALLOC + 9,), BULK_ALLOC),
        ((), BULK_ALLOC),
    ],
)
def test_the_site_is_the_caller_or_else_the_function(
    open_native: Open, frames: tuple[int, ...], site: int
) -> None:
    native = open_native()
    native.callers(*frames)
    native.bulk_alloc(with_cache(native), objects(17))
    sums = allocations(native)
    assert (sums.site.tolist(), sums.count.tolist()) == ([site], [17])
    assert len(native.tracked()) == 17


def test_hidden_symbols_hide_the_caller_and_nothing_else(open_native: Open) -> None:
    native = open_native(hidden=True)
    native.bulk_alloc(with_cache(native), objects(17))
    sums = allocations(native)
    assert sums.count.tolist() == [17]
    (site,) = sums.site.tolist()
    assert native.symbols.resolve(site, 0).symbol == UNKNOWN
    assert len(native.tracked()) == 17


def test_a_caller_in_a_module_carries_the_generation_of_modules(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    native.reader.control["module_generation"] = 6
    native.module(MODULE, 4096)
    native.callers(BULK_ALLOC + 9, MODULE + 0x10)
    native.bulk_alloc(cache, objects(3))
    sums = allocations(native)
    assert (sums.site.tolist(), sums.variant_key.tolist()) == ([MODULE + 0x10], [7 << 32])


def test_callers_flags_and_caches_have_slots_of_their_own(open_native: Open) -> None:
    native = open_native()
    one, two = with_cache(native), with_cache(native, b"io_kiocb", OBJECTS + (1 << 24))
    for number, (site, cache, gfp) in enumerate(
        [
            (SITE, one, GFP_KERNEL),
            (SITE, two, GFP_KERNEL),
            (SITE + 1, one, GFP_KERNEL),
            (SITE, one, 0x820),
        ]
    ):
        native.callers(BULK_ALLOC, site)
        start = OBJECTS + (1 << 16) * number + ((1 << 24) if cache == two else 0)
        native.bulk_alloc(cache, objects(17 + number, start), gfp=gfp)
    sums = allocations(native)
    assert sorted(sums.count.tolist()) == [17, 18, 19, 20]
    slots = native.reader.slots()
    for sample in native.reader.samples():
        assert int(slots[int(sample["slot"])]["count"]) in sums.count.tolist()
    assert sorted(np.bincount(native.reader.samples()["slot"]).tolist())[-4:] == [17, 18, 19, 20]


def test_all_gfp_bits_of_a_request_are_those_of_its_slot(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    for bit in range(32):
        native.bulk_alloc(cache, objects(1), gfp=1 << bit)
    flags = [request >> 32 for request in allocations(native).gfp_size_key.tolist()]
    assert sorted(flags) == [1 << bit for bit in range(32)]


def test_each_cpu_counts_for_itself(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    for cpu in range(4):
        native.callers(BULK_ALLOC, SITE + cpu)
        native.bulk_alloc(cache, objects(17 + cpu, OBJECTS + (cpu << 16)), cpu=cpu)
    assert [rows.count.tolist() for rows in native.reader.allocations_by_cpu()] == [
        [17],
        [18],
        [19],
        [20],
    ]
    samples, slots = native.reader.samples(), native.reader.slots()
    sites, counts = np.unique(slots[samples["slot"]]["site"], return_counts=True)
    assert dict(zip(sites.tolist(), counts.tolist(), strict=True)) == {
        SITE + cpu: 17 + cpu for cpu in range(4)
    }


@pytest.mark.parametrize("cpu", range(4))
def test_the_unseen_free_of_an_object_is_one_of_its_own_cache(open_native: Open, cpu: int) -> None:
    """Of any of the three programs that allocate, on any CPU."""
    native = open_native()
    kmalloc = native.cache(b"kmalloc-256", SIZE)
    native.slab(OBJECTS, 1 << 16, kmalloc)
    dentry, maple = native.cache(b"dentry", SIZE), native.cache(b"maple_node", SIZE)
    other = native.cache(b"other", SIZE)
    native.kmalloc(SITE, OBJECTS, 200, SIZE, cpu=cpu)
    native.cache_alloc(SITE, OBJECTS + SIZE, dentry, cpu=cpu)
    native.bulk_alloc(maple, objects(3, OBJECTS + 2 * SIZE), cpu=cpu)
    native.bulk_alloc(other, objects(5))
    assert native.reader.unobserved_frees() == {kmalloc: 1, dentry: 1, maple: 3}
    assert native.tracked() == objects(5)
    native.cache_alloc(SITE, OBJECTS, dentry)
    assert native.reader.unobserved_frees()[other] == 1


def test_a_lane_without_a_slot_loses_all_objects_of_a_call(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    events = 400
    for i in range(events):
        native.callers(BULK_ALLOC, SITE + 8 * i)
        native.bulk_alloc(cache, objects(3))
    counted = int(allocations(native).count.sum())
    assert counted < 3 * events
    assert counted + native.reader.losses()["site_slots_full"] == 3 * events


def test_exact_mode_by_site_selects_by_the_caller(open_native: Open) -> None:
    settings = replace(SMALL, exact=Filter(module="card"))
    native = open_native(settings=settings, text=((MODULE, MODULE + 0x1000),))
    cache = with_cache(native)
    for number, site in enumerate((MODULE + 0x10, MODULE + 0x1000, SITE)):
        native.callers(BULK_ALLOC, site)
        native.bulk_alloc(cache, objects(17, OBJECTS + (number << 16)))
    assert native.tracked() == objects(17)
    assert allocations(native).count.tolist() == [17] * 3, "all are counted"


def test_samples_of_bulk_allocations_give_unbiased_estimates(open_native: Open) -> None:
    """The estimate of live bytes holds the truth, for batches of any size."""
    native = open_native(settings=SMALL)
    cache = with_cache(native)
    trials, batches = 60, (1, 16, 17, 61, 305)
    everything = objects(sum(batches))
    errors, held = [], 0
    for trial in range(trials):
        native.start(seed=trial)
        first = 0
        for number, count in enumerate(batches):
            native.bulk_alloc(cache, everything[first : first + count], cpu=number % 4)
            first += count
        native.bulk_free(everything[::2], cache)
        samples = native.reader.samples()
        sizes, intervals = samples["allocated_bytes"], samples["interval"]
        (live,) = Grouped(sizes, intervals).by(np.zeros(len(samples), int), 1)
        truth = len(everything[1::2]) * SIZE
        errors.append(live.bytes - truth)
        held += live.low_bytes <= truth <= live.high_bytes
        native.bulk_free(everything[1::2])
    assert native.tracked() == []
    assert abs(np.mean(errors)) < 3 * np.std(errors, ddof=1) / math.sqrt(trials)
    assert held >= 0.95 * trials - 3 * math.sqrt(trials * 0.95 * 0.05)
