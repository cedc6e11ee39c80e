# SPDX-License-Identifier: Apache-2.0
"""Orphans, in memory made by hand: what refers to an object, and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from slabmon.base.retained import RetainedBy
from slabmon.kernel.census import orphans, reading
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.held_rows import Retained
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from tests.support.slab_memory import DIRECT_MAP, LAYOUT, VMEMMAP, FakeCache, FakeKernel

Encoding = Callable[[int], int]


class Host:
    """One cache, one page of the kernel, and objects with addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = FakeKernel()
        self.free: set[int] = set()
        self.cache = self.kernel.cache("things", 128)
        self.kernel.slab(self.cache, free=[0])  # shows where the direct map is
        self.free.add(0)
        self.slab = self.kernel.slab(self.cache)
        self.free |= set(range(32, 64))
        self.roots = DIRECT_MAP + self.kernel.add_pages() * PAGE_BYTES
        self._made = 0
        self._held = 0
        self.readings = 0
        self.changes: dict[int, Callable[[], object]] = {}
        for number in range(1, 32):  # the rest of the first slab
            self.free.add(number)
        monkeypatch.setattr(orphans, "PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(reading, "read", self._read)

    def _read(self, memory: object, layout: object) -> reading.Reading:
        self.readings += 1
        self.changes.get(self.readings, lambda: None)()
        # The slabs are full: which objects are free is said here.
        found = self.kernel.reading(free=self.free)
        in_use = np.append(
            [0, 32 - sum(32 <= n < 64 for n in self.free)], 0 * found.slabs.objects[2:]
        )
        return reading.Reading(**{**vars(found), "in_use": in_use})

    def new(self, *words: int) -> int:
        """Allocate an object with these words; return its address."""
        number = 32 + self._made
        self._made += 1
        self.free.discard(number)
        address = self.address(number)
        self.kernel.memory.write(address, bytes(128))
        for place, word in enumerate(words):
            self.kernel.memory.write_word(address + 8 * place, word)
        return address

    def address(self, number: int) -> int:
        return self.kernel.object(self.cache, self.slab, number - 32)

    def number(self, address: int) -> int:
        return 32 + (address - self.address(32)) // 128

    def hold(self, *words: int) -> int:
        """Put words into the page of the kernel; return where."""
        at = self.roots + 8 * self._held
        for word in words:
            self.kernel.memory.write_word(self.roots + 8 * self._held, word)
            self._held += 1
        return at

    def orphans(self, layout: Layout = LAYOUT) -> set[int]:
        """The addresses of the orphans."""
        memory: KernelMemory = self.kernel.memory  # type: ignore[assignment]  # a fake
        found = orphans.find(memory, layout, {})
        assert found.passes == self.readings
        return set(found.heap.addresses_of(found.numbers).tolist())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_what_nothing_refers_to_is_an_orphan(host: Host) -> None:
    kept, lost = host.new(), host.new()
    host.hold(kept)
    assert host.orphans() == {lost}


def test_a_list_is_reached_through_its_members_and_a_circle_of_orphans_is_not(host: Host) -> None:
    last = host.new()
    for _ in range(5):
        last = host.new(last)
    host.hold(last)
    first = host.new()
    second = host.new(first)
    host.kernel.memory.write_word(first + 16, second)
    third = host.new()
    host.kernel.memory.write_word(third, third)
    assert host.orphans() == {first, second, third}


@pytest.mark.parametrize(
    "word",
    [
        lambda a: a | 1,
        lambda a: a | 7,
        lambda a: a + 72,  # a list_head in it
        lambda a: a + 127,
        lambda a: a - DIRECT_MAP,  # physical
        lambda a: a - DIRECT_MAP + 64,
    ],
)
def test_tagged_interior_and_physical_addresses_count(host: Host, word: Encoding) -> None:
    kept = host.new()
    host.hold(word(kept))
    assert host.orphans() == set()


def test_numbers_that_are_no_aligned_address_do_not_count(host: Host) -> None:
    lost = host.new()
    host.hold(lost - DIRECT_MAP + 8, lost - DIRECT_MAP + 1, 0, 64)
    assert host.orphans() == {lost}


@pytest.mark.parametrize("high", [True, False])
def test_a_struct_page_with_an_offset_counts(host: Host, high: bool) -> None:
    """The offset is before the length in a scatterlist, and behind it in a bio_vec."""
    kept, lost = host.new(), host.new()
    offset = (kept - DIRECT_MAP) % PAGE_BYTES + 32
    host.hold(VMEMMAP + host.slab * 64 | 2, offset << 32 | 4 if high else offset | 4096 << 32)
    assert host.orphans() == {lost}


def test_a_struct_page_that_no_length_follows_does_not_count(host: Host) -> None:
    """As the head of a compound page is in its tails' struct pages, before a list's poison."""
    lost = host.new()
    page = VMEMMAP + host.slab * 64
    host.hold(page | 1, 0xDEAD000000000122, page, 0, page, (1 << 22) + 1)
    assert lost in host.orphans()


def test_references_of_free_objects_do_not_count(host: Host) -> None:
    lost, freed = host.new(), host.new()
    host.hold(freed)
    host.kernel.memory.write_word(freed, lost)
    host.free.add(host.number(freed))
    assert host.orphans() == {lost}


def test_what_is_left_behind_in_a_sheaf_does_not_count(host: Host) -> None:
    """Neither when it is followed, nor when all memory is searched."""
    offsets = {**LAYOUT.offsets, "sheaf.cache": 16, "sheaf.objects": 32}
    layout = dataclasses.replace(LAYOUT, offsets=offsets)
    owner = host.kernel.cache("with_sheaves", 64, cpu_sheaves=0x1000, sheaf_capacity=10)
    host.kernel.slab(owner)
    host.free |= set(range(64, 128))
    linked = host.new()
    lost = host.new()
    sheaf = host.new(linked, 0, owner.address, 1, lost)
    host.hold(sheaf)
    assert host.orphans(layout) == {lost}
    host.readings = 0
    host.kernel.memory.write_word(sheaf + 16, owner.address + 8)  # something else
    assert host.orphans(layout) == set()


@pytest.mark.parametrize(
    ("members", "first", "end"),
    [
        ({"task.fpu": 64, "fpu.regs": 8}, 64, 8192),
        ({"fpu.regs": 24}, 5000 + 24, 8192),
        ({"task.simd": 4000}, 4000, 4512),
        ({}, 0, 0),
    ],
    ids=["x86", "x86 from 6.16", "arm64", "none known"],
)
def test_registers_of_users_refer_to_nothing(
    host: Host, members: dict[str, int], first: int, end: int
) -> None:
    """Neither when they are followed, nor when all memory is searched."""
    layout = dataclasses.replace(
        LAYOUT,
        offsets={**LAYOUT.offsets, **members},
        sizes={**LAYOUT.sizes, "task_struct": 5000},
    )
    tasks = host.kernel.cache("task_struct", 8192, order=1)
    task = host.kernel.object(tasks, host.kernel.slab(tasks), 0)
    host.kernel.memory.write(task, bytes(8192))
    host.hold(task)
    places = sorted({0, first - 8, first, end - 8, end, 4096, 8184} & set(range(0, 8192, 8)))
    objects = {at: host.new() for at in places}
    for at, address in objects.items():
        host.kernel.memory.write_word(task + at, address)
    assert host.orphans(layout) == {objects[at] for at in places if first <= at < end}


def test_page_backed_blocks_hold_references_and_are_orphans_too(host: Host) -> None:
    block = DIRECT_MAP + host.kernel.large(1) * PAGE_BYTES
    host.kernel.memory.write(block, bytes(2 * PAGE_BYTES))
    kept = host.new()
    host.kernel.memory.write_word(block + 5000 // 8 * 8, kept)
    assert host.orphans() == {block, kept}
    host.readings = 0
    host.hold(block + 4096)
    assert host.orphans() == set()


@pytest.mark.parametrize("before", [2, 3])
def test_what_is_freed_or_written_to_between_passes_is_not_judged(host: Host, before: int) -> None:
    freed, written, lost = host.new(), host.new(), host.new()

    def change() -> None:
        host.free.add(host.number(freed))
        host.kernel.memory.write_word(written + 120, 1)

    host.changes[before] = change
    assert host.orphans() == {lost}


@pytest.mark.parametrize("before", [2, 3])
def test_a_reference_that_turns_up_clears_an_object_and_what_it_refers_to(
    host: Host, before: int
) -> None:
    inner = host.new()
    outer = host.new(inner)
    lost = host.new()
    keeper = host.new()
    host.hold(keeper)
    turned_up = host.kernel.memory.write_word
    host.changes[before] = lambda: turned_up(keeper + 8, outer)
    assert host.orphans() == {lost}


@pytest.mark.parametrize("kind", RetainedBy)
def test_orphans_are_found_where_retainers_are_not_understood(host: Host, kind: RetainedBy) -> None:
    kept, lost = host.new(host.new()), host.new()
    host.hold(kept)
    memory: KernelMemory = host.kernel.memory  # type: ignore[assignment]  # a fake
    memory.locate = lambda cpu=None: (0, 0)  # type: ignore[method-assign]
    told: list[Retained] = []
    found = orphans.find(memory, LAYOUT, {}, kind=kind, tell=lambda *args: told.append(args[2]))
    assert found.heap.addresses_of(found.numbers).tolist() == [lost]
    assert "cannot be found" in told[0].limits[0]


def test_two_passes_suffice_if_nothing_is_left(host: Host) -> None:
    host.hold(host.new())
    assert host.orphans() == set()
    assert host.readings == 2


@pytest.mark.parametrize(("torn", "judged"), [({1, 2, 3}, False), ({1, 2}, True), ({3}, True)])
def test_objects_of_a_slab_whose_free_objects_are_never_all_known_are_not_judged(
    host: Host, monkeypatch: pytest.MonkeyPatch, torn: set[int], judged: bool
) -> None:
    lost = host.new()

    def read(memory: object, layout: object) -> reading.Reading:
        found = host._read(memory, layout)
        change = host.readings in torn
        return reading.Reading(**{**vars(found), "in_use": found.in_use - change})

    monkeypatch.setattr(reading, "read", read)
    assert host.orphans() == ({lost} if judged else set())


def objects_of(size: int, order: int, pad: int = 0) -> tuple[Heap, FakeKernel, FakeCache, int]:
    kernel = FakeKernel()
    kernel.slab(kernel.cache("shows", 64), free=[0])
    cache = kernel.cache("some", size, order=order, pad=pad)
    pfn = kernel.slab(cache)
    return Heap(kernel.reading(), LAYOUT), kernel, cache, pfn


@pytest.mark.parametrize(
    ("size", "order", "pad"), [(8, 0, 0), (96, 0, 8), (680, 3, 0), (8192, 3, 0)]
)
def test_every_byte_of_an_object_leads_to_it_and_no_other_does(
    size: int, order: int, pad: int
) -> None:
    heap, kernel, cache, pfn = objects_of(size, order, pad)
    start = kernel.object(cache, pfn, 0) - pad
    addresses = np.uint64(start) + np.arange(PAGE_BYTES << order, dtype=np.uint64)
    expected = np.arange(PAGE_BYTES << order) // size
    expected = np.where(expected < cache.objects, 64 + expected, NONE)
    assert heap.find(addresses).tolist() == expected.tolist()
    numbers = 64 + np.arange(cache.objects)
    starts = [kernel.object(cache, pfn, place) for place in range(cache.objects)]
    assert heap.addresses_of(numbers).tolist() == starts
    outside = np.array([0, DIRECT_MAP - 1, start + (PAGE_BYTES << order), (1 << 64) - 1], np.uint64)
    assert heap.find(outside).tolist() == [NONE] * 4


def test_hashes_tell_words_and_their_places_apart() -> None:
    heap, kernel, cache, pfn = objects_of(8192, 3)
    for place, words in enumerate([{0: 1}, {8: 1}, {4096: 1}, {0: 1}]):
        address = kernel.object(cache, pfn, place)
        kernel.memory.write(address, bytes(8192))
        for offset, word in words.items():
            kernel.memory.write_word(address + offset, word)
    found = orphans.hashes(kernel.memory, heap, np.array([67, 65, 66, 64]))
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 3
