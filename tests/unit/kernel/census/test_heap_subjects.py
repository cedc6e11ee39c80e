# SPDX-License-Identifier: Apache-2.0
"""How many objects of a heap are looked into, and what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.kernel.census import heap_subjects, owners
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.naming import Named
from slabmon.kernel.census.owners import Kinds
from tests.support.slab_memory import LAYOUT, FakeKernel

MOST_BYTES = 32 * PAGE_BYTES


@pytest.mark.parametrize("orders", [[1] + [3] * 50, [3] + [1] * 50, [1, 3, 2] * 20])
def test_blocks_of_pages_take_what_is_allowed_whatever_their_sizes(orders: list[int]) -> None:
    kernel = FakeKernel(pfns=1024)
    kernel.slab(kernel.cache("shows", 64), free=[0])
    for order in orders:
        kernel.large(order)
    reading = kernel.reading(free=[0])
    heap = Heap(reading, LAYOUT)
    numbers = np.arange(reading.slabs.total, len(heap))
    found = heap_subjects.choose(kernel.memory, reading, heap, numbers, MOST_BYTES)
    assert MOST_BYTES - (PAGE_BYTES << max(orders)) < len(found.words) * 8 <= MOST_BYTES
    assert found.scale[-1] == len(orders) / len(found)


def test_one_block_is_looked_into_however_large_it_is() -> None:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("shows", 64), free=[0])
    kernel.large(3)
    reading = kernel.reading(free=[0])
    heap = Heap(reading, LAYOUT)
    numbers = np.array([reading.slabs.total])
    assert len(heap_subjects.choose(kernel.memory, reading, heap, numbers, PAGE_BYTES)) == 1


def test_bytes_of_blocks_that_are_not_looked_into_are_estimated() -> None:
    kernel = FakeKernel(pfns=1024)
    kernel.slab(kernel.cache("shows", 64), free=[0])
    for _ in range(50):
        kernel.large(3)
    reading = kernel.reading(free=[0])
    heap = Heap(reading, LAYOUT)
    numbers = np.arange(reading.slabs.total, len(heap))
    found = heap_subjects.choose(kernel.memory, reading, heap, numbers, MOST_BYTES)
    named = Named(found, np.full(len(found), NONE), (), 1.0, 0)
    structs = Structs(None)  # type: ignore[arg-type]  # none is known
    (row,) = owners.subject_rows(reading, Kinds(named, structs, reading.slabs.caches.name))
    assert (row.objects, row.bytes) == (50, 50 * (PAGE_BYTES << 3))
