# SPDX-License-Identifier: Apache-2.0
"""Rows of caches: how many objects, how full the slabs."""

from __future__ import annotations

import numpy as np

from slabmon.kernel.census import inventory
from slabmon.kernel.census.pages import LargePages
from tests.support.slab_memory import FakeKernel


def test_a_cache_is_summed_over_its_slabs_by_fill_and_node() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("some", 1024)
    for free in ([0], [1, 2], [0, 1, 2, 3], []):
        kernel.slab(cache, free=free)
    slabs = kernel.slabs()
    used = slabs.inuse
    nodes = np.array([0, 0, 1, 1])
    [row] = inventory.cache_rows(slabs, used, nodes, {"some": ("other",)})
    assert (row.name, row.aliases) == ("some", ("other",))
    assert (row.slabs, row.objects, row.in_use, row.free) == (4, 16, 9, 7)
    assert (row.object_size, row.size, row.slab_bytes) == (1024, 1024, 4 * 4096)
    assert row.empty_slabs == 1
    assert row.fill == (1, 0, 0, 0, 0, 1, 0, 1, 0, 1)
    assert row.spare_bytes == 4096  # nine objects need three slabs of four
    assert [(n.node, n.slabs, n.objects, n.in_use) for n in row.nodes] == [
        (0, 2, 8, 5),
        (1, 2, 8, 4),
    ]


def test_an_empty_cache_could_give_back_everything() -> None:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("idle", 2048), free=[0, 1])
    slabs = kernel.slabs()
    [row] = inventory.cache_rows(slabs, slabs.inuse, np.array([0]), {})
    assert row.spare_bytes == row.slab_bytes == 4096


def test_page_backed_kmalloc_is_a_cache_of_its_own() -> None:
    nothing = np.zeros(0, np.int64)
    assert (
        inventory.large_row(
            inventory.page_blocks(
                LargePages(pfn=nothing, order=nothing, memcg_data=np.zeros(0, np.uint64))
            )
        )
        == ()
    )
    large = LargePages(
        pfn=np.array([8, 16, 32]), order=np.array([2, 3, 2]), memcg_data=np.zeros(3, np.uint64)
    )
    blocks = inventory.page_blocks(large)
    assert [(b.order, b.objects, b.bytes) for b in blocks] == [(2, 2, 32768), (3, 1, 32768)]
    [row] = inventory.large_row(blocks)
    assert (row.name, row.in_use, row.slab_bytes) == ("kmalloc-large", 3, 65536)
