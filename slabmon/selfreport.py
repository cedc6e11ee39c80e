"""What slabmon itself costs: CPU and memory of its processes and of its BPF maps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


def map_bytes(descriptors: Iterable[int], root: Path = Path("/proc/self/fdinfo")) -> int:
    """Memory the kernel charges for these BPF maps and programs (`memlock` of their fdinfo)."""
    total = 0
    for descriptor in descriptors:
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (root / str(descriptor)).read_text().splitlines():
                if line.startswith("memlock:"):
                    total += int(line.split()[1])
    return total


@dataclass(frozen=True)
class Usage:
    """Of one process. `proportional_bytes` counts a page shared by n processes as an n-th;
    0 where the kernel does not tell."""

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    proportional_bytes: int = 0


def usage(pid: int) -> Usage:
    """What a process uses; zeros when it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            resident = process.memory_info().rss
        try:
            proportional = process.memory_full_info().pss
        except psutil.AccessDenied:
            proportional = 0
    except psutil.Error:
        return Usage()
    return Usage(times.user + times.system, resident, proportional)


class Successors:
    """CPU time of one process after another in the same role: it does not fall when one dies."""

    def __init__(self) -> None:
        self._pid = 0
        self._before = self._seen = 0.0

    def total(self, pid: int, cpu_seconds: float) -> float:
        """Of all of them until now; the present one is `pid`."""
        if pid != self._pid:
            self._before += self._seen
            self._pid, self._seen = pid, 0.0
        self._seen = max(self._seen, cpu_seconds)
        return self._before + self._seen
