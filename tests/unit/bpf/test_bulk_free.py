# SPDX-License-Identifier: Apache-2.0
"""Frees by kmem_cache_free_bulk() and __kfree_rcu_sheaf(), run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import BULK_ALLOC, OBJECTS, Native
from tests.support.records import generation_slot

SETTINGS = Settings(
    site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256, exact=Filter(min_size=1)
)
SITE = CORE + 0x144
SIZE = 256
LOOKED_AT = 34 * 16  # one program and 33 tail calls, 16 objects each
LARGE = CONSTANTS["CACHE_LARGE"]
FREE_KERNELS = ["6.1", "6.12", "6.18", "7.3"]
Open = Callable[..., Native]


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(kernel: str = "6.18", **changes: object) -> Native:
        host = facts(kernel, **{"kfunc_get_cache": 1, **changes})
        native = Native(make_plan(host, SETTINGS), tmp_path, monkeypatch)
        native.start()
        native.set("time", 1000)
        native.callers(BULK_ALLOC + 9, SITE)
        return native

    return make


def with_cache(native: Native, name: bytes = b"kmalloc-256", start: int = OBJECTS) -> int:
    cache = native.cache(name, SIZE)
    native.slab(start, 1 << 24, cache)
    return cache


def objects(count: int, start: int = OBJECTS) -> list[int]:
    return [start + SIZE * i for i in range(count)]


def frees(native: Native) -> dict[int, int]:
    frees = native.reader.frees()
    return dict(zip(frees.cache.tolist(), frees.count.tolist(), strict=True))


def lost(native: Native) -> dict[str, int]:
    return {reason: count for reason, count in native.reader.losses().items() if count}


@pytest.mark.parametrize("kernel", FREE_KERNELS)
@pytest.mark.parametrize("count", [1, 16, 17, 61, 509])
def test_every_object_is_counted_and_forgotten(open_native: Open, kernel: str, count: int) -> None:
    native = open_native(kernel)
    cache = with_cache(native)
    for address in objects(count + 2):
        native.kmalloc(SITE, address, 200, SIZE)
    native.set("time", 1000 + 50_000)
    native.bulk_free(objects(count), cpu=3)
    assert frees(native) == {cache: count}
    assert native.tracked() == objects(count + 2)[count:]
    assert native.reader.frees().lifetimes[0].tolist()[:3] == [0, count, 0]
    assert native.pool_used() == 2
    native.bulk_free(objects(count), cpu=3)
    assert frees(native) == {cache: 2 * count}
    assert native.reader.frees().lifetimes.sum() == count, "each lifetime is counted once"
    assert lost(native) == {}


@pytest.mark.parametrize("count", [LOOKED_AT, LOOKED_AT + 1, 1009])
def test_of_more_objects_than_can_be_looked_at_the_rest_is_a_loss(
    open_native: Open, count: int
) -> None:
    native = open_native()
    cache = with_cache(native)
    native.bulk_alloc(cache, objects(LOOKED_AT))
    for address in objects(count)[LOOKED_AT:]:
        native.kmalloc(SITE, address, 200, SIZE)
    native.bulk_free(objects(count))
    assert frees(native) == {cache: LOOKED_AT}
    assert native.tracked() == objects(count)[LOOKED_AT:]
    assert native.reader.losses()["bulk_too_long"] == count - LOOKED_AT
    native.bulk_free(objects(count)[LOOKED_AT:][:509])
    assert native.tracked() == objects(count)[LOOKED_AT:][509:], "from its start"
    assert native.reader.losses()["bulk_too_long"] == count - LOOKED_AT


def test_a_call_that_is_cut_short_leaves_nothing_behind(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    native.set("no_tail_calls", 1)
    native.bulk_free(objects(61))
    assert (frees(native), lost(native)) == ({cache: 16}, {"bulk_too_long": 45})
    native.bulk_free(objects(3))
    native.set("no_tail_calls", 0)
    native.bulk_free(objects(61))
    assert (frees(native), lost(native)) == ({cache: 80}, {"bulk_too_long": 45})


def test_nothing_is_freed_by_an_empty_call(open_native: Open) -> None:
    native = open_native()
    with_cache(native)
    native.bulk_free([])
    assert (frees(native), lost(native)) == ({}, {})


def test_null_entries_are_no_objects(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    entries = objects(61)
    entries[0] = entries[15] = entries[16] = entries[60] = 0
    entries[30] = 16  # kmalloc(0)
    native.bulk_free(entries)
    assert (frees(native), lost(native)) == ({cache: 56}, {})


def test_each_object_counts_for_its_own_cache(open_native: Open) -> None:
    """kfree_bulk() names no cache: its objects come from any."""
    native = open_native()
    one, two = with_cache(native), with_cache(native, b"dentry", OBJECTS + (1 << 24))
    mixed = objects(61) + objects(17, OBJECTS + (1 << 24))
    native.bulk_free(mixed[::2] + mixed[1::2])
    assert frees(native) == {one: 61, two: 17}


def test_page_backed_objects_are_freed_with_their_size(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    large = [OBJECTS + (1 << 30) + (i << 20) for i in range(5)]
    for i, address in enumerate(large[:3]):
        native.kmalloc(SITE, address, 9000, 16_384 << i)
    native.bulk_free([*objects(17), *large])
    assert frees(native) == {cache: 17, LARGE: 5}
    assert native.reader.large_freed_bytes() == 7 * 16_384
    assert lost(native) == {"large_free_size": 2}, "allocated before tracking"
    assert native.tracked() == []


@pytest.mark.parametrize("cpu", range(4))
def test_whoever_allocated_an_object_it_can_be_freed_in_bulk(open_native: Open, cpu: int) -> None:
    native = open_native()
    cache = with_cache(native)
    addresses = objects(61)
    for i, address in enumerate(addresses[:20]):
        native.kmalloc(SITE, address, 200, SIZE, cpu=i % 4)
    for i, address in enumerate(addresses[20:40]):
        native.cache_alloc(SITE, address, cache, cpu=i % 4)
    native.bulk_alloc(cache, addresses[40:], cpu=(cpu + 1) % 4)
    assert native.tracked() == addresses
    native.bulk_free(addresses, cpu=cpu)
    assert native.tracked() == []
    assert native.reader.frees().lifetimes.sum() == 61
    assert native.pool_used() == 0


def test_each_cpu_counts_for_itself(open_native: Open) -> None:
    native = open_native()
    cache = with_cache(native)
    for cpu in range(4):
        native.bulk_free(objects(17 + cpu), cpu=cpu)
        native.kfree(OBJECTS, cpu=cpu)
        native.rcu_free(OBJECTS, 1, cpu=cpu)
    assert frees(native) == {cache: 17 + 18 + 19 + 20 + 8}


def test_a_lane_without_a_slot_loses_each_object(open_native: Open) -> None:
    native = open_native()
    other = OBJECTS + (1 << 24)
    caches = [with_cache(native), with_cache(native, b"dentry", other)]
    for generation in range(64):  # each is another cache
        for cache in caches:
            native.reader.control["cache_generation"][generation_slot(cache)] = generation
        native.bulk_free(objects(17))
        native.bulk_free(objects(13, other))
    counted = sum(frees(native).values())
    assert counted < 64 * (17 + 13)
    assert lost(native) == {"cache_slots_full": 64 * (17 + 13) - counted}


def test_an_object_whose_cache_is_not_found_is_a_loss_and_forgotten(open_native: Open) -> None:
    native = open_native("6.12", kfunc_get_cache=None, page_symbols=False)
    for address in objects(17):
        native.kmalloc(SITE, address, 200, SIZE)
    native.bulk_free(objects(17))
    assert (frees(native), native.tracked()) == ({}, [])
    assert native.reader.losses()["cache_unresolved"] == 17 + 17


@pytest.mark.parametrize("kernel", ["6.18", "7.3"])
def test_an_object_is_freed_once_a_sheaf_takes_it(open_native: Open, kernel: str) -> None:
    """If none does, kfree_rcu() falls back to its batches, which are counted when they end."""
    native = open_native(kernel)
    cache = with_cache(native)
    for address in objects(61):
        native.kmalloc(SITE, address, 200, SIZE)
    native.set("time", 1000 + 5_000)
    for i, address in enumerate(objects(61)):
        native.rcu_free(address, 0xABC00 + (i % 2), cpu=i % 4)
    assert frees(native) == {cache: 30}
    assert native.tracked() == objects(61)[::2]
    native.bulk_free(objects(61)[::2])
    assert (frees(native), native.tracked()) == ({cache: 61}, [])
    assert native.reader.frees().lifetimes[0].tolist()[:2] == [61, 0]
    assert lost(native) == {}


@pytest.mark.parametrize("kernel", ["6.18", "7.3"])
def test_a_null_pointer_in_a_sheaf_is_no_free(open_native: Open, kernel: str) -> None:
    native = open_native(kernel)
    native.rcu_free(0, 1)
    assert (frees(native), lost(native)) == ({}, {})
