# SPDX-License-Identifier: Apache-2.0
"""Kernel memory made by hand, for the census: struct pages, caches, slabs with free objects,
per-CPU slabs, sheaves and barns, memory cgroups. Its layout is none of any kernel's."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import U8, U64
from slabmon.kernel.census import caches, memory_map, pages, slabs
from slabmon.kernel.census.layout import Layout, PageTest
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading

VMEMMAP, DIRECT_MAP, HEAP = 0xFFFFEA0000000000, 0xFFFF888000000000, 0xFFFF999000000000
STRUCT_PAGE = 64
MASK = (1 << 64) - 1
SLAB_TYPE, LARGE_TYPE = 0xF5, 0xF8
_POINTERS = (
    "cpu_slab.freelist",
    "cpu_slab.slab",
    "node.barn",
    "barn.full",
    "sheaves.main",
    "sheaves.spare",
    "sheaves.rcu_free",
    "sheaf.cache",
    "sheaf.list",
    "sheaf.size",
    "objcg.memcg",
    "memcg.css",
    "memcg.objcg",
    "memcg.orig_objcg",
    "css.cgroup",
    "css.flags",
    "css.parent",
    "cgroup.kn",
    "kn.parent",
    "kn.name",
)
OFFSETS: Mapping[str, int] = {
    **{name: 8 * number for number, name in enumerate(_POINTERS)},
    "page.flags": 0,
    "page.type": 48,
    "page.refcount": 52,
    "page.mapping": 24,
    "page.compound": 8,
    "page.memcg_data": 56,
    "slab.cache": 8,
    "slab.freelist": 32,
    "slab.inuse": 40,
    "slab.objects": 42,
    "slab.exts": 56,
    "cache.name": 0,
    "cache.size": 8,
    "cache.object_size": 12,
    "cache.offset": 16,
    "cache.red_left_pad": 20,
    "cache.oo": 24,
    "cache.min": 28,
    "cache.random": 32,
    "cache.cpu_slab": 40,
    "cache.cpu_sheaves": 48,
    "cache.sheaf_capacity": 56,
    "cache.node": 64,
    "sheaf.objects": 400,
    "ext.objcg": 0,
    "codetag.lineno": 4,
    "codetag.modname": 8,
    "codetag.function": 16,
    "codetag.filename": 24,
    "kn.priv": 24,
    "kobject.name": 0,
    "kobject.kset": 24,
    "kobject.sd": 32,
    "kset.name": 16,
    "device.kobj": 8,
    "device.parent": 0,
    "device.bus": 48,
    "device.class": 56,
    "device.driver": 64,
    "device.driver_data": 72,
    "bus.name": 0,
    "class.name": 8,
    "driver.name": 0,
    "driver.owner": 8,
    "module.name": 24,
    "css.children": 240,
    "css.sibling": 256,
}
LAYOUT = Layout(
    offsets=OFFSETS,
    sizes={"page": STRUCT_PAGE, "slabobj_ext": 8},
    slab_page=PageTest(48, 0xFF000000, SLAB_TYPE << 24),
    large_page=PageTest(48, 0xFF000000, LARGE_TYPE << 24),
    css_online=2,
    css_dying=16,
)


class SparseMemory(Memory):
    """Pages by number; what was never written cannot be read."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def write(self, address: int, data: bytes) -> None:
        for done, byte in enumerate(data):
            page, offset = divmod(address + done & MASK, PAGE_BYTES)
            self._pages.setdefault(page, bytearray(PAGE_BYTES))[offset] = byte

    def write_word(self, address: int, value: int) -> None:
        self.write(address, struct.pack("<Q", value & MASK))

    def read(self, address: int, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            page, offset = divmod(address + len(data) & MASK, PAGE_BYTES)
            if page not in self._pages:
                return None
            data += self._pages[page][offset : offset + size - len(data)]
        return data

    def block(self, address: int, size: int) -> U8 | None:
        data = self.read(address, size)
        return None if data is None else np.frombuffer(data, np.uint8)

    def gather(self, addresses: U64, size: int) -> U8:
        parts = [self.read(int(address), size) or bytes(size) for address in addresses]
        return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), size).copy()


@dataclass
class FakeCache:
    """One kmem_cache. Slabs have `objects` objects and 2^order pages."""

    address: int
    size: int
    offset: int
    random: int
    objects: int
    order: int
    pad: int = 0


