# SPDX-License-Identifier: Apache-2.0
"""A host's memory made by hand: counters and struct pages."""

from __future__ import annotations

from collections.abc import Mapping

from slabmon.memory.reading import MemoryReading, VmallocCaller
from slabmon.memory.scan import KernelBlocks, MemoryScan, PageKind

MIB = 1 << 20
TOTAL = 4000 * MIB
# All of it is in one row or another, but for 73 MiB, 60 MiB of which are in use by the kernel.
AMOUNTS: Mapping[str, int] = {
    "MemTotal": TOTAL,
    "MemFree": 1000 * MIB,
    "per_cpu_lists": 7 * MIB,
    "AnonPages": 900 * MIB,
    "Cached": 1200 * MIB,
    "Shmem": 100 * MIB,
    "Buffers": 50 * MIB,
    "KReclaimable": 500 * MIB,
    "SReclaimable": 500 * MIB,
    "Slab": 700 * MIB,
    "SUnreclaim": 200 * MIB,
    "KernelStack": 10 * MIB,
    "PageTables": 20 * MIB,
    "VmallocUsed": 40 * MIB,
    "Percpu": 11 * MIB,
    "Hugetlb": 0,
    "Mlocked": 3 * MIB,
    "present": TOTAL + 100 * MIB,
    "stacks_in_vmalloc": 1,
    "balloon_managed": 0,
    "iomem Kernel code": 16 * MIB,
}
CALLERS = (
    VmallocCaller(
        symbol="load_ring",
        offset=0x20,
        module="nic",
        areas=3,
        bytes=30 * MIB,
        node_bytes={0: 10 * MIB, 1: 20 * MIB},
    ),
    VmallocCaller(
        symbol="kernel_clone",
        offset=0x94,
        areas=640,
        bytes=10 * MIB,
        node_bytes={0: 10 * MIB},
        stacks=True,
    ),
)
MARKS = (PageKind.SLAB, PageKind.PAGE_TABLE, PageKind.PAGE_POOL, PageKind.LARGE_KMALLOC)


def reading(taken: float = 1000.0, **amounts: int) -> MemoryReading:
    """A reading whose amounts, in bytes, are AMOUNTS but for those given."""
    return MemoryReading(
        taken=taken, amounts={**AMOUNTS, **amounts}, vmalloc=CALLERS, page_pools={"eth0": 5 * MIB}
    )


def scan(marks: tuple[PageKind, ...] = MARKS, **amounts: int) -> MemoryScan:
    """Struct pages that agree with reading(): 60 MiB of kernel pages that no counter names, 44 MiB
    of single pages on node 1, and 16 MiB in blocks of order 3 on node 0."""
    large = 0 if PageKind.LARGE_KMALLOC in marks else 25
    return MemoryScan(
        reading=reading(**amounts),
        kinds={
            PageKind.SLAB: 675 * MIB,
            PageKind.LARGE_KMALLOC: (25 - large) * MIB,
            PageKind.PAGE_POOL: 8 * MIB,
            PageKind.KERNEL: (109 + large) * MIB,
        },
        blocks=(
            KernelBlocks(order=0, node=0, bytes=(20 + large) * MIB),
            KernelBlocks(order=0, node=1, bytes=73 * MIB),
            KernelBlocks(order=3, node=0, bytes=16 * MIB),
        ),
        percpu_bytes=9 * MIB,
        marks=marks,
    )
