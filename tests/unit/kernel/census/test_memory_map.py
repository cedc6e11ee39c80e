# SPDX-License-Identifier: Apache-2.0
"""Where memory and its struct pages are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slabmon.base.errors import PermissionDenied, UnsupportedHost
from slabmon.kernel.census import memory_map
from slabmon.kernel.census.memory_map import PageRange
from tests.support.slab_memory import LAYOUT, OFFSETS, STRUCT_PAGE, VMEMMAP, SparseMemory

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-bfffffff : System RAM
  01000000-01ffffff : Kernel code
fec00000-fec003ff : IOAPIC 0
100000000-63fffffff : System RAM
  200000000-2ffffffff : System RAM
700000000-7ffffffff : virtio0
  700000000-707ffffff : System RAM (virtio_mem)
"""
GIB_PAGES = 1 << 18


def test_ranges_are_whole_pages_of_system_ram() -> None:
    assert memory_map.ram_ranges(IOMEM) == [
        PageRange(1, 0x9F),
        PageRange(0x100, 0xC0000),
        PageRange(0x100000, 0x640000),
        PageRange(0x700000, 0x708000),
    ]


def test_hidden_addresses_are_a_lack_of_privilege() -> None:
    with pytest.raises(PermissionDenied):
        memory_map.ram_ranges("00000000-00000000 : System RAM\n")


LAYOUT_OF_TASK = {"task.stack_area": 8, "area.pages": 16}


@pytest.mark.parametrize("first_gib", [0, 1], ids=["x86-64", "arm64"])
@pytest.mark.parametrize("stack_gib", [0, 90, 199])
def test_struct_pages_are_found_however_far_the_stack_is(first_gib: int, stack_gib: int) -> None:
    memory = SparseMemory()
    offsets = {**OFFSETS, **LAYOUT_OF_TASK}
    layout = type(LAYOUT)(**{**vars(LAYOUT), "offsets": offsets})
    first = first_gib * GIB_PAGES
    base = VMEMMAP - first * STRUCT_PAGE
    ranges = [
        PageRange(first + 1, first + GIB_PAGES),
        PageRange(first + 100 * GIB_PAGES, first + 200 * GIB_PAGES),
    ]
    for pages in ranges:
        for pfn in (pages.first, pages.end - 1):
            memory.write(base + pfn * STRUCT_PAGE, bytes(STRUCT_PAGE))
    task, area, array = 0x1000, 0x2000, 0x3000
    memory.write_word(task + 8, area)
    memory.write_word(area + 16, array)
    memory.write_word(array, base + (first + stack_gib * GIB_PAGES + 77) * STRUCT_PAGE)
    assert memory_map.find_vmemmap(memory, layout, task, ranges) == base
    memory.write_word(array, 0)
    with pytest.raises(UnsupportedHost):
        memory_map.find_vmemmap(memory, layout, task, ranges)


def test_nodes_of_pages_come_from_memory_blocks(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "block_size_bytes").write_text("8000000\n")  # 128 MiB
    for node, blocks in ((0, (0, 1)), (1, (4,))):
        for block in blocks:
            (tmp_path / f"node/node{node}/memory{block}").mkdir(parents=True)
    pfns = np.array([0, 0x8000, 4 * 0x8000, 5 * 0x8000 - 1])
    assert memory_map.node_of_pages(pfns, memory).tolist() == [0, 0, 1, 1]
    assert memory_map.node_of_pages(pfns, tmp_path / "none").tolist() == [0, 0, 0, 0]
