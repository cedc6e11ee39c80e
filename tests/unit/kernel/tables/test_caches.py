# SPDX-License-Identifier: Apache-2.0
"""Which cache is which, over equal names, destroyed caches and addresses used again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.tables.caches import LARGE, UNKNOWN, CacheDirectory
from slabmon.model import LARGE_CACHE, UNRESOLVED_CACHE
from tests.support.records import cache_record, generation_slot, generations

A, B, C, D = 0xFFFF888100010000, 0xFFFF888100020040, 0xFFFF888100030080, 0xFFFF8881000400C0
MASK = CONSTANTS["CACHE_GENERATION_MASK"]


class Kernel:
    """Generations as the programs keep them, and the directory they feed."""

    def __init__(self) -> None:
        self.generations = generations()
        self.directory = CacheDirectory({})

    def key(self, address: int) -> int:
        return address | int(self.generations[generation_slot(address)]) & MASK

    def see(self, *caches: tuple[int, bytes], size: int = 64, flags: int = 0) -> list[str]:
        """Introduces caches in one reading, in this order; returns their names."""
        keys = [self.key(address) for address, _ in caches]
        records = np.concatenate([cache_record(name, size, flags) for _, name in caches])
        self.directory.update(np.array(keys, "<u8"), records, self.generations)
        return [self.directory.get(key).name for key in keys]

    def destroy(self, address: int) -> None:
        self.generations[generation_slot(address)] += 1


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_page_backed_and_unknown_caches_are_always_there(kernel: Kernel) -> None:
    assert kernel.directory.get(LARGE).name == LARGE_CACHE
    assert kernel.directory.get(UNKNOWN).name == UNRESOLVED_CACHE
    assert kernel.directory.get(A).name == UNRESOLVED_CACHE


def test_a_cache_is_what_its_record_says(kernel: Kernel) -> None:
    record = cache_record(b"inode_cache", 640, 0x20000 | 0x4000000, object_size=600)
    kernel.directory.update(np.array([A], "<u8"), record, kernel.generations)
    found = kernel.directory.get(A)
    assert (found.name, found.kernel_name) == ("inode_cache", "inode_cache")
    assert (found.object_size, found.size) == (600, 640)
    assert (found.reclaimable, found.accounted, found.dma) == (True, True, False)


def test_flags_are_those_of_the_running_kernel() -> None:
    directory = CacheDirectory({"RECLAIM_ACCOUNT": 1 << 9, "ACCOUNT": 1 << 10, "CACHE_DMA": 1 << 3})
    records = np.concatenate([cache_record(b"a", 64, 1 << 9), cache_record(b"b", 64, 1 << 3)])
    directory.update(np.array([A, B], "<u8"), records, generations())
    assert directory.get(A).reclaimable
    assert not directory.get(A).dma
    assert directory.get(B).dma
    assert not directory.get(B).accounted


def test_only_a_new_key_is_news(kernel: Kernel) -> None:
    keys, records = np.array([A], "<u8"), cache_record(b"a")
    assert kernel.directory.update(keys, records, kernel.generations)
    assert not kernel.directory.update(keys, records, kernel.generations)


def test_living_caches_of_one_name_are_told_apart(kernel: Kernel) -> None:
    assert kernel.see((A, b"mlx5"), (B, b"mlx5"), (C, b"mlx5")) == ["mlx5", "mlx5#2", "mlx5#3"]
    assert kernel.directory.get(B).kernel_name == "mlx5"


def test_a_name_never_moves_to_another_living_cache(kernel: Kernel) -> None:
    first = kernel.see((A, b"mlx5"), (B, b"mlx5"))
    assert kernel.see((B, b"mlx5"), (A, b"mlx5")) == first[::-1]


def test_a_cache_follows_a_destroyed_one_of_its_name(kernel: Kernel) -> None:
    kernel.see((A, b"mlx5"))
    kernel.destroy(A)
    assert kernel.see((B, b"mlx5")) == ["mlx5"]
    assert kernel.directory.get(A).name == "mlx5", "what the old one counted keeps its name"


def test_the_number_of_a_destroyed_cache_is_followed_too(kernel: Kernel) -> None:
    kernel.see((A, b"mlx5"), (B, b"mlx5"))
    kernel.destroy(B)
    assert kernel.see((C, b"mlx5")) == ["mlx5#2"]
    assert kernel.see((D, b"mlx5")) == ["mlx5#3"]


def test_a_cache_made_where_its_namesake_was_is_the_same_row(kernel: Kernel) -> None:
    kernel.see((A, b"mlx5"))
    kernel.destroy(A)
    assert kernel.see((A, b"mlx5")) == ["mlx5"]


def test_another_cache_where_one_was_destroyed_has_its_own_name(kernel: Kernel) -> None:
    kernel.see((A, b"first"))
    old = kernel.key(A)
    kernel.destroy(A)
    assert kernel.see((A, b"second")) == ["second"]
    assert kernel.directory.get(old).name == "first"


def test_a_living_cache_keeps_its_name_when_its_generation_moves(kernel: Kernel) -> None:
    """Generations are kept by hash: another cache's end can move this one's."""
    kernel.see((A, b"dentry"))
    kernel.generations[generation_slot(A)] += 1
    assert kernel.see((A, b"dentry")) == ["dentry"]


def test_a_name_is_followed_although_its_address_has_another_cache_now(kernel: Kernel) -> None:
    kernel.see((A, b"first"))
    kernel.destroy(A)
    kernel.see((A, b"second"))
    assert kernel.see((B, b"first")) == ["first"]


def test_caches_that_swap_addresses_when_a_module_is_reloaded_keep_their_names(
    kernel: Kernel,
) -> None:
    kernel.see((A, b"first"), (B, b"second"))
    kernel.destroy(A)
    kernel.destroy(B)
    assert kernel.see((B, b"first"), (A, b"second")) == ["first", "second"]


def test_a_name_that_looks_numbered_is_not_taken_twice(kernel: Kernel) -> None:
    names = kernel.see((A, b"mlx5"), (B, b"mlx5#2"), (C, b"mlx5"))
    assert len(set(names)) == 3


def test_names_are_made_harmless(kernel: Kernel) -> None:
    (name,) = kernel.see((A, b"evil\x1b[2J\n\xff"))
    assert name == "evil\\x1b[2J\\n\\xff"


STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from([b"a", b"b", b"c"])), max_size=25
)


@given(STEPS)
def test_living_caches_never_share_a_name(steps: list[tuple[bool, int, bytes]]) -> None:
    kernel = Kernel()
    # Addresses whose generation counters differ.
    addresses = list({generation_slot(A + 64 * i): A + 64 * i for i in range(40)}.values())
    living: dict[int, bytes] = {}
    for create, slot, name in steps:
        address = addresses[slot]
        if address in living:
            del living[address]
            kernel.destroy(address)
        if create:
            living[address] = name
            kernel.see((address, name))
        names = [kernel.directory.get(kernel.key(a)).name for a in living]
        assert len(set(names)) == len(names)
        for shown, kernel_name in zip(names, living.values(), strict=True):
            assert shown.partition("#")[0] == kernel_name.decode()


def kmalloc_family(kernel: Kernel) -> None:
    reclaim, account, dma = 0x20000, 0x4000000, 0x4000
    kernel.see((A, b"kmalloc-64"))
    kernel.see((B, b"kmalloc-rcl-64"), flags=reclaim)
    kernel.see((C, b"kmalloc-cg-64"), flags=account)
    kernel.see((D, b"dma-kmalloc-64"), flags=dma)
    kernel.see((A + 64 * 64, b"files_cache"))


@pytest.mark.parametrize(
    ("reclaimable", "accounted", "dma", "name"),
    [
        (False, False, False, "kmalloc-64"),
        (True, False, False, "kmalloc-rcl-64"),
        (False, True, False, "kmalloc-cg-64"),
        (False, False, True, "dma-kmalloc-64"),
        (True, True, False, "kmalloc-rcl-64"),
        (True, True, True, "dma-kmalloc-64"),
    ],
)
def test_a_failed_kmalloc_belongs_to_the_cache_the_kernel_would_take(
    kernel: Kernel, reclaimable: bool, accounted: bool, dma: bool, name: str
) -> None:
    kmalloc_family(kernel)
    assert kernel.directory.of_failed_kmalloc(64, reclaimable, accounted, dma).name == name


def test_a_failed_kmalloc_of_an_unknown_or_doubtful_cache_is_unresolved(kernel: Kernel) -> None:
    kmalloc_family(kernel)
    failed = kernel.directory.of_failed_kmalloc
    assert failed(128, False, False, False).name == UNRESOLVED_CACHE
    kernel.see((A + 64 * 128, b"kmalloc-rnd-01-64"))
    assert failed(64, False, False, False).name == UNRESOLVED_CACHE


def test_a_failed_kmalloc_above_the_largest_bucket_is_page_backed(kernel: Kernel) -> None:
    assert kernel.directory.of_failed_kmalloc(1 << 20, False, False, False).name == LARGE_CACHE


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (64, "kmalloc-64"),
        (320, UNRESOLVED_CACHE),
        (24_576, "kmalloc-8k"),
        (40_960, UNRESOLVED_CACHE),
        (16_384, LARGE_CACHE),
        ((1 << 32) - 1, LARGE_CACHE),
    ],
)
def test_of_a_failed_kmalloc_only_whole_pages_are_page_backed(
    kernel: Kernel, size: int, name: str
) -> None:
    """slub_debug=FZPU makes an object of kmalloc-8k occupy 24 KiB (calculate_sizes(), mm/slub.c):
    whole pages of kmalloc() are a power of two."""
    kernel.see((A, b"kmalloc-64"))
    kernel.see((B, b"kmalloc-8k"), size=24_576)
    assert kernel.directory.of_failed_kmalloc(size, False, False, False).name == name


def test_a_failed_kmalloc_may_be_of_a_cache_of_some_callers_alone(kernel: Kernel) -> None:
    """CONFIG_SLAB_BUCKETS, 6.11+."""
    kernel.see((A, b"kmalloc-cg-4k"), size=4096, flags=0x4000000)
    failed = kernel.directory.of_failed_kmalloc
    assert failed(4096, False, True, False).name == "kmalloc-cg-4k"
    kernel.see((B, b"msg_msg-4k"), size=4096, flags=0x4000000)
    assert failed(4096, False, True, False).name == UNRESOLVED_CACHE


def test_a_failed_kmalloc_of_pages_or_of_a_cache_is_unresolved(kernel: Kernel) -> None:
    """slub_debug=P makes an object of kmalloc-8k occupy 16 KiB, as four pages do."""
    kernel.see((B, b"kmalloc-8k"), size=16_384)
    assert kernel.directory.of_failed_kmalloc(16_384, False, False, False).name == UNRESOLVED_CACHE
    assert kernel.directory.of_failed_kmalloc(32_768, False, False, False).name == LARGE_CACHE


def test_names_stay_over_a_restart(kernel: Kernel) -> None:
    kernel.see((A, b"mlx5"))
    kernel.see((B, b"mlx5"))
    kernel.destroy(A)
    kernel.see((A, b"other"))
    keys = np.array([B, A, kernel.key(A)], "<u8")  # the kernel's table has an order of its own
    records = np.concatenate([cache_record(name) for name in (b"mlx5", b"mlx5", b"other")])
    restarted = Kernel()
    restarted.generations[:] = kernel.generations
    restarted.directory.restore(kernel.directory.names(), keys, records)
    assert not restarted.directory.update(keys, records, restarted.generations)
    for key in keys.tolist():
        assert restarted.directory.get(key) == kernel.directory.get(key)
    for both in (kernel, restarted):
        assert both.see((C, b"mlx5"), (D, b"mlx5")) == ["mlx5", "mlx5#3"]
