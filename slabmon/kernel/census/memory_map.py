# SPDX-License-Identifier: Apache-2.0
"""Where physical memory, its struct pages and its mapping are. Found without any kernel symbol:
those of data are listed only with CONFIG_KALLSYMS_ALL."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.base.errors import PermissionDenied, UnsupportedHost
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory

PAGE_BYTES = mmap.PAGESIZE
_GIB = 1 << 30
_MEMORY_BLOCKS = Path("/sys/devices/system/memory")
_AGREEING = 0.9  # share of slabs whose freelist puts the direct map at one address


class PageRange(NamedTuple):
    """Page frame numbers of a piece of memory: from `first` to `end`, which is not in it."""

    first: int
    end: int


def ram_ranges(iomem: str) -> list[PageRange]:
    """Return the "System RAM" of /proc/iomem, in order; memory of drivers, "System RAM (kmem)" and
    "System RAM (virtio_mem)", included. Raises PermissionDenied if it hides the addresses."""
    ranges: list[PageRange] = []
    for line in iomem.splitlines():
        span, _, name = line.partition(" : ")
        if name.startswith("System RAM"):
            first, last = (int(number, 16) for number in span.split("-"))
            pages = PageRange(-(-first // PAGE_BYTES), (last + 1) // PAGE_BYTES)
            # A resource is listed before those inside it.
            if pages.first < pages.end and (not ranges or pages.first >= ranges[-1].end):
                ranges.append(pages)
    if not ranges:
        raise PermissionDenied(
            "census: /proc/iomem does not show where memory is; run as root with CAP_SYS_ADMIN, "
            "in a container that does not mask the file"
        )
    return ranges


def start_of_data(iomem: str) -> int:
    """Return the page frame with which the variables of the kernel's image begin, 0 if /proc/iomem
    does not show it."""
    for line in iomem.splitlines():
        span, _, name = line.strip().partition(" : ")
        if name == "Kernel data":
            return int(span.partition("-")[0], 16) // PAGE_BYTES
    return 0


def find_vmemmap(memory: Memory, layout: Layout, task: int, ranges: Sequence[PageRange]) -> int:
    """Return the address of the struct page of page frame 0. Raises UnsupportedHost.

    A page of the current task's stack has a struct page, whole GiB of memory behind that of an
    address which the kernel aligns to at least as much (arch/x86/mm/kaslr.c; VMEMMAP_START and
    memstart_addr, arch/arm64). With the right one there are struct pages of all memory, and with a
    wrong one there are none of the last of it or none of the first.
    """
    size = layout.sizes["page"]
    area = memory.word(task + layout["task.stack_area"])
    page = memory.word(memory.word(area + layout["area.pages"]))
    edges = sorted({pfn for pages in ranges for pfn in (pages.first, pages.end - 1)}, reverse=True)
    step = _GIB // PAGE_BYTES * size
    nearest = page - page % step
    for base in range(nearest, nearest - edges[0] * size - 2 * step, -step):
        if all(memory.block(base + pfn * size, size) is not None for pfn in edges):
            return base
    raise UnsupportedHost("census: the struct pages were not found; please report this kernel")


def find_direct_map(pfns: I64, freelists: U64) -> int:
    """Return the address at which page frame 0 is mapped, from slabs of one page and their first
    free objects, which lie in them. Raises UnsupportedHost."""
    free = freelists != 0
    starts = (freelists[free] & np.uint64(-PAGE_BYTES % (1 << 64))) - (
        pfns[free].astype(np.uint64) * np.uint64(PAGE_BYTES)
    )
    bases, votes = np.unique(starts, return_counts=True)
    if not len(bases) or votes.max() < _AGREEING * votes.sum():
        raise UnsupportedHost("census: the direct map was not found; please report this kernel")
    return int(bases[votes.argmax()])


def node_of_pages(pfns: I64, blocks: Path = _MEMORY_BLOCKS) -> I64:
    """Return the NUMA node of each page frame, by the memory blocks of sysfs; 0 where there are
    none."""
    block_pages, node_of_block = _node_of_blocks(blocks)
    return node_of_block[np.minimum(pfns // block_pages, len(node_of_block) - 1)]


@lru_cache(maxsize=1)
def _node_of_blocks(blocks: Path) -> tuple[int, I64]:
    """Return how many pages a memory block has, and the NUMA node of each block."""
    nodes = sorted((blocks.parent / "node").glob("node[0-9]*/memory[0-9]*"))
    if not nodes or not (blocks / "block_size_bytes").exists():
        return 1, np.zeros(1, np.int64)
    block_pages = int((blocks / "block_size_bytes").read_text(), 16) // PAGE_BYTES
    numbers = {int(path.name[6:]): int(path.parent.name[4:]) for path in nodes}
    node_of_block = np.zeros(max(numbers) + 2, np.int64)
    node_of_block[list(numbers)] = list(numbers.values())
    return block_pages, node_of_block


def online_nodes(path: Path = Path("/sys/devices/system/node/online")) -> list[int]:
    """Return the numbers of the NUMA nodes."""
    return parse_list(path.read_text()) if path.exists() else [0]


def parse_list(numbers: str) -> list[int]:
    """Return the numbers of a kernel list such as `0-3,8`."""
    result: list[int] = []
    for part in filter(None, numbers.strip().split(",")):
        first, _, last = part.partition("-")
        result.extend(range(int(first), int(last or first) + 1))
    return result
