# SPDX-License-Identifier: Apache-2.0
"""Counters of failed allocations that can be read with nothing attached to allocation events.

The kernel has no event that fires on failure only, and no counter of failed allocations. What it
has: warnings in its log (warn_alloc() in mm/page_alloc.c, slab_out_of_memory() in mm/slub.c,
mm/vmalloc.c, mm/percpu.c), which are rate-limited, and which callers with __GFP_NOWARN do without;
processes killed for memory; cgroups out of memory; and allocations that waited for memory, of which
few fail.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from slabmon.analysis.rising import Failures
from slabmon.kernel.memory.cgroups import CgroupMemory

KERNEL_LOG = Path("/dev/kmsg")
_RECORD_BYTES = 8192  # the longest record of /dev/kmsg (kernel/printk/internal.h)
_MOST_RECORDS = 4096  # of one look
_WARNING = re.compile(
    rb"page allocation failure|SLUB: Unable to allocate memory|vmalloc error: size"
    rb"|vmap allocation for size \d+ failed|percpu: allocation failed"
)
# Waiting for memory is no failure: so many times from one look to the next are unusual.
_MOST_WAITS = 100


class KernelLog:
    """Counts warnings of failed allocations in the kernel log from now on. `problem` says why that
    is not possible, empty if it is."""

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        self.count = 0
        self.problem = ""
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            self.problem = f"kernel log: {path}: {error.strerror}"

    def read(self) -> int:
        """Return the number of warnings so far."""
        if self._descriptor is None:
            return 0
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(self._descriptor, _RECORD_BYTES)
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before they were read
                    continue
                break
            if not record:
                break
            self.count += _is_warning(record)
        return self.count

    def close(self) -> None:
        """Close it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_warning(record: bytes) -> bool:
    """Whether the kernel wrote this record, and it is of a failed allocation.

    A record is `priority,sequence,...;text` (Documentation/ABI/testing/dev-kmsg). The kernel alone
    has facility 0, in the priority from bit 3 on (devkmsg_write(), kernel/printk/printk.c).
    """
    head, _, text = record.partition(b";")
    priority = head.split(b",")[0]
    return priority.isdigit() and int(priority) < 8 and bool(_WARNING.search(text))


class FailureCounters:
    """Reads all of them."""

    def __init__(
        self,
        cgroups: CgroupMemory,
        vmstat: Path = Path("/proc/vmstat"),
        log: Path = KERNEL_LOG,
    ) -> None:
        self._cgroups = cgroups
        self._vmstat = vmstat
        self.log = KernelLog(log)

    def read(self) -> dict[str, Failures]:
        """Return the counters, by what they count."""
        killed = waited = 0
        for line in self._vmstat.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                killed = int(count)
            elif name.startswith("allocstall"):
                waited += int(count)
        return {
            "warnings of failed allocations": Failures(self.log.read()),
            "processes killed for lack of memory": Failures(killed),
            "times a cgroup was out of memory": Failures(self._cgroups.out_of_memory()),
            "allocations that waited for memory": Failures(waited, _MOST_WAITS),
        }
