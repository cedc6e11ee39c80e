# SPDX-License-Identifier: Apache-2.0
"""What struct pages say of slabs that are no longer."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.base.arrays import U64
from slabmon.kernel.census.struct_pages import StructPages
from tests.support.slab_memory import LAYOUT, STRUCT_PAGE, VMEMMAP, FakeKernel

PAGES = 64  # whose struct pages fill a page
FLAGS = 0x17FFFFC000000040
OBJECT = 0xFFFF888012345680
FREELIST = LAYOUT["slab.freelist"] // 8


@pytest.fixture
def struct_pages() -> StructPages:
    """Those of a host with one kind of flags, and pages that have none."""
    kernel = FakeKernel()
    kernel.slab(kernel.cache("thing", 64), free=[0])  # shows where the direct map is
    for _ in range(PAGES):
        kernel.add_pages()
    for pfn in range(3, kernel.pfns):
        kernel.memory.write_word(VMEMMAP + pfn * STRUCT_PAGE + LAYOUT["page.flags"], FLAGS)
    return StructPages(kernel.memory, LAYOUT, kernel.reading(free=[0]))


def described(flags: list[int]) -> U64:
    """A page of structs of 64 bytes that begin with these words, and point to an object."""
    words = np.full((PAGES, STRUCT_PAGE // 8), OBJECT, np.uint64)
    words[:, 0] = flags
    return words


def test_where_slabs_were_no_object_is_referred_to(struct_pages: StructPages) -> None:
    words = np.stack([described([FLAGS + number for number in range(PAGES)])] * 2)
    struct_pages.clear(words.reshape(-1))
    assert not words[:, :, FREELIST].any()
    assert (np.delete(words, [0, FREELIST], axis=2) == OBJECT).all()


@pytest.mark.parametrize(
    "flags", [[FLAGS] * (PAGES - 1) + [0x18FFFFC000000040], [0] * PAGES, [OBJECT] * PAGES]
)
def test_other_memory_is_left_as_it_is(struct_pages: StructPages, flags: list[int]) -> None:
    words = described(flags)
    before = words.copy()
    struct_pages.clear(words.reshape(-1))
    assert (words == before).all()
