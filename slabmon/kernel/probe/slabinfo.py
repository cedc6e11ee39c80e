# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself says about caches: /proc/slabinfo and /sys/kernel/slab."""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from slabmon.base.escape import escape
from slabmon.model import Slabinfo


def parse(content: str) -> dict[str, Slabinfo]:
    """Rows of /proc/slabinfo (format 2.x) by name; names that occur twice are left out, since
    nothing tells which row belongs to which cache."""
    rows: dict[str, Slabinfo] = {}
    twice = set()
    for line in content.split("\n"):
        if line.startswith(("slabinfo", "#")):
            continue
        left, _, data = line.partition(": slabdata")
        # A name may hold blanks: the numbers are counted from the right.
        head = left.partition(" : tunables")[0].rsplit(None, 5)
        counts = data.split()
        if len(head) != 6 or len(counts) < 2:
            continue
        name = escape(os.fsencode(head[0].strip()))
        active, total, size, _, pages = (int(value) for value in head[1:])
        if name in rows:
            twice.add(name)
        rows[name] = Slabinfo(active, total, size, int(counts[1]) * pages * mmap.PAGESIZE)
    for name in twice:
        del rows[name]
    return rows


def read(path: Path = Path("/proc/slabinfo")) -> dict[str, Slabinfo]:
    """/proc/slabinfo, {} where it cannot be read."""
    try:
        return parse(path.read_text("utf-8", "surrogateescape"))
    except OSError:
        return {}


def read_aliases(root: Path = Path("/sys/kernel/slab")) -> Mapping[str, tuple[str, ...]]:
    """For each cache name, the other names merged into the same kmem_cache.

    A merged cache appears as symbolic links, one per name, to one directory such as `:0000064`.
    """
    groups: dict[str, list[str]] = {}
    try:
        entries = list(os.scandir(root))
    except OSError:
        return {}
    for entry in entries:
        if entry.is_symlink():
            name = escape(os.fsencode(entry.name))
            groups.setdefault(os.readlink(entry.path), []).append(name)
    return {
        name: tuple(sorted(other for other in names if other != name))
        for names in groups.values()
        for name in names
    }


class Nature(NamedTuple):
    """What a cache is of which no event was seen; `object_size` in bytes."""

    object_size: int
    reclaimable: bool


@functools.cache  # it never changes; a cache that is not there yet raises, and is not kept
def _nature(name: str, root: Path) -> Nature:
    found = root / name
    return Nature(
        int((found / "object_size").read_text()), int((found / "reclaim_account").read_text()) == 1
    )


def nature(name: str, size: int, root: Path = Path("/sys/kernel/slab")) -> Nature:
    """From sysfs. Where that does not tell, `size`, what an object occupies, stands in:
    /proc/slabinfo knows no more."""
    try:
        return _nature(name, root)
    except (OSError, ValueError):
        return Nature(size, False)
