# SPDX-License-Identifier: Apache-2.0
"""The first half of a census, as tests see it: objects in use by cache, order and cgroup.

Whose objects are is a question of its own, and takes an emulated processor a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from slabmon.census.model import CensusCache, CgroupObjects, PageBlocks
from slabmon.kernel.census import cgroups, inventory, memory, memory_map, reading
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.probe import btf, slabinfo

_CPU_SECONDS = 36_000.0


@dataclass(frozen=True)
class Found:
    """Rows of caches by name and by alias, and the rest of what one reading found."""

    caches: dict[str, CensusCache]
    blocks: tuple[PageBlocks, ...]
    cgroups: tuple[CgroupObjects, ...]
    read: Reading

    def in_use(self, cache: str) -> int:
        """Return the objects in use of a cache, by its name or an alias; 0 if it has no slabs."""
        return self.caches[cache].in_use if cache in self.caches else 0


@dataclass(frozen=True)
class Reader:
    """Programs of a census, loaded."""

    kernel: memory.KernelMemory
    layout: Layout

    def read(self, only_caches: bool = True) -> Found:
        """Read all slabs, and whose cgroups' objects they hold unless `only_caches`."""
        read = reading.read(self.kernel, self.layout)
        nodes = memory_map.node_of_pages(read.slabs.pfn)
        rows = inventory.cache_rows(read.slabs, read.in_use, nodes, slabinfo.read_aliases())
        charged = () if only_caches else cgroups.cgroup_rows(self.kernel, self.layout, read)
        by_name = {name: row for row in rows for name in (*row.aliases, row.name)}
        return Found(by_name, inventory.page_blocks(read.large), charged, read)


@contextmanager
def census_reader() -> Iterator[Reader]:
    """Load the programs of a census, for as many readings as wanted."""
    with memory.start_compiler() as compiler:
        layout = Layout.of(btf.read_vmlinux())
        programs = compiler.finish()
    with programs:
        yield Reader(memory.KernelMemory(programs, memory.Budget(_CPU_SECONDS)), layout)


def free_by_slab(read: Reading) -> np.ndarray:
    """Return how many free objects of each slab were found, one by one."""
    return np.add.reduceat(read.free, read.slabs.first[:-1], dtype=np.int64)
