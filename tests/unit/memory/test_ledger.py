# SPDX-License-Identifier: Apache-2.0
"""The ledger adds up to MemTotal, and each byte is in one row."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.memory.ledger import USED, Exactness, Ledger, RowKind, account
from slabmon.memory.scan import KernelBlocks
from tests.support.memory import AMOUNTS, MARKS, MIB, TOTAL, reading, scan


def rows(ledger: Ledger) -> dict[str, int]:
    """Rows in MiB, by name."""
    return {row.name: row.bytes // MIB for row in ledger.rows if row.bytes}


def total(ledger: Ledger) -> int:
    return sum(row.bytes for row in ledger.rows) + ledger.unaccounted_bytes


def test_rows_of_counters_and_struct_pages() -> None:
    ledger = account(reading(), scan())
    assert rows(ledger) == {
        "page_cache": 1100,
        "free": 1000,
        "anonymous": 900,
        "slab_reclaimable": 500,
        "slab_unreclaimable": 175,
        "shared": 100,
        "kernel_pages": 60,
        "buffers": 50,
        "vmalloc": 30,
        "kmalloc_large": 25,
        "page_tables": 20,
        "kernel_stacks": 10,
        "percpu": 9,
        "page_pool": 8,
        "free_per_cpu": 7,
    }
    assert ledger.unaccounted_bytes == 6 * MIB
    assert total(ledger) == ledger.total_bytes == TOTAL
    assert [row.bytes for row in ledger.rows] == sorted(
        (row.bytes for row in ledger.rows), reverse=True
    )


def test_without_struct_pages_what_no_counter_names_is_unaccounted() -> None:
    ledger = account(reading())
    assert "kernel_pages" not in rows(ledger)
    assert rows(ledger)["slab_unreclaimable"] == 200
    assert rows(ledger)["percpu"] == 11
    assert rows(ledger)["page_pool"] == 5  # of the devices of this network namespace
    assert ledger.unaccounted_bytes == 67 * MIB
    assert total(ledger) == TOTAL
    assert any("struct pages were not read" in limit for limit in ledger.limits)


def test_what_no_counter_names_does_not_depend_on_struct_pages() -> None:
    with_pages, without = account(reading(), scan()), account(reading())
    percpu = 2 * MIB  # only struct pages tell how much of Percpu is of before the page allocator
    assert with_pages.uncounted_bytes == without.uncounted_bytes + percpu == 74 * MIB


def test_later_counters_with_the_struct_pages_of_before() -> None:
    later = reading(MemFree=900 * MIB, SUnreclaim=10 * MIB)
    ledger = account(later, scan())
    assert rows(ledger)["kernel_pages"] == 60
    assert rows(ledger)["kmalloc_large"] == 10  # no more than there is
    assert "slab_unreclaimable" not in rows(ledger)
    assert total(ledger) == TOTAL


def test_page_backed_kmalloc_without_a_mark_is_what_slabs_lack() -> None:
    ledger = account(reading(), scan(MARKS[:-1]))
    assert rows(ledger)["kmalloc_large"] == 25
    assert rows(ledger)["kernel_pages"] == 60
    inferred = {row.name for row in ledger.rows if row.exactness == Exactness.INFERRED}
    assert {"kmalloc_large", "slab_unreclaimable", "kernel_pages"} <= inferred


def test_stacks_that_vmalloc_does_not_allocate_are_pages_of_their_own() -> None:
    ledger = account(reading(stacks_in_vmalloc=0), scan(stacks_in_vmalloc=0))
    assert rows(ledger)["vmalloc"] == 40
    assert rows(ledger)["kernel_stacks"] == 10
    assert rows(ledger)["kernel_pages"] == 50


def test_blocks_of_kernel_pages_are_those_that_no_row_names() -> None:
    ledger = account(reading(), scan())
    assert ledger.kernel_blocks == (
        KernelBlocks(order=0, node=1, bytes=44 * MIB),
        KernelBlocks(order=3, node=0, bytes=16 * MIB),
    )


@pytest.mark.parametrize(
    ("amounts", "row", "size", "kind"),
    [
        ({"CmaFree": 30 * MIB}, "free_cma", 30, RowKind.FREE),
        ({"Unaccepted": 30 * MIB}, "free_unaccepted", 30, RowKind.FREE),
        ({"Hugetlb": 40 * MIB, "hugetlb_unused": 10 * MIB}, "hugetlb", 30, RowKind.USER),
        ({"Hugetlb": 40 * MIB, "hugetlb_unused": 10 * MIB}, "hugetlb_unused", 10, RowKind.RESERVED),
        ({"KReclaimable": 530 * MIB}, "reclaimable_other", 30, RowKind.KERNEL),
        ({"GPUActive": 20 * MIB, "GPUReclaim": 9 * MIB}, "gpu", 29, RowKind.KERNEL),
        ({"dmabuf_heaps": 3 * MIB}, "dma_buf", 3, RowKind.KERNEL),
        ({"zspages": 3 * MIB}, "compressed", 3, RowKind.KERNEL),
        ({"Balloon": 3 * MIB, "balloon_managed": 1}, "balloon", 3, RowKind.RESERVED),
        ({"HardwareCorrupted": 3 * MIB}, "hardware_corrupted", 3, RowKind.RESERVED),
    ],
)
def test_memory_that_few_hosts_have(
    amounts: dict[str, int], row: str, size: int, kind: RowKind
) -> None:
    ledger = account(reading(**amounts))
    match = next(each for each in ledger.rows if each.name == row)
    assert (match.bytes, match.kind) == (size * MIB, kind)
    assert total(ledger) == TOTAL
    free = rows(ledger)["free"] + rows(ledger).get("free_cma", 0)
    assert free + rows(ledger).get("free_unaccepted", 0) == 1000


def test_swapped_pages_that_are_mapped_too_count_once() -> None:
    lists = {
        "lru_inactive_anon": 600 * MIB,
        "lru_active_anon": 420 * MIB,
        "lru_inactive_file": 1150 * MIB,
    }
    ledger = account(reading(SwapCached=90 * MIB, **lists))
    assert rows(ledger)["swap_cache"] == 20  # 2170 on lists, 900 + 1200 + 50 are in other rows
    assert total(ledger) == TOTAL


def test_a_balloon_outside_of_the_total_is_beyond_it() -> None:
    ledger = account(reading(Balloon=3 * MIB))
    assert "balloon" not in rows(ledger)
    assert {each.name: each.bytes // MIB for each in ledger.beyond} == {
        "boot": 100,
        "Kernel code": 16,
        "balloon": 3,
    }


def test_parts_of_rows_are_named_beside_them() -> None:
    ledger = account(reading(**{"zram zram0": 2 * MIB}), scan())
    assert {each.name: each.bytes // MIB for each in ledger.within} == {
        "mlocked": 3,
        "zram zram0": 2,
        "page_pool eth0": 5,
    }


def test_what_cannot_be_observed_is_said_with_its_reason() -> None:
    blind = dataclasses.replace(
        reading(),
        vmalloc=None,
        page_pools=None,
        unobserved={"vmalloc": "/proc/vmallocinfo: Permission denied", "page_pools": "too old"},
    )
    ledger = account(blind)
    assert ledger.vmalloc == ()
    assert "page_pool" not in {row.name for row in ledger.rows}
    assert [limit for limit in ledger.limits if "not observable" in limit] == [
        "page pools by network device: not observable: too old",
        "callers of vmalloc(): not observable: /proc/vmallocinfo: Permission denied",
    ]


@given(st.dictionaries(st.sampled_from(sorted(USED)), st.integers(0, 1 << 50)))
def test_any_counters_add_up(amounts: dict[str, int]) -> None:
    for scanned in (None, scan()):
        ledger = account(reading(**amounts), scanned)
        assert total(ledger) == ledger.total_bytes == {**AMOUNTS, **amounts}["MemTotal"]
        assert all(row.bytes >= 0 for row in ledger.rows)
