# SPDX-License-Identifier: Apache-2.0
"""What slabmon itself costs: CPU and memory of its processes and of its BPF maps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

SIZES_SECONDS = 30.0


def map_bytes(descriptors: Iterable[int], root: Path = Path("/proc/self/fdinfo")) -> int:
    """Memory the kernel charges for these BPF maps and programs (`memlock` of their fdinfo)."""
    total = 0
    for descriptor in descriptors:
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (root / str(descriptor)).read_text().splitlines():
                if line.startswith("memlock:"):
                    total += int(line.split()[1])
    return total


def cpu_seconds(pid: int) -> float:
    """What a process has used; 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes of a process; the latter count a page shared by n processes
    as an n-th, and are 0 where the kernel does not tell. Zeros when it is gone."""
    try:
        process = psutil.Process(pid)
        try:
            found = process.memory_full_info()
        except psutil.AccessDenied:
            return int(process.memory_info().rss), 0
    except psutil.Error:
        return 0, 0
    return int(found.rss), int(found.pss)


class Sizes:
    """Memory of the daemon's parts, by the names the metric catalogue knows it by. Looked at every
    SIZES_SECONDS, and when a part is another process: the kernel takes milliseconds to tell."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._until = 0.0
        self._found: dict[str, float] = {}

    def report(self, pids: dict[str, int], descriptors: Iterable[int]) -> dict[str, float]:
        """Of these processes by part, and of these BPF maps and programs."""
        now = time.monotonic()
        if pids != self._pids or now >= self._until:
            self._pids, self._until = pids, now + SIZES_SECONDS
            self._found = {"bpf_bytes": map_bytes(descriptors)}
            for part, pid in pids.items():
                resident, proportional = memory(pid)
                self._found[f"{part}_resident_bytes"] = resident
                self._found[f"{part}_proportional_bytes"] = proportional
        return self._found


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
