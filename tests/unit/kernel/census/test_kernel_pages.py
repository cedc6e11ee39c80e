# SPDX-License-Identifier: Apache-2.0
"""Which pages belong to the kernel, by their struct pages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.census import kernel_pages
from slabmon.kernel.census.layout import Layout, PageTest
from slabmon.kernel.census.memory_map import PAGE_BYTES
from tests.support.slab_memory import (
    DIRECT_MAP,
    LAYOUT,
    OFFSETS,
    STRUCT_PAGE,
    VMEMMAP,
    FakeKernel,
)

BUDDY, TABLE, SLAB, LARGE_KMALLOC = 0xF0000000, 0xF2000000, 0xF5000000, 0xF8000000
OLD = dataclasses.replace(LAYOUT, slab_page=PageTest(0, 1 << 9, 1 << 9))  # PG_slab of page.flags
LISTED = {**OFFSETS, "page.lru": 32}
OLD_BUDDY, OLD_TABLE = 0xFFFFFF7F, 0xFFFFFDFF


def owned(kernel: FakeKernel, layout: Layout = LAYOUT) -> list[int]:
    reading = kernel.reading()
    parts = list(kernel_pages.find(kernel.memory, layout, reading))
    pages: list[int] = np.concatenate(parts).tolist()
    return pages


def link(kernel: FakeKernel, ring: list[int], *, broken: bool = False) -> None:
    """Put pages, and a list's head in a page of the kernel, into one list; `broken`: the head was
    taken out."""
    heads = [VMEMMAP + pfn * STRUCT_PAGE + LISTED["page.lru"] for pfn in ring]
    heads.append(DIRECT_MAP + kernel.add_pages() * PAGE_BYTES)
    for number, head in enumerate(heads):
        kernel.memory.write_word(head, heads[(number + 1) % len(heads)])
        kernel.memory.write_word(head + 8, heads[number - 1])
    if broken:
        for member in (0, 8):
            kernel.memory.write_word(heads[-1] + member, heads[-1])


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("any", 64), free=[0])
    return kernel


def test_free_pages_on_a_list_behind_the_kernels_are_nobodys(kernel: FakeKernel) -> None:
    layout = dataclasses.replace(LAYOUT, offsets=LISTED)
    first = kernel.add_pages(4, align=4)
    link(kernel, [first + 2])
    assert owned(kernel, layout)[:3] == [first, first + 1, first + 3]


def test_pages_of_a_block_that_were_on_a_list_once_are_of_it(kernel: FakeKernel) -> None:
    layout = dataclasses.replace(LAYOUT, offsets=LISTED)
    first = kernel.add_pages(4, align=4)
    link(kernel, [first + 2], broken=True)
    itself = VMEMMAP + (first + 3) * STRUCT_PAGE + LISTED["page.lru"]
    for member in (0, 8):
        kernel.memory.write_word(itself + member, itself)
    assert owned(kernel, layout)[:4] == [first, first + 1, first + 2, first + 3]


def test_pages_with_references_that_are_nobody_elses_are_the_kernels(kernel: FakeKernel) -> None:
    kernel.add_pages(refcount=0)  # free
    kernel.add_pages(mapping=0xFFFF888000001000)  # of a file
    kernel.add_pages(type=0, mapping=0xFFFF888000001001)  # of a process, mapped once
    kernel.add_pages(type=TABLE)
    expected = [
        kernel.add_pages(),
        kernel.add_pages(type=0),
    ]  # the second mapped by a process: a ring
    assert owned(kernel) == expected


def test_a_compound_page_belongs_to_whom_its_first_page_does(kernel: FakeKernel) -> None:
    kernel.add_pages(4, mapping=0xFFFF888000001000, compound=True)
    first = kernel.add_pages(4, compound=True)
    kernel.add_pages(2, refcount=0)
    assert owned(kernel) == [first, first + 1, first + 2, first + 3]


def test_a_block_that_is_no_compound_page_is_the_kernels_as_far_as_it_is_aligned(
    kernel: FakeKernel,
) -> None:
    first = kernel.add_pages(4, align=4)
    kernel.add_pages(2, refcount=0)  # free pages behind it
    assert owned(kernel) == [first, first + 1, first + 2, first + 3]


def test_free_blocks_are_left_out_also_behind_a_page_of_the_kernel(kernel: FakeKernel) -> None:
    first = kernel.add_pages(align=8)
    kernel.add_pages(4, refcount=0, type=BUDDY)
    assert owned(kernel) == [first]


@pytest.mark.parametrize("kind", [SLAB, LARGE_KMALLOC, TABLE])
def test_pages_with_a_type_are_left_out_also_behind_a_page_of_the_kernel(
    kernel: FakeKernel, kind: int
) -> None:
    """Slabs and page-backed kmalloc have no references from 6.14 on."""
    first = kernel.add_pages(align=8)
    kernel.add_pages(type=kind, refcount=0)
    kernel.add_pages(2, type=kind, refcount=0, compound=True)
    kernel.add_pages(refcount=0)
    assert owned(kernel) == [first]


def test_before_6_10_types_clear_bits_and_slabs_have_a_flag(kernel: FakeKernel) -> None:
    kernel.memory.write_word(0xFFFFEA0000000000 + 64, 1 << 9)
    first = kernel.add_pages(align=8)
    kernel.add_pages(4, refcount=0, type=OLD_BUDDY)
    kernel.add_pages(type=OLD_TABLE)
    assert owned(kernel, OLD) == [first]


def test_types_of_pages_that_are_not_known_are_refused(kernel: FakeKernel) -> None:
    other = dataclasses.replace(LAYOUT, slab_page=PageTest(48, 0xF0001000, 0xF0000000))
    with pytest.raises(UnsupportedHost):
        owned(kernel, other)
    offsets = {name: at for name, at in LAYOUT.offsets.items() if name != "page.mapping"}
    with pytest.raises(UnsupportedHost):
        owned(kernel, dataclasses.replace(LAYOUT, offsets=offsets))
