# SPDX-License-Identifier: Apache-2.0
"""Reads the kernel's accounts of the host's memory.

Amounts beside the lines of /proc/meminfo, in bytes; absent where the kernel does not tell:

- `per_cpu_lists`: free pages on the CPUs' own lists, which MemFree leaves out
- `present`, `managed`: all memory that has struct pages, and what the page allocator got of it
- `zspages`, and `zram NAME` of them: compressed memory of zram and zswap
- `memmap`: struct pages of memory that was added later; `memmap_boot`: of the rest
- `lru_*`: the lists of user pages
- `hugetlb_unused`, `cma_allocated`, `dmabuf_heaps`: see slabmon/kernel/memory/sysfs.py
- `balloon_managed`: 1 if a balloon's pages count in MemTotal, else 0
- `sockets`: what the network protocols charge to sockets, in slabs and pages of other rows
- `iomem NAME`: ranges of /proc/iomem
"""

from __future__ import annotations

import mmap
import re
import time
from collections.abc import Callable
from pathlib import Path

from slabmon.kernel.memory import counters, page_pools, sysfs
from slabmon.kernel.memory.allocinfo import AllocInfoReader
from slabmon.kernel.memory.vmalloc import VmallocReader
from slabmon.memory.ledger import TOTAL, USED, account
from slabmon.memory.reading import MemoryReading

# A reading that others changed by more than this meanwhile is repeated, so often at most.
_CALM_BYTES, _ATTEMPTS = 1 << 20, 4
_SOCKET_PAGES = re.compile(r"\bmem (\d+)")
PROC = Path("/proc")


class MemoryReader:
    """Reads the accounts again and again. `stack_bytes` is the size of a kernel stack if vmalloc()
    allocates them, else 0."""

    def __init__(
        self,
        stack_bytes: int,
        proc: Path = PROC,
        sys: Path = sysfs.SYS,
        pools: Callable[[], dict[str, int]] = page_pools.read,
    ) -> None:
        self._proc = proc
        self._sys = sys
        self._pools = pools
        self._stacks_in_vmalloc = stack_bytes > 0
        self._vmalloc = VmallocReader(stack_bytes, proc / "vmallocinfo")
        self._allocinfo = AllocInfoReader(proc / "allocinfo")
        self._fixed = counters.parse_iomem(self._text("iomem"))
        self._fixed["balloon_managed"] = int(sysfs.balloon_is_managed(sys))
        self._fixed["stacks_in_vmalloc"] = int(self._stacks_in_vmalloc)

    def read(self, *, fresh: bool = False) -> MemoryReading | None:
        """Return a reading, or None if there is no /proc/meminfo. Callers of vmalloc() may be those
        of an earlier reading, unless `fresh`."""
        best: tuple[int, dict[str, int]] | None = None
        for _ in range(_ATTEMPTS):
            attempt = self._counters()
            if best is None or attempt[0] < best[0]:
                best = attempt
            if best[0] <= _CALM_BYTES:
                break
        assert best is not None
        moved, amounts = best
        if TOTAL not in amounts:
            return None
        unobserved = {}
        pools = None
        try:
            pools = self._pools()
        except OSError as error:
            unobserved["page_pools"] = error.strerror or str(error)
        vmalloc = self._vmalloc.read(fresh=fresh)
        if vmalloc is None:
            unobserved["vmalloc"] = self._vmalloc.problem
        return MemoryReading(
            taken=time.time(),
            amounts=_used(amounts | sysfs.read(self._sys) | self._sockets() | self._fixed),
            moved_bytes=moved,
            vmalloc=vmalloc,
            page_pools=pools,
            unobserved=unobserved,
            allocinfo=self._allocinfo.read(),
        )

    def uncounted(self) -> int | None:
        """Return the bytes that no counter names, from one reading of the counters alone, or None
        if there is no /proc/meminfo."""
        _, amounts = self._counters()
        if TOTAL not in amounts:
            return None
        reading = MemoryReading(
            taken=time.time(), amounts=amounts | sysfs.read(self._sys) | self._fixed
        )
        return account(reading).uncounted_bytes

    def _counters(self) -> tuple[int, dict[str, int]]:
        """Return the counters of /proc, and what moved while they were read, in bytes."""
        before = counters.parse_meminfo(self._text("meminfo"))
        zones = counters.parse_zoneinfo(self._text("zoneinfo"))
        vmstat = counters.parse_vmstat(self._text("vmstat"))
        after = counters.parse_meminfo(self._text("meminfo"))
        return counters.moved(before, after), after | zones | vmstat

    def _sockets(self) -> dict[str, int]:
        """Return what protocols charge to sockets (net/ipv4/proc.c, sockstat: pages)."""
        pages = sum(int(count) for count in _SOCKET_PAGES.findall(self._text("net/sockstat")))
        return {"sockets": pages * mmap.PAGESIZE}

    def _text(self, name: str) -> str:
        try:
            return (self._proc / name).read_text("utf-8", "replace")
        except OSError:
            return ""


def _used(amounts: dict[str, int]) -> dict[str, int]:
    """Return the amounts that need to be kept."""
    return {
        name: size
        for name, size in amounts.items()
        if name in USED or name.startswith(("zram ", "iomem "))
    }


def stack_bytes(has_stack_area: bool) -> int:
    """Return the size of a kernel stack if vmalloc() allocates them, else 0: task_struct then has a
    member stack_vm_area (CONFIG_VMAP_STACK).

    The kernel does not tell the size. It is THREAD_SIZE (arch/*/include/asm): 16 KiB on x86-64 and
    arm64, and at least a page.
    """
    return max(16 << 10, mmap.PAGESIZE) if has_stack_area else 0
