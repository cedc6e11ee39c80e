# SPDX-License-Identifier: Apache-2.0
"""The amounts of kernel memory that can be read with nothing attached to allocation events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slabmon.analysis.rising import Level
from slabmon.kernel.devres.ledger import Ledger
from slabmon.kernel.memory.cgroups import CgroupMemory
from slabmon.kernel.memory.counters import parse_meminfo
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.slabinfo import SlabDirectory

# Fields of /proc/meminfo (fs/proc/meminfo.c): page-backed kmalloc counts in SUnreclaim.
_FIELDS = {
    "SUnreclaim": "unreclaimable slab and page-backed kmalloc",
    "Percpu": "per-CPU memory",
    "VmallocUsed": "vmalloc",
    "KernelStack": "kernel stacks",
}
# How much more than other caches those grow that the kernel can shrink, with each file that is
# looked at; and totals, with each process that starts.
_RECLAIMABLE, _TOTAL = 256, 16
# A cgroup's slab memory is of many caches, too, but not of all processes.
_CGROUP = 4
# What no counter names is what is left of all others, which are not read at one instant: within a
# minute it has to grow by a lot.
UNCOUNTED, _UNCOUNTED_BRIEFLY = "memory that no counter names", 64
CACHE_PREFIX, CGROUP_PREFIX = "cache ", "cgroup "


class Levels:
    """Reads them: slab memory by cache and by cgroup, managed memory by device, the totals of
    meminfo, and what no counter names. `uncounted` reads the last, None if it cannot be read."""

    def __init__(
        self,
        ledger: Ledger | None,
        cgroups: CgroupMemory,
        uncounted: Callable[[], int | None],
        meminfo: Path = Path("/proc/meminfo"),
    ) -> None:
        self._ledger = ledger
        self._cgroups = cgroups
        self._uncounted = uncounted
        self._meminfo = meminfo
        self._directory = SlabDirectory()

    def read(self, now: float) -> dict[str, Level]:
        """Return the amounts by name, at a moment in seconds."""
        self._directory.refresh()
        levels = {}
        for name, row in slabinfo.read().items():
            nature = self._directory.nature(name, row.object_size)
            tolerance = _RECLAIMABLE if nature.reclaimable else 1
            levels[f"{CACHE_PREFIX}{name}"] = Level(row.slab_bytes, tolerance)
        if self._ledger is not None:
            for (bus, name), held in self._ledger.managed_bytes().items():
                levels[f"device {bus}/{name}"] = Level(held)
        sizes = parse_meminfo(self._meminfo.read_text())
        levels |= {
            name: Level(sizes[field], _TOTAL) for field, name in _FIELDS.items() if field in sizes
        }
        for path, size in self._cgroups.slab_bytes(now).items():
            levels[f"{CGROUP_PREFIX}{path}"] = Level(size, _CGROUP)
        uncounted = self._uncounted()
        if uncounted is not None:
            levels[UNCOUNTED] = Level(uncounted, _TOTAL, _UNCOUNTED_BRIEFLY)
        return levels