@dataclass
class FakeKernel:
    """Memory to which caches and what belongs to them are added."""

    memory: SparseMemory = field(default_factory=SparseMemory)
    pfns: int = 64
    _next: int = HEAP
    _pfn: int = 1

    def __post_init__(self) -> None:
        self.memory.write(VMEMMAP, bytes(self.pfns * STRUCT_PAGE))

    def place(self, data: bytes) -> int:
        """Put data somewhere; return its address."""
        address = self._next
        self._next += -(-len(data) // 64) * 64 + 64
        self.memory.write(address, data)
        return address

    def record(self, kind: str, size: int = 512, **words: int) -> int:
        """Put a struct somewhere, with these 64-bit members; return its address."""
        address = self.place(bytes(size))
        for name, value in words.items():
            self.memory.write_word(address + OFFSETS[f"{kind}.{name}"], value)
        return address

    def cache(
        self,
        name: str,
        size: int,
        *,
        offset: int = 0,
        order: int = 0,
        random: int = 0x123456789ABCDEF0,
        pad: int = 0,
        cpu_slab: int = 0,
        cpu_sheaves: int = 0,
        sheaf_capacity: int = 0,
        nodes: Sequence[int] = (),
    ) -> FakeCache:
        objects = (PAGE_BYTES << order) // size
        oo = order << 16 | objects
        data = struct.pack(
            "<QIIIIIIQQQQ8Q",
            self.place(name.encode() + b"\0"),
            size,
            size - pad,
            offset,
            pad,
            oo,
            oo,
            random,
            cpu_slab,
            cpu_sheaves,
            sheaf_capacity,
            *(*nodes, *(0,) * (8 - len(nodes))),
        )
        return FakeCache(self.place(data), size, offset, random, objects, order, pad)

    def object(self, cache: FakeCache, pfn: int, place: int) -> int:
        """Return the address of an object."""
        return DIRECT_MAP + pfn * PAGE_BYTES + cache.pad + place * cache.size

    def chain(self, cache: FakeCache, pfn: int, places: Iterable[int]) -> int:
        """Make a list of free objects, in this order; return the address of the first."""
        following = 0
        for place in reversed(list(places)):
            address = self.object(cache, pfn, place)
            at = address + cache.offset
            swapped = int.from_bytes(at.to_bytes(8, "little"), "big")
            self.memory.write_word(at, following ^ cache.random ^ swapped)
            following = address
        return following

    def slab(
        self, cache: FakeCache, free: Sequence[int] = (), inuse: int | None = None, exts: int = 0
    ) -> int:
        """Add a slab with these free objects on its own list; return its page frame."""
        pfn = self._pfn
        self._pfn += 1 << cache.order
        self.memory.write(DIRECT_MAP + pfn * PAGE_BYTES, b"\xa5" * (PAGE_BYTES << cache.order))
        count = cache.objects - len(free) if inuse is None else inuse
        page = bytearray(STRUCT_PAGE)
        struct.pack_into("<Q", page, 8, cache.address)
        struct.pack_into("<QHH", page, 32, self.chain(cache, pfn, free), count, cache.objects)
        struct.pack_into("<IIQ", page, 48, SLAB_TYPE << 24, 1, exts | 1 if exts else 0)
        self.memory.write(VMEMMAP + pfn * STRUCT_PAGE, bytes(page))
        return pfn

    def add_pages(
        self,
        count: int = 1,
        *,
        refcount: int = 1,
        type: int = 0xFFFFFFFF,
        mapping: int = 0,
        compound: bool = False,
        align: int = 1,
    ) -> int:
        """Add pages of no slab, the first of which has these references; return its frame."""
        pfn = self._pfn = -(-self._pfn // align) * align
        self._pfn += count
        head = VMEMMAP + pfn * STRUCT_PAGE
        for number in range(count):
            page = bytearray(STRUCT_PAGE)
            struct.pack_into("<II", page, 48, type, 0 if number else refcount)
            struct.pack_into("<QQQ", page, 8, head | 1 if compound and number else 0, 0, mapping)
            self.memory.write(VMEMMAP + (pfn + number) * STRUCT_PAGE, bytes(page))
        self.memory.write(DIRECT_MAP + pfn * PAGE_BYTES, bytes(count * PAGE_BYTES))
        return pfn

    def large(self, order: int, memcg_data: int = 0) -> int:
        """Add page-backed kmalloc; return its page frame."""
        pfn = self._pfn
        self._pfn += 1 << order
        page = bytearray(STRUCT_PAGE)
        struct.pack_into("<IIQ", page, 48, LARGE_TYPE << 24, 1, memcg_data)
        self.memory.write(VMEMMAP + pfn * STRUCT_PAGE, bytes(page))
        self.memory.write(VMEMMAP + (pfn + 1) * STRUCT_PAGE, struct.pack("<Q", 0x4000 | order))
        return pfn

    def sheaf(self, objects: Sequence[int], room: int = 32) -> int:
        """Put a struct slab_sheaf somewhere; return its address."""
        address = self.place(bytes(OFFSETS["sheaf.objects"] + 8 * room))
        self.memory.write_word(address + OFFSETS["sheaf.size"], len(objects))
        for number, pointer in enumerate(objects):
            self.memory.write_word(address + OFFSETS["sheaf.objects"] + 8 * number, pointer)
        return address

    def circle(self, head: int, entries: Sequence[int]) -> None:
        """Link list_heads into one list."""
        ring = [head, *entries]
        for entry, following in zip(ring, [*entries, head], strict=True):
            self.memory.write_word(entry, following)

    def scan(self, layout: Layout = LAYOUT) -> pages.Pages:
        return pages.scan(self.memory, layout, VMEMMAP, self._ranges)

    @property
    def _ranges(self) -> list[memory_map.PageRange]:
        return [memory_map.PageRange(1, self.pfns)]

    def slabs(self, layout: Layout = LAYOUT) -> slabs.Slabs:
        """Return all slabs, as the census finds them."""
        found = self.scan(layout).slabs
        known = caches.read(self.memory, layout, found.cache)
        return slabs.assemble(found, known)[0]

    def reading(
        self, layout: Layout = LAYOUT, *, free: Iterable[int] = (), nodes: Sequence[int] = (0,)
    ) -> Reading:
        """Return a reading in which these objects are free."""
        rows = self.slabs(layout)
        mask = np.zeros(rows.total, bool)
        mask[list(free)] = True
        return Reading(
            ranges=self._ranges,
            nodes=nodes,
            vmemmap=VMEMMAP,
            direct_map=DIRECT_MAP,
            slabs=rows,
            large=self.scan(layout).large,
            free=mask,
            in_use=rows.inuse,
            pages_read=self.pfns,
            changed=0,
        )
