# SPDX-License-Identifier: Apache-2.0
"""The kernel's own reports about caches: /proc/slabinfo and /sys/kernel/slab."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from slabmon.base.escape import escape
from slabmon.model import Slabinfo

_SYSFS = Path("/sys/kernel/slab")
# Before 6.10 (include/linux/slab.h); later kernels number them in enum _slab_flag_bits.
SLAB_FLAGS = {"RECLAIM_ACCOUNT": 0x20000, "ACCOUNT": 0x4000000, "CACHE_DMA": 0x4000}


def parse(content: str) -> dict[str, Slabinfo]:
    """Parse /proc/slabinfo (format 2.x) into rows by name.

    Names that occur twice are left out: nothing says which row belongs to which cache.
    """
    rows: dict[str, Slabinfo] = {}
    repeated = set()
    for line in content.split("\n"):
        if line.startswith(("slabinfo", "#")):
            continue
        left, _, data = line.partition(": slabdata")
        # A name may contain blanks: the numbers are counted from the right.
        head = left.partition(" : tunables")[0].rsplit(None, 5)
        counts = data.split()
        if len(head) != 6 or len(counts) < 2:
            continue
        name = escape(os.fsencode(head[0].strip()))
        active, total, size, _, pages = (int(value) for value in head[1:])
        if name in rows:
            repeated.add(name)
        rows[name] = Slabinfo(active, total, size, int(counts[1]) * pages * mmap.PAGESIZE)
    for name in repeated:
        del rows[name]
    return rows


def read(path: Path = Path("/proc/slabinfo")) -> dict[str, Slabinfo]:
    """Read /proc/slabinfo; {} if it cannot be read."""
    try:
        return parse(path.read_text("utf-8", "surrogateescape"))
    except OSError:
        return {}


def _scan(root: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            yield from entries
    except OSError:
        return


def read_aliases(root: Path = _SYSFS) -> dict[str, tuple[str, ...]]:
    """Return, for each cache name, the other names merged into the same kmem_cache.

    Merged caches are symbolic links, one per name, to one entry such as `:0000064`.
    """
    groups: dict[str, list[str]] = {}
    for entry in _scan(root):
        try:
            if entry.is_symlink():
                name = escape(os.fsencode(entry.name))
                groups.setdefault(os.readlink(entry.path), []).append(name)
        except OSError:  # it has just gone
            continue
    return {
        name: tuple(sorted(other for other in names if other != name))
        for names in groups.values()
        for name in names
    }


class Nature(NamedTuple):
    """Facts about a cache without events. `object_size` is in bytes."""

    object_size: int
    reclaimable: bool


class SlabDirectory:
    """Facts about caches in /sys/kernel/slab, remembered until a cache or an alias changes.

    A module that is reloaded can bring a cache of the same name with other facts, and an alias
    raises the object size of the cache it is merged with (mm/slab_common.c:
    __kmem_cache_alias()). Both make new entries, and kernfs never reuses an inode number
    (fs/kernfs/dir.c: kernfs_new_node()).
    """

    def __init__(self, root: Path = _SYSFS) -> None:
        self._root = root
        self._entries: dict[str, int] = {}
        self._natures: dict[str, Nature] = {}
        self.aliases: Mapping[str, tuple[str, ...]] = {}

    def refresh(self) -> None:
        """Look for changes. `aliases` are the other names of each cache that has some."""
        entries = {entry.name: entry.inode() for entry in _scan(self._root)}
        if entries != self._entries:
            self._entries = entries
            self._natures.clear()
            self.aliases = read_aliases(self._root)

    @property
    def names(self) -> tuple[str, ...]:
        """All names of caches, aliases included; () if sysfs does not show them."""
        shown = (escape(os.fsencode(name)) for name in self._entries)
        return tuple(name for name in shown if not name.startswith(":"))

    def nature(self, name: str, size: int) -> Nature:
        """Return the facts about a cache.

        `size` is the memory an object occupies, which is all that /proc/slabinfo knows; it stands
        in if the cache is not in sysfs.
        """
        nature = self._natures.get(name)
        if nature is None:
            try:
                nature = self._read_nature(name)
            except (OSError, ValueError):
                return Nature(size, False)
            self._natures[name] = nature
        return nature

    def _read_nature(self, name: str) -> Nature:
        entry = self._root / name
        return Nature(
            int((entry / "object_size").read_text()),
            int((entry / "reclaim_account").read_text()) == 1,
        )
