# SPDX-License-Identifier: Apache-2.0
"""Counters of memory in /proc: meminfo, vmstat, zoneinfo, iomem."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping

from slabmon.base.escape import escape

PAGE_BYTES = mmap.PAGESIZE
_SIZES = re.compile(r"^([\w()]+):\s+(\d+) kB$", re.MULTILINE)
# Lines of zoneinfo, summed over all zones: pages on per-CPU free lists, which MemFree leaves out,
# pages that exist, and those of them that the page allocator manages.
_ZONES = {"count:": "per_cpu_lists", "present": "present", "managed": "managed"}
# Lines of vmstat that are in pages, and meminfo does not have on every kernel.
_VMSTAT = {
    "nr_zspages": "zspages",
    "nr_memmap_pages": "memmap",
    "nr_memmap_boot_pages": "memmap_boot",
    "nr_inactive_anon": "lru_inactive_anon",
    "nr_active_anon": "lru_active_anon",
    "nr_inactive_file": "lru_inactive_file",
    "nr_active_file": "lru_active_file",
    "nr_unevictable": "lru_unevictable",
    "nr_isolated_anon": "lru_isolated_anon",
    "nr_isolated_file": "lru_isolated_file",
}


def parse_meminfo(content: str) -> dict[str, int]:
    """Return the lines of /proc/meminfo that are sizes, in bytes."""
    return {name: int(size) << 10 for name, size in _SIZES.findall(content)}


def parse_vmstat(content: str) -> dict[str, int]:
    """Return those counters of /proc/vmstat that the ledger needs, in bytes."""
    lines = (line.split() for line in content.splitlines())
    return {
        _VMSTAT[line[0]]: int(line[1]) * PAGE_BYTES
        for line in lines
        if len(line) == 2 and line[0] in _VMSTAT
    }


def parse_zoneinfo(content: str) -> dict[str, int]:
    """Return sums over all zones of /proc/zoneinfo, in bytes: pages on per-CPU free lists, present
    and managed pages."""
    sums: dict[str, int] = {}
    for line in content.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in _ZONES and words[1].isdecimal():
            name = _ZONES[words[0]]
            sums[name] = sums.get(name, 0) + int(words[1]) * PAGE_BYTES
    return sums


def parse_iomem(content: str) -> dict[str, int]:
    """Return the sizes of the kernel's own ranges in /proc/iomem, which only root sees: bytes of
    `Kernel code` and its like, and of `Crash kernel`."""
    sizes: dict[str, int] = {}
    for line in content.splitlines():
        span, _, name = line.strip().partition(" : ")
        if name.startswith("Kernel ") or name == "Crash kernel":
            first, last = (int(number, 16) for number in span.split("-"))
            if last > first:
                key = "iomem " + escape(name.encode())
                sizes[key] = sizes.get(key, 0) + last + 1 - first
    return sizes


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Return how many bytes changed hands between two readings of meminfo: half of what their lines
    differ by, since what one loses another gains."""
    lines = ("MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab", "PageTables")
    return sum(abs(after.get(name, 0) - before.get(name, 0)) for name in lines) // 2
