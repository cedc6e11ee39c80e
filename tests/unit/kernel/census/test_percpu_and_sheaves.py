# SPDX-License-Identifier: Apache-2.0
"""Objects that are free although their slabs count them as in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slabmon.kernel.census import percpu, sheaves
from slabmon.kernel.census.reading import occupancy
from tests.support.slab_memory import HEAP, LAYOUT, OFFSETS, STRUCT_PAGE, VMEMMAP, FakeKernel

CPUS = {0: HEAP, 1: HEAP + 0x10000}  # __per_cpu_offset
POINTER = 0x400000  # a per-CPU pointer
NO_LISTS = (np.zeros(0, np.int64), np.zeros(0, np.uint64))


def per_cpu_record(kernel: FakeKernel, cpu: int, kind: str, **words: int) -> None:
    address = CPUS[cpu] + POINTER
    kernel.memory.write(address, bytes(256))
    for name, value in words.items():
        kernel.memory.write_word(address + OFFSETS[f"{kind}.{name}"], value)


def test_objects_on_a_cpu_list_are_free_beside_those_on_its_slab_list() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("busy", 64, cpu_slab=POINTER)
    kernel.slab(cache, free=[0])
    # Two of its objects were freed by another CPU: the slab's own list and count show them.
    active = kernel.slab(cache, free=[7, 9])
    head = kernel.chain(cache, active, [4, 20, 5])
    descriptor = VMEMMAP + active * STRUCT_PAGE
    per_cpu_record(kernel, 0, "cpu_slab", freelist=head, slab=descriptor)
    per_cpu_record(kernel, 1, "cpu_slab", freelist=0, slab=descriptor)
    slabs = kernel.slabs()
    lists = percpu.cpu_lists(kernel.memory, LAYOUT, slabs, VMEMMAP, CPUS)
    state = occupancy(kernel.memory, slabs, lists, np.zeros(0, np.int64))
    assert state.in_use.tolist() == [63, 59]
    assert np.flatnonzero(state.free[64:]).tolist() == [4, 5, 7, 9, 20]
    assert state.changed == 0


def test_a_cpu_slab_that_is_no_slab_any_more_is_skipped() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("gone", 64, cpu_slab=POINTER)
    kernel.slab(cache, free=[0])
    per_cpu_record(kernel, 0, "cpu_slab", freelist=16, slab=VMEMMAP + 60 * STRUCT_PAGE)
    rows, heads = percpu.cpu_lists(kernel.memory, LAYOUT, kernel.slabs(), VMEMMAP, CPUS)
    assert len(rows) == len(heads) == 0


def test_objects_in_sheaves_of_cpus_and_barns_are_free() -> None:
    kernel = FakeKernel()
    barn = kernel.record("barn")
    node = kernel.record("node", barn=barn)
    cache = kernel.cache("sheaved", 64, cpu_sheaves=POINTER, nodes=[node])
    kernel.slab(cache, free=[0])
    pfn = kernel.slab(cache)

    def sheaf(*places: int) -> int:
        return kernel.sheaf([kernel.object(cache, pfn, place) for place in places])

    per_cpu_record(kernel, 0, "sheaves", main=sheaf(1, 2), spare=sheaf(3), rcu_free=sheaf(10))
    per_cpu_record(kernel, 1, "sheaves", main=sheaf())
    full = [sheaf(30, 31, 32), sheaf(40)]
    entries = [address + OFFSETS["sheaf.list"] for address in full]
    kernel.circle(barn + OFFSETS["barn.full"], entries)
    slabs = kernel.slabs()
    numbers = sheaves.free_objects(kernel.memory, LAYOUT, slabs, CPUS, nodes=[0, 1])
    assert sorted(numbers - 64) == [1, 2, 3, 10, 30, 31, 32, 40]
    state = occupancy(kernel.memory, slabs, NO_LISTS, numbers)
    assert state.in_use.tolist() == [63, 56]


def test_a_cpu_list_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    online = tmp_path / "online"
    online.write_text("0-2,5,8-9\n")
    assert percpu.online_cpus(online) == [0, 1, 2, 5, 8, 9]
