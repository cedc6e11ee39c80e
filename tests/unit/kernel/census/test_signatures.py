# SPDX-License-Identifier: Apache-2.0
"""Whose objects are, in memory made by hand: structs pointed to by members, linked in lists, with
tables of functions, and raw bytes."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slabmon.base.arrays import U8, U64
from slabmon.census.model import Certainty, OwnedObjects
from slabmon.kernel.census import referrers, symbols
from slabmon.kernel.census.contents import Subjects
from slabmon.kernel.census.memory import BudgetSpent
from slabmon.kernel.census.owners import Owners, owner_rows
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Referrers
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe.btf import Btf
from tests.support.btf_blob import VOID, Blob
from tests.support.slab_memory import FakeCache, FakeKernel, SparseMemory

TEXT = 0xFFFFFFFF81000000
DATA = TEXT + 0x100000
MODULE = 0xFFFFFFFFC0100000
IOMEM = """\
00100000-7fffffff : System RAM
  01000000-010fffff : Kernel code
  01100000-011fffff : Kernel data
"""
FUNCTIONS = {
    "_text": (TEXT, None),
    "timer_fires": (TEXT + 0x100, None),
    "_etext": (TEXT + 0xFF000, None),
    **{f"gizmo_{verb}": (MODULE + 0x100 * n, "gizmo") for n, verb in enumerate(("open", "close"))},
}
BUCKETS = (32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
SIZES = (24, 56, 72, 112, 160, 232, 400, 900, 1800, 3000, 7000)  # one struct for each bucket
OWNER = "holder"
LINKED, PLAIN = 8, 16
PIECE, AREA, OPS = (len(BUCKETS) + number for number in (4, 5, 6))  # members of the holder
ANYTHING = len(BUCKETS) + 2
VMALLOC = 0xFFFFC90000000000
LIST_HEAD = 5  # its type's number


def blob(extensions: bool = True) -> Blob:
    """struct holder { struct part32 *part32; ...; char *text; union { struct part64 *fits;
    char *chars; } either; }, and parts that begin with an id and a list."""
    blob = Blob()
    u64, char = blob.integer("unsigned long", 8), blob.integer("char", 1)
    text = blob.pointer(char)
    link = blob.next_id
    head = blob.pointer(link + 1)
    blob.struct("list_head", 16, [("next", head, 0), ("prev", head, 64)])
    fields, parts = [], {}
    for number, (bucket, size) in enumerate(zip(BUCKETS, SIZES, strict=True)):
        members = [("id", u64, 0)]
        if size >= 32:
            members.append(("peers", link + 1, 64))
        parts[bucket] = blob.pointer(blob.struct(f"part{bucket}", size, members))
        fields.append((f"of{bucket}", parts[bucket], 64 * number))
    end = 64 * len(BUCKETS)
    either = blob.struct("", 8, [("fits", parts[64], 0), ("chars", text, 0)], union=True)
    function = blob.pointer(blob.prototype([VOID]))
    fields += [
        ("text", text, end),
        ("", either, end + 64),
        ("anything", blob.pointer(VOID), end + 128),
    ]
    fields.append(("called", function, end + 192))
    piece = blob.struct("piece", 80, [("id", u64, 0), ("text", text, 64)])
    words = ("next", "addr", "size", "flags", "pages", "caller")
    area = blob.struct("vm_struct", 56, [(name, u64, 64 * n) for n, name in enumerate(words)])
    table = blob.struct("holder_operations", 16, [("open", function, 0)])
    for number, pointed in enumerate((piece, area, table), start=4):
        fields.append((f"more{number}", blob.pointer(pointed), end + 64 * number))
    blob.struct(OWNER, end // 8 + 56, fields)
    if extensions:
        blob.struct("slabobj_ext", 8, [("objcg", text, 0)])
    blob.struct("slab_sheaf", 32, [("cache", text, 128), ("objects", u64, 256)])
    return blob


class Host:
    """Slabs with planted objects, on a kernel with these types."""

    def __init__(self, tmp_path: Path, types: Blob | None = None) -> None:
        self.types = types or blob()
        self.kernel = FakeKernel(pfns=2048)
        self.caches: dict[str, FakeCache] = {}
        self._room: dict[str, list[int]] = {}
        self.holder_size = 8 * len(BUCKETS) + 56
        self.listing = tmp_path / "kallsyms"
        self.modules = tmp_path / "btf"
        self.listing.write_text(
            "".join(
                f"{address:016x} t {name}" + (f"\t[{module}]" if module else "") + "\n"
                for name, (address, module) in sorted(
                    FUNCTIONS.items(), key=lambda item: item[1][0]
                )
            )
        )
        self.kernel.slab(self.kernel.cache("shows_direct_map", 64), free=[0])

    def new(self, cache: str, size: int) -> int:
        """Allocate an object of 0; return its address."""
        if cache not in self.caches:
            order = max(0, (size // 4096).bit_length() - 1)
            self.caches[cache] = self.kernel.cache(cache, size, order=order)
            self._room[cache] = []
        if not self._room[cache]:
            made = self.caches[cache]
            pfn = self.kernel.slab(made)
            self._room[cache] = [
                self.kernel.object(made, pfn, place) for place in range(made.objects)
            ]
        address = self._room[cache].pop(0)
        self.kernel.memory.write(address, bytes(min(size, 1024)))
        return address

    def kmalloc(self, size: int) -> int:
        return self.new(f"kmalloc-{size}", size)

    def holder(self, member: int, target: int) -> int:
        """Allocate a struct holder whose word points to something."""
        address = self.new(OWNER, self.holder_size)
        self.point(address + 8 * member, target)
        return address

    def point(self, place: int, target: int) -> None:
        self.kernel.memory.write_word(place, target)

    def census(
        self,
        aliases: Mapping[str, tuple[str, ...]] | None = None,
        memory: SparseMemory | None = None,
        most_bytes: int = 1 << 24,
    ) -> Owners:
        """Whose the objects are; what was not allocated of a slab is free."""
        rows = self.kernel.slabs()
        rest = [address for room in self._room.values() for address in room]
        free = rows.find(np.array(rest, np.uint64))
        reading = self.kernel.reading(free=free.tolist())
        in_use = np.add.reduceat(~reading.free, rows.first[:-1], dtype=np.int64)
        known = symbols.read(IOMEM, self.listing)
        return owner_rows(
            memory or self.kernel.memory,
            dataclasses.replace(reading, in_use=in_use),
            Types(Btf(self.types.build()), self.modules),
            aliases or {},
            known,
            CensusSettings(cpu_seconds=3600),
            most_bytes,
        )

    def leave(self, cache: str) -> int:
        """Return the address of a free object."""
        return self._room[cache][0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def groups(owners: Owners, cache: str) -> dict[str, int]:
    """Objects of one cache by signature."""
    return {row.signature: row.objects for row in owners.rows if row.cache == cache}


def of_cache(owners: Owners, cache: str) -> OwnedObjects:
    [row] = [row for row in owners.rows if row.cache == cache]
    return row


def test_a_cache_named_after_a_struct_is_exact(host: Host) -> None:
    host.holder(0, host.kmalloc(32))
    row = of_cache(host.census(), OWNER)
    assert (row.type, row.certainty, row.objects) == (OWNER, Certainty.EXACT, 1)
    assert row.bytes == host.holder_size


@pytest.mark.parametrize("known", [True, False], ids=["6.10", "before"])
def test_vectors_of_extensions_are_known_with_and_without_their_struct(
    tmp_path: Path, known: bool
) -> None:
    host = Host(tmp_path, blob(extensions=known))
    vector = host.kmalloc(96)
    host.point(vector + 8, host.kmalloc(64))
    host.kernel.slab(host.kernel.cache("charged", 64), exts=vector)
    row = of_cache(host.census(), "kmalloc-96")
    assert row.signature == "extensions of slab objects (slab.obj_exts)"
    assert row.type == ("slabobj_ext" if known else None)


def test_a_typed_member_names_what_it_points_to(host: Host) -> None:
    host.holder(1, host.kmalloc(64))
    row = of_cache(host.census(), "kmalloc-64")
    assert (row.type, row.certainty) == ("part64", Certainty.LIKELY)
    assert row.signature == "struct part64, pointed to by holder.of64"


def test_a_pointer_to_another_size_than_declared_names_the_member_only(host: Host) -> None:
    host.kmalloc(32)  # kmalloc has small caches, as everywhere
    host.holder(1, host.kmalloc(256))
    row = of_cache(host.census(), "kmalloc-256")
    assert (row.type, row.signature) == (None, "pointed to by holder.of64")


def test_untyped_members_and_unions_by_what_fits(host: Host) -> None:
    end = len(BUCKETS)
    host.holder(end, host.kmalloc(32))
    host.holder(end + 1, host.kmalloc(64))
    host.holder(end + 1, host.kmalloc(96))
    owners = host.census()
    assert groups(owners, "kmalloc-32") == {"pointed to by holder.text": 1}
    assert groups(owners, "kmalloc-64") == {"struct part64, pointed to by holder.fits": 1}
    assert groups(owners, "kmalloc-96") == {"pointed to by holder.chars": 1}


def test_structs_of_modules_are_known(host: Host) -> None:
    """Two modules, whose types have the same numbers; the second points to a struct of the kernel,
    and to one of its own."""
    host.modules.mkdir()
    base = blob()
    for name, size in (("other", 40), ("gizmo_box", 96)):
        module = Blob(base)
        lid = module.pointer(module.next_id + 1)
        module.struct("lid", 50, [("of", lid, 0)])
        module.struct(name, size, [("lid", lid, 0), ("head", LIST_HEAD, 64)])
        (host.modules / name).write_bytes(module.build())
    box = host.new("gizmo_box_cache", 96)
    host.point(box, host.kmalloc(64))
    host.point(box + 8, host.kmalloc(192) + 8)
    owners = host.census()
    assert of_cache(owners, "gizmo_box_cache").type == "gizmo_box"
    assert groups(owners, "kmalloc-64") == {"struct lid, pointed to by gizmo_box.lid": 1}
    assert groups(owners, "kmalloc-192") == {"linked to gizmo_box.head": 1}


def test_members_of_a_list_have_the_struct_of_the_one_that_is_known(host: Host) -> None:
    ring = [host.kmalloc(64) for _ in range(5)]
    host.kernel.circle(ring[0] + LINKED, [address + LINKED for address in ring[1:]])
    host.holder(1, ring[0])
    assert of_cache(host.census(), "kmalloc-64").objects == 5


def test_members_of_a_list_are_named_as_most_of_it_is(host: Host) -> None:
    """Whose a list is its links tell where they point back, and pointers of another kind do not."""
    ring = [host.kmalloc(512) for _ in range(5)]
    host.kernel.circle(ring[0] + 64, [address + 64 for address in ring[1:]])
    for before, after in zip(ring, [*ring[1:], ring[0]], strict=True):
        host.point(after + 72, before + 64)
    host.point(ring[0] + 24, TEXT + 0x100)
    other = host.kmalloc(512)
    host.point(other + 64, ring[1] + 64)
    assert groups(host.census(), "kmalloc-512") == {
        "holds timer_fires at +24": 1,
        "in a list or tree with what holds timer_fires at +24": 4,
        "unknown": 1,
    }


def test_a_pointer_to_anything_is_named_with_the_functions_beside_it(host: Host) -> None:
    host.kernel.memory.write(
        DATA + 0x40, struct.pack("<3Q", 0, MODULE, MODULE + 0x100) + bytes(128)
    )
    holder = host.holder(ANYTHING, host.kmalloc(128))
    host.point(holder + 8 * OPS, DATA + 0x40)
    host.holder(ANYTHING, host.kmalloc(128))
    owners = host.census()
    assert groups(owners, "kmalloc-128") == {
        "pointed to by holder.anything with gizmo_*": 1,
        "pointed to by holder.anything": 1,
    }
    assert "gizmo" in {row.module for row in owners.rows if row.cache == "kmalloc-128"}


def test_a_struct_inside_of_an_object_is_known_by_a_pointer_to_it(host: Host) -> None:
    container = host.kmalloc(192)
    host.holder(PIECE, container + 16)
    host.point(container + 24, host.kmalloc(96))
    host.point(container + 32, host.kmalloc(64))
    owners = host.census()
    assert groups(owners, "kmalloc-192") == {"pointed to by holder.more4": 1}
    assert groups(owners, "kmalloc-96") == {"pointed to by piece.text": 1}
    assert groups(owners, "kmalloc-64") == {"pointed to by piece+16": 1}


def test_areas_of_vmalloc_are_named_after_who_asked_for_them(host: Host) -> None:
    """But not those mapped to processes, which write there what they like."""
    for number, flags in enumerate((0x2, 0x8)):
        area, start = host.kmalloc(64), VMALLOC + 0x10000 * number
        for member, value in enumerate((0, start, 0x2000, flags, DATA, MODULE + 0x20)):
            host.point(area + 8 * member, value)
        host.holder(AREA, area)
        host.kernel.memory.write(start, bytes(0x1000))
        host.point(start + 0x108, host.kmalloc(1024))
    owners = host.census()
    assert groups(owners, "kmalloc-1024") == {
        "pointed to by vmalloc memory of gizmo_open": 1,
        "unknown": 1,
    }


def test_functions_and_tables_of_functions_are_named_with_their_module(host: Host) -> None:
    host.kernel.memory.write(
        DATA + 0x40, struct.pack("<3Q", 0, MODULE, MODULE + 0x100) + bytes(128)
    )
    for _ in range(3):
        host.point(host.kmalloc(256) + 40, DATA + 0x40)
    host.point(host.kmalloc(512) + 24, TEXT + 0x100)
    host.point(host.kmalloc(512) + 32, TEXT + 0x104)  # inside a function: a return address
    owners = host.census()
    row = of_cache(owners, "kmalloc-256")
    assert (row.module, row.signature, row.objects) == ("gizmo", "has ops gizmo_* at +40", 3)
    assert groups(owners, "kmalloc-512") == {"holds timer_fires at +24": 1, "unknown": 1}


def test_variables_name_what_they_point_to_where_the_kernel_lists_them(host: Host) -> None:
    target = host.kmalloc(1024)
    host.kernel.memory.write(DATA, bytes(4096))
    host.point(DATA + 0x108, target)
    assert groups(host.census(), "kmalloc-1024") == {"unknown": 1}
    lines = [f"{DATA + 0x100 * n:016x} D variable{n}\n" for n in range(400)]
    lines.append(f"{MODULE + 0x8000:016x} d devices\t[gizmo]\n")
    host.listing.write_text(host.listing.read_text() + "".join(lines))
    host.kernel.memory.write(MODULE + 0x8000, bytes(4096))
    host.point(MODULE + 0x8010, host.kmalloc(2048))
    owners = host.census()
    assert groups(owners, "kmalloc-1024") == {"pointed to by variable variable1": 1}
    row = of_cache(owners, "kmalloc-2048")
    assert (row.module, row.signature) == ("gizmo", "pointed to by variable devices")


def test_what_a_named_group_points_to_is_named_after_it(host: Host) -> None:
    first = host.kmalloc(512)
    host.point(first + 24, TEXT + 0x100)
    host.point(first + 64, host.kmalloc(96))
    assert groups(host.census(), "kmalloc-96") == {
        "pointed to by +64 of what holds timer_fires at +24": 1
    }


def test_a_table_of_pointers_is_named_after_what_it_points_to(host: Host) -> None:
    table, few = host.kmalloc(1024), host.kmalloc(1024)
    for number in range(20):
        host.point(table + 16 * number, host.new("nodes", 128))
    host.kernel.memory.write(few, bytes(range(1, 201)))
    for number in range(9):
        host.point(few + 16 * number, host.new("nodes", 128))
    found = groups(host.census(), "kmalloc-1024")
    assert found == {"table of pointers to objects of nodes": 1, "unknown": 1}


def test_a_few_words_left_behind_do_not_outweigh_a_member(host: Host) -> None:
    for number in range(200):
        name = host.kmalloc(96)
        host.holder(len(BUCKETS), name)
        if number < 3:
            host.point(name + 72, TEXT + 0x100)
    assert groups(host.census(), "kmalloc-96") == {"pointed to by holder.text": 200}


def test_words_of_free_objects_say_nothing(host: Host) -> None:
    host.holder(0, host.kmalloc(32))
    host.point(host.leave(OWNER) + 8, host.kmalloc(64))
    host.point(host.leave("kmalloc-32") + 8, TEXT + 0x100)
    owners = host.census()
    assert groups(owners, "kmalloc-64") == {"unknown": 1}
    assert groups(owners, "kmalloc-32") == {"struct part32, pointed to by holder.of32": 1}


def test_nothing_known_is_unknown(host: Host) -> None:
    for _ in range(4):
        host.kernel.memory.write(host.kmalloc(96), b"marker bytes" * 8)
    row = of_cache(host.census(), "kmalloc-96")
    assert (row.signature, row.certainty, row.objects) == ("unknown", Certainty.UNKNOWN, 4)


def test_objects_of_a_merged_cache_are_told_apart_by_their_members(host: Host) -> None:
    """A function where the holder has one, and kernel addresses where it has pointers."""
    size = host.holder_size
    for _ in range(3):
        host.point(host.new("merged", size) + 8 * (len(BUCKETS) + 3), TEXT + 0x100)
    host.kernel.memory.write(host.new("merged", size), b"no pointers here")
    host.holder(0, host.kmalloc(32))
    owners = host.census(aliases={"merged": (OWNER,)})
    found = {row.type: row.objects for row in owners.rows if row.cache == "merged"}
    assert found[OWNER] == 3


def test_planted_structs_are_named_and_hardly_any_wrongly(host: Host) -> None:
    """Of every struct some are pointed to by a member, some linked to these, some hold a table of
    functions, some are raw bytes; among pointers into others and words left behind."""
    host.kernel.memory.write(DATA + 0x40, struct.pack("<2Q", MODULE, MODULE + 0x100) + bytes(128))
    expected: Counter[tuple[str, str]] = Counter()
    rings = []
    for number, bucket in enumerate(BUCKETS):
        cache = f"kmalloc-{bucket}"
        typed = f"struct part{bucket}, pointed to by holder.of{bucket}"
        for _ in range(12):
            ring = [host.kmalloc(bucket) for _ in range(3 if bucket >= 64 else 1)]
            host.holder(number, ring[0] | 1)  # flags in low bits of pointers
            host.kernel.circle(ring[0] + LINKED, [each + LINKED for each in ring[1:]])
            rings.append(ring)
            expected[cache, typed] += len(ring)
        for _ in range(8):
            host.point(host.kmalloc(bucket) + PLAIN, DATA + 0x40)
            expected[cache, f"has ops gizmo_* at +{PLAIN}"] += 1
        for _ in range(5):
            host.kernel.memory.write(host.kmalloc(bucket), bytes(range(1, 25)))
            expected[cache, "unknown"] += 1
    host.point(rings[40][0] + 40, TEXT + 0x100)  # left behind
    host.point(rings[60][1] + 48, rings[50][1] + 32)
    owners = host.census()
    found = {
        (row.cache, row.type, row.signature): row.objects
        for row in owners.rows
        if row.cache.startswith("kmalloc-")
    }
    right: Counter[tuple[str, str]] = Counter()
    for (cache, kind, signature), count in found.items():
        typed = f"struct {kind}, pointed to by holder.of{kind[4:]}" if kind else signature
        right[cache, typed] += count
    assert (right & expected).total() >= 0.99 * expected.total()
    named = right - expected
    assert sum(n for (_, text), n in named.items() if text != "unknown") <= 0.01 * expected.total()
    assert right.total() == expected.total()


class Impatient(SparseMemory):
    """Memory whose reader has used up its CPU time."""

    def gather(self, addresses: U64, size: int) -> U8:
        raise BudgetSpent("all of it")


def test_without_time_left_named_caches_are_told_all_the_same(host: Host) -> None:
    host.holder(0, host.kmalloc(32))
    owners = host.census(memory=Impatient())
    assert [row.cache for row in owners.rows if row.objects == 1] == [OWNER]
    assert owners.limits[0].endswith("was not found: all of it")


def test_of_more_slabs_than_memory_allows_random_ones_are_read(
    host: Host,
) -> None:
    """Counts are right within four of the standard errors given with them."""
    for number in range(3000):
        address = host.kmalloc(1024)
        if number % 3 == 0:
            host.point(address + 40, TEXT + 0x100)
    owners = host.census(most_bytes=1 << 20)
    assert 0 < owners.sampled < 0.5
    rows = {row.signature: row for row in owners.rows if row.cache == "kmalloc-1024"}
    held = rows["holds timer_fires at +40"]
    assert held.objects_stderr > 0
    assert abs(held.objects - 1000) < 4 * held.objects_stderr
    assert sum(row.objects for row in rows.values()) == pytest.approx(3000, abs=2)
    assert any("were read" in text for text in owners.limits)


@pytest.mark.parametrize(("room", "share"), [(1, 0.25), (0, None)])
def test_what_takes_more_memory_than_expected_is_tried_with_fewer_objects(
    host: Host, monkeypatch: pytest.MonkeyPatch, room: int, share: float | None
) -> None:
    for _ in range(3000):
        host.kmalloc(1024)
    find = referrers.find

    def short(memory: SparseMemory, reading: Reading, subjects: Subjects, *rest: Any) -> Referrers:
        if len(subjects) > 800 * room:
            raise MemoryError
        return find(memory, reading, subjects, *rest)

    monkeypatch.setattr(referrers, "find", short)
    owners = host.census(most_bytes=3 << 20)
    if share is None:
        assert owners.limits[0].endswith("--memory-mib, or census.memory_mib of a daemon")
        assert not [row for row in owners.rows if row.cache == "kmalloc-1024"]
    else:
        assert owners.sampled == pytest.approx(share, abs=0.02)


def test_what_is_left_behind_in_a_sheaf_says_nothing(host: Host) -> None:
    cache = host.kernel.cache("with_sheaves", 64, cpu_sheaves=0x1000, sheaf_capacity=10)
    host.kernel.slab(cache)
    sheaf = host.kmalloc(128)
    host.point(sheaf + 16, cache.address)
    host.point(sheaf + 32, host.kmalloc(96))
    owners = host.census()
    assert of_cache(owners, "kmalloc-128").type == "slab_sheaf"
    assert groups(owners, "kmalloc-96") == {"unknown": 1}
