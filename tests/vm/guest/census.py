# SPDX-License-Identifier: Apache-2.0
"""A census in this process, as tests see it: objects in use by cache, order and cgroup; and, which
takes an emulated processor a minute, what it says of single objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import Bool
from slabmon.base.names import is_kmalloc
from slabmon.census.model import CensusCache, CgroupObjects, PageBlocks
from slabmon.kernel.census import (
    cgroups,
    inventory,
    memory,
    memory_map,
    naming,
    reading,
    symbols,
)
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.caches import Caches
from slabmon.kernel.census.contents import NONE
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.naming import Named
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe import btf, slabinfo
from slabmon.kernel.probe.facts import read_text

_CPU_SECONDS = 36_000.0
_SUBJECTS_BYTES = 256 << 20  # enough for all objects of a guest


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


class Answer(NamedTuple):
    """What a census says of one object."""

    text: str
    module: str | None
    type: str | None


@dataclass(frozen=True)
class NamedObjects:
    """What a census says of the objects of caches that hold all kinds."""

    named: Named
    structs: Structs
    caches: Caches

    def at(self, addresses: Sequence[int]) -> list[Answer | None]:
        """Return what is said of the objects that begin at these addresses, None where nothing is
        known. Raises KeyError if an address is not that of an object in use."""
        numbers, offsets = self.named.subjects.find(np.array(addresses, np.uint64))
        if (numbers == NONE).any() or offsets.any():
            raise KeyError(f"{int(((numbers == NONE) | (offsets != 0)).sum())} are no objects")
        return [self._answer(label) for label in self.named.labels[numbers].tolist()]

    def begin(self, addresses: Sequence[int]) -> Bool:
        """Return whether an object in use begins at each address."""
        numbers, offsets = self.named.subjects.find(np.array(addresses, np.uint64))
        begun: Bool = (numbers != NONE) & (offsets == 0)
        return begun

    def kmalloc_sizes(self, addresses: Sequence[int]) -> list[int]:
        """Return the bytes of the object in use of a cache of kmalloc that begins at each address,
        0 if there is none."""
        numbers, offsets = self.named.subjects.find(np.array(addresses, np.uint64))
        generic = np.append(self._of_kmalloc, False)  # page-backed objects are of no cache
        found = (numbers != NONE) & (offsets == 0) & generic[self.named.subjects.cache[numbers]]
        sizes: list[int] = np.where(found, self.named.subjects.length[numbers] * 8, 0).tolist()
        return sizes

    @cached_property
    def _of_kmalloc(self) -> Bool:
        return np.array([is_kmalloc(name) for name in self.caches.name], bool)

    def fits(self, name: str, size: int) -> bool:
        """Return whether kmalloc() would allocate a struct in an object of `size` bytes."""
        struct = self.structs.find(name)
        own = self.structs.size(struct) if struct else size + 1
        if struct and self.structs.flexible(struct):
            return own <= size
        sizes = self.caches.object_size[self._of_kmalloc]
        return int(sizes[sizes >= own].min(initial=1 << 30)) == size

    def begun_by_others(self, name: str, size: int) -> bool:
        """Return whether another struct for which that holds begins with this one."""
        others = self.structs.containers(self.structs.find(name), 0, size)
        return any(self.fits(self.structs.name(each), size) for each in others)

    def _answer(self, number: int) -> Answer | None:
        if number == NONE:
            return None
        label = self.named.known[number]
        type_ = self.structs.name(label.struct) if label.struct else None
        return Answer(label.text, label.module, type_)


def named_objects() -> NamedObjects:
    """Take a census in this process, and keep what it says of each object."""
    with census_reader() as reader:
        types = btf.read_vmlinux()
        assert types is not None
        read = reading.read(reader.kernel, reader.layout)
        known_types = Types(types)
        structs = Structs(known_types)
        caches = CacheTypes(read, known_types, structs, slabinfo.read_aliases())
        names = symbols.read(read_text("/proc/iomem") or "")
        settings = CensusSettings(cpu_seconds=900)
        kernel = reader.kernel
        found = naming.name(kernel, read, caches, structs, names, settings, _SUBJECTS_BYTES)
    return NamedObjects(found, structs, read.slabs.caches)
