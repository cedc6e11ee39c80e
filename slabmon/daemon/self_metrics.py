# SPDX-License-Identifier: Apache-2.0
"""Measures the daemon itself: CPU time and memory of its processes, memory of its BPF maps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from slabmon.runtime.figures import MemoryFigures, ProcessMemory

MEMORY_SECONDS = 30.0


def bpf_memory(descriptors: Iterable[int], root: Path = Path("/proc/self/fdinfo")) -> int:
    """Return the bytes the kernel charges for these BPF maps and programs (`memlock` in fdinfo)."""
    total = 0
    for descriptor in descriptors:
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (root / str(descriptor)).read_text().splitlines():
                if line.startswith("memlock:"):
                    total += int(line.split()[1])
    return total


def cpu_seconds(pid: int, children: bool = False) -> float:
    """Return the CPU seconds a process has used, with those of its children that have ended if
    `children`; 0 once it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    own = float(times.user + times.system)
    return own + float(times.children_user + times.children_system) if children else own


def process_memory(pid: int) -> ProcessMemory:
    """Return the memory of a process; zeros once it is gone."""
    try:
        process = psutil.Process(pid)
        try:
            info = process.memory_full_info()
        except psutil.AccessDenied:
            return ProcessMemory(resident=int(process.memory_info().rss))
    except psutil.Error:
        return ProcessMemory()
    return ProcessMemory(resident=int(info.rss), proportional=int(info.pss))


class MemorySizes:
    """Memory of the daemon, measured at most every MEMORY_SECONDS and when a process is another:
    the kernel takes milliseconds to add up the pages of one."""

    def __init__(self) -> None:
        self._pids = (0, 0)
        self._valid_until = 0.0
        self._figures = MemoryFigures()

    def figures(self, collector: int, web: int, descriptors: Iterable[int]) -> MemoryFigures:
        """Return the memory of these processes, and of these BPF maps and programs."""
        now = time.monotonic()
        if (collector, web) != self._pids or now >= self._valid_until:
            self._pids, self._valid_until = (collector, web), now + MEMORY_SECONDS
            self._figures = MemoryFigures(
                collector=process_memory(collector),
                web=process_memory(web),
                bpf_bytes=bpf_memory(descriptors),
            )
        return self._figures


class CumulativeCpuTime:
    """CPU time of successive processes in one role, added up: it does not fall when one dies."""

    def __init__(self) -> None:
        self._pid = 0
        self._earlier = self._current = 0.0

    def total(self, pid: int, cpu_seconds: float) -> float:
        """Return the CPU seconds of all of them; the present one is `pid`."""
        if pid != self._pid:
            self._earlier += self._current
            self._pid, self._current = pid, 0.0
        self._current = max(self._current, cpu_seconds)
        return self._earlier + self._current
