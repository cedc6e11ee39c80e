# SPDX-License-Identifier: Apache-2.0
"""Slabs, their objects and their freelists, from struct pages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.census import freelists, memory_map, pages
from slabmon.kernel.census.reading import Occupancy, occupancy
from slabmon.kernel.census.slabs import NONE
from tests.support.slab_memory import DIRECT_MAP, LAYOUT, VMEMMAP, FakeCache, FakeKernel

NO_LISTS = (np.zeros(0, np.int64), np.zeros(0, np.uint64))
NOTHING = np.zeros(0, np.int64)


def occupied(kernel: FakeKernel) -> Occupancy:
    return occupancy(kernel.memory, kernel.slabs(), NO_LISTS, NOTHING)


def test_slabs_are_found_with_their_cache_order_and_address() -> None:
    kernel = FakeKernel()
    small, big = kernel.cache("small", 64), kernel.cache("big", 1024, order=2)
    first, second = kernel.slab(small, free=[3]), kernel.slab(big)
    found = kernel.slabs()
    names = [found.caches.name[row] for row in found.cache]
    assert names == ["small", "big"]
    assert found.pfn.tolist() == [first, second]
    assert found.pages.tolist() == [1, 4]
    assert found.objects.tolist() == [64, 16]
    assert found.inuse.tolist() == [63, 16]
    assert found.address.tolist() == [DIRECT_MAP + pfn * 4096 for pfn in (first, second)]
    assert found.total == 80


def test_two_caches_of_one_name_are_numbered() -> None:
    kernel = FakeKernel()
    for _ in range(2):
        kernel.slab(kernel.cache("twin", 64), free=[0])
    assert kernel.slabs().caches.name == ("twin", "twin#2")


def test_pages_that_do_not_hold_as_many_objects_as_their_cache_says_are_no_slabs() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("real", 64)
    kernel.slab(cache, free=[1])
    lent = FakeCache(cache.address, cache.size, cache.offset, cache.random, objects=1, order=0)
    kernel.slab(lent)
    assert len(kernel.slabs()) == 1


def test_an_address_leads_to_the_object_it_lies_in() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("padded", 96, pad=8)
    pfn = kernel.slab(cache, free=[0])
    found = kernel.slabs()
    start = kernel.object(cache, pfn, 5)
    past = DIRECT_MAP + (pfn + 1) * 4096 - 1  # 4096 is not a multiple of 96
    addresses = np.array([start, start + 80, past, DIRECT_MAP, 16], np.uint64)
    assert found.find(addresses).tolist() == [5, 5, NONE, NONE, NONE]


FREE = st.lists(st.integers(0, 41), unique=True, max_size=42)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(FREE, min_size=1, max_size=4),
    st.sampled_from([0, 40, 88]),
    st.sampled_from([0, 0x0123456789ABCDEF, (1 << 64) - 1]),
)
def test_every_free_object_is_found_and_no_other(
    lists: list[list[int]], offset: int, random: int
) -> None:
    kernel = FakeKernel()
    cache = kernel.cache("any", 96, offset=offset, random=random)
    kernel.slab(cache, free=[0])  # shows where the direct map is
    for free in lists:
        kernel.slab(cache, free=free)
    state = occupied(kernel)
    marks = state.free.reshape(-1, 42)[1:]
    assert [np.flatnonzero(row).tolist() for row in marks] == [sorted(row) for row in lists]
    assert state.in_use.tolist() == [41, *(42 - len(row) for row in lists)]
    assert state.changed == 0


def test_a_freelist_that_leads_in_a_circle_or_away_ends() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("torn", 64)
    pfn = kernel.slab(cache, free=[1, 2, 3])
    found = kernel.slabs()
    heads = np.array([kernel.object(cache, pfn, 1)], np.uint64)
    kernel.memory.write_word(kernel.object(cache, pfn, 3), 0xDEADBEEF)
    numbers, lengths = freelists.walk(kernel.memory, found, np.array([0]), heads)
    assert (numbers.tolist(), lengths.tolist()) == ([1, 2, 3], [3])
    kernel.chain(cache, pfn, [1, 2, 3, 1])
    numbers, lengths = freelists.walk(kernel.memory, found, np.array([0]), heads)
    assert lengths.tolist() == [len(numbers)]
    assert set(numbers.tolist()) <= {1, 2, 3}


def test_a_slab_whose_list_is_shorter_than_its_count_says_is_counted_as_changed() -> None:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("busy", 64), free=[1, 2], inuse=60)
    state = occupied(kernel)
    assert state.changed == 1
    assert state.in_use.tolist() == [60]


def test_unreadable_struct_pages_are_left_out() -> None:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("edge", 64), free=[1])
    ranges = [memory_map.PageRange(1, 200)]  # struct pages end at 64
    found = pages.scan(kernel.memory, LAYOUT, VMEMMAP, ranges)
    assert len(found.slabs.pfn) == 1
    assert found.read == 63


def test_large_kmalloc_is_found_with_its_order() -> None:
    kernel = FakeKernel()
    for order in (2, 3, 2):
        kernel.large(order)
    large = kernel.scan().large
    assert large.order.tolist() == [2, 3, 2]


def test_the_direct_map_is_where_most_freelists_say() -> None:
    pfns = np.arange(1, 21)
    freelists_ = np.uint64(DIRECT_MAP) + pfns.astype(np.uint64) * np.uint64(4096) + np.uint64(128)
    freelists_[0] = 0
    freelists_[1] = 0xFFFF000000000000
    assert memory_map.find_direct_map(pfns, freelists_) == DIRECT_MAP
    freelists_[::2] += np.uint64(4096)
    with pytest.raises(UnsupportedHost):
        memory_map.find_direct_map(pfns, freelists_)
