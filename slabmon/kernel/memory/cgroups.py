# SPDX-License-Identifier: Apache-2.0
"""Kernel memory by cgroup, and how often cgroups ran out of memory, for a bounded number of them.

Counters of Documentation/admin-guide/cgroup-v2.rst. Both files hold what is below a cgroup too, and
what is left of removed cgroups counts in their parent.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from slabmon.base.escape import escape

# Cgroups that are read each time: those with the most, chosen anew every CHOICE_SECONDS among as
# many. A file takes about 50 us.
MOST_WATCHED, MOST_COMPARED = 64, 1024
CHOICE_SECONDS = 600.0
_MOUNTS = Path("/proc/self/mounts")
_SLAB = re.compile(rb"^slab_unreclaimable (\d+)$", re.MULTILINE)
_OUT_OF_MEMORY = re.compile(rb"^oom (\d+)$", re.MULTILINE)


class CgroupMemory:
    """Reads them. `problem` says why there is nothing to read, or what is left out."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._root = _memory_root(mounts)
        self._watched: list[str] = []
        self._chosen: float | None = None
        # Of the cgroups at the top, which count for all below them: events that are no news.
        self._before: dict[str, int] = {}
        self._out_of_memory = 0
        self.problem = "" if self._root else "no cgroup v2 hierarchy has the memory controller"

    def slab_bytes(self, now: float) -> dict[str, int]:
        """Return unreclaimable slab memory by path of the cgroup, at a moment in seconds."""
        if self._root is None:
            return {}
        if self._chosen is None or now - self._chosen >= CHOICE_SECONDS:
            self._choose(self._root, first=self._chosen is None)
            self._chosen = now
        sizes = ((path, _number(f"{path}/memory.stat", _SLAB)) for path in self._watched)
        return {self._name(path): size for path, size in sizes if size is not None}

    def out_of_memory(self) -> int:
        """Return how often cgroups reached their limit and an allocation was about to fail, since
        they were chosen first."""
        for path in set(self._watched) & self._before.keys():
            count = _out_of_memory(path)
            if count is not None:
                self._out_of_memory += max(0, count - self._before[path])
                self._before[path] = count
        return self._out_of_memory

    def _choose(self, root: str, first: bool) -> None:
        sizes: dict[str, int] = {}
        self.problem = ""
        for path in _below(root):
            if len(sizes) == MOST_COMPARED:
                self.problem = f"more than {MOST_COMPARED} cgroups: those deep below are left out"
                break
            size = _number(f"{path}/memory.stat", _SLAB)
            if size is not None:
                sizes[path] = size
        if len(sizes) > MOST_WATCHED and not self.problem:
            self.problem = f"of {len(sizes)} cgroups the {MOST_WATCHED} with the most are watched"
        self._watched = sorted(sizes, key=lambda path: -sizes[path])[:MOST_WATCHED]
        self._before = {
            path: self._before.get(path, (_out_of_memory(path) or 0) if first else 0)
            for path in sizes
            if os.path.dirname(path) == root
        }

    def _name(self, path: str) -> str:
        return escape(os.fsencode(path.removeprefix(self._root or "")))


def _memory_root(mounts: Path) -> str | None:
    """Return where the hierarchy with the memory controller is mounted."""
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        if fields[2] != "cgroup2":
            continue
        root = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        try:
            if "memory" in Path(root, "cgroup.subtree_control").read_text().split():
                return root
        except OSError:
            continue
    return None


def _below(root: str) -> Iterator[str]:
    """Yield the paths of all cgroups below the root, the higher ones first."""
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        try:
            with os.scandir(folder) as entries:
                paths = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed just now
            continue
        yield from paths
        waiting += paths


def _out_of_memory(path: str) -> int | None:
    return _number(f"{path}/memory.events", _OUT_OF_MEMORY)


def _number(path: str, line: re.Pattern[bytes]) -> int | None:
    """Return the number in a line of a file, or None if there is none."""
    try:
        with open(path, "rb") as file:
            match = line.search(file.read())
    except OSError:
        return None
    return int(match[1]) if match else None
