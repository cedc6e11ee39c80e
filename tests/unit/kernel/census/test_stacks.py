# SPDX-License-Identifier: Apache-2.0
"""Stacks of tasks, in memory made by hand: what lies below the stack pointer is dead."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from slabmon.base.arrays import U8, U64
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.stacks import Stacks
from tests.support.slab_memory import (
    DIRECT_MAP,
    LAYOUT,
    OFFSETS,
    STRUCT_PAGE,
    VMEMMAP,
    FakeKernel,
)

MEMBERS = ("nvcsw", "nivcsw", "on_cpu", "sp", "stack", "stack_area", "parent", "comm")
LAYOUT_OF_STACKS = dataclasses.replace(
    LAYOUT,
    offsets={
        **OFFSETS,
        **{f"task.{name}": 8 * number for number, name in enumerate(MEMBERS)},
        **{f"area.{name}": 8 * number for number, name in enumerate(("addr", "pages", "nr_pages"))},
        "percpu.cached_stacks": 256,
        "percpu.hardirq_stack_inuse": 320,
        "percpu.this_cpu_off": 512,
        "percpu.irq_stack_backing_store": PAGE_BYTES,
    },
)
PAGES = 2
STACK, SP = 0xFFFFC90000000000, 0x1230  # where stacks are mapped; used from here on
IMAGE = 0xFFFFFFFF82000000
END_OF_STACK = 0x57AC6E9D
SECTION = 0x7000  # per-CPU pointer of the first variable


class Host:
    """Tasks with stacks of two pages, areas of vmalloc in a slab, one CPU."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.layout = LAYOUT_OF_STACKS
        self.tasks = self.kernel.cache("task_struct", 256)
        self.things = self.kernel.cache("things", 128, cpu_slab=SECTION + 4 * PAGE_BYTES + 64)
        self.kernel.slab(self.things, free=[0])  # shows where the direct map is
        self._slabs = [self.kernel.slab(cache) for cache in (self.tasks, self.things)]
        for pfn in self._slabs:
            self.kernel.memory.write(DIRECT_MAP + pfn * PAGE_BYTES, bytes(PAGE_BYTES))
        self._made = [0, 0]
        per_cpu = self.kernel.add_pages(5)
        self.section = DIRECT_MAP + per_cpu * PAGE_BYTES
        self.cpus = {0: self.section - SECTION}
        self.kernel.memory.write_word(self.section + 512, self.cpus[0])
        self._stacks = 0
        self.data_page = 0

    def _new(self, number: int) -> int:
        cache = (self.tasks, self.things)[number]
        self._made[number] += 1
        return self.kernel.object(cache, self._slabs[number], self._made[number] - 1)

    def thing(self) -> int:
        return self._new(1)

    def point(self, address: int, member: str, value: int) -> None:
        self.kernel.memory.write_word(address + LAYOUT_OF_STACKS[member], value)

    def area(self) -> tuple[int, int, list[int]]:
        """An area of vmalloc: its address, where it is mapped, and its pages."""
        pages = [self.kernel.add_pages() for _ in range(PAGES)]
        vector = self.kernel.place(b"".join(self._struct_page(page) for page in pages))
        area, at = self.thing(), STACK + self._stacks * 0x10000
        self._stacks += 1
        for name, value in (("addr", at), ("pages", vector), ("nr_pages", PAGES)):
            self.point(area, f"area.{name}", value)
        return area, at, pages

    @staticmethod
    def _struct_page(pfn: int) -> bytes:
        return (VMEMMAP + pfn * STRUCT_PAGE).to_bytes(8, "little")

    def task(self, on_cpu: int = 0) -> tuple[int, list[int]]:
        """A task, and the pages of its stack, which is used from SP on."""
        task = self._new(0)
        area, at, pages = self.area()
        self._set(task, on_cpu, at, area)
        return task, pages

    def _set(self, task: int, on_cpu: int, stack: int, area: int) -> None:
        for name, value in (
            ("on_cpu", on_cpu | 1 << 32),
            ("sp", stack + SP),
            ("stack", stack),
            ("stack_area", area),
        ):
            self.point(task, f"task.{name}", value)

    def first_task(self, on_cpu: int = 0) -> list[int]:
        """The first task, in the image; the pages of its stack."""
        task, stack = IMAGE + 0x8000, IMAGE
        self._set(task, on_cpu, stack, 0)
        child, _ = self.task()
        self.point(child, "task.parent", task)
        pages = [self.kernel.add_pages() for _ in range(PAGES)]
        self.data_page = pages[0]
        for at in (DIRECT_MAP + self.data_page * PAGE_BYTES, stack):
            self.kernel.memory.write_word(at, END_OF_STACK)
        return pages

    def put(self, pages: list[int], offset: int, word: int) -> None:
        """Write a word to a stack."""
        page, rest = divmod(offset, PAGE_BYTES)
        self.kernel.memory.write_word(DIRECT_MAP + pages[page] * PAGE_BYTES + rest, word)

    def heap(self) -> Heap:
        reading = self.kernel.reading(LAYOUT_OF_STACKS)
        self.reading = dataclasses.replace(reading, cpu_offsets=self.cpus, data_page=self.data_page)
        return Heap(self.reading, LAYOUT_OF_STACKS)

    def reached(self) -> set[int]:
        """The objects that memory outside slabs refers to."""
        heap = self.heap()
        tracer = Tracer(self.kernel.memory, self.layout, self.reading, heap)
        reached = tracer.from_outside() | tracer.on_stacks
        return set(heap.addresses_of(np.flatnonzero(reached)).tolist())


@pytest.fixture
def host() -> Host:
    return Host()


def test_what_lies_below_the_stack_pointer_is_dead(host: Host) -> None:
    live, dead = [host.thing() for _ in range(3)], [host.thing() for _ in range(3)]
    _, pages = host.task()
    for offset, thing in zip((SP, SP + 8, 2 * PAGE_BYTES - 8), live, strict=True):
        host.put(pages, offset, thing)
    for offset, thing in zip((0, PAGE_BYTES, SP - 8), dead, strict=True):
        host.put(pages, offset, thing)
    assert set(live) <= host.reached()
    assert not set(dead) & host.reached()


def change(host: Host, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act just before a stack's contents are read."""
    gather = host.kernel.memory.gather

    def read(addresses: U64, size: int) -> U8:
        if size == PAGE_BYTES:
            act()
        return gather(addresses, size)

    monkeypatch.setattr(host.kernel.memory, "gather", read)


@pytest.mark.parametrize("member", ["on_cpu", "nvcsw", "nivcsw", "stack", "stack_area"])
def test_the_whole_stack_of_a_task_that_may_have_run_is_live(
    host: Host, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    """So is all memory of the stack of a task that has ended meanwhile: it may be used again."""
    thing = host.thing()
    task, pages = host.task()
    host.put(pages, 64, thing)
    assert thing not in host.reached()
    values = itertools.count(1)
    change(host, monkeypatch, lambda: host.point(task, f"task.{member}", next(values)))
    assert thing in host.reached()


def test_the_whole_stack_of_a_running_task_is_live(host: Host) -> None:
    thing = host.thing()
    _, pages = host.task(on_cpu=1)
    host.put(pages, 64, thing)
    assert thing in host.reached()


@pytest.mark.parametrize("on_cpu", [0, 1])
def test_the_stack_of_the_first_task_is_one(host: Host, on_cpu: int) -> None:
    live, dead = host.thing(), host.thing()
    pages = host.first_task(on_cpu)
    host.put(pages, SP, live)
    host.put(pages, SP - 8, dead)
    heap = host.heap()
    tracer = Tracer(host.kernel.memory, LAYOUT_OF_STACKS, host.reading, heap)
    assert not np.isin(tracer.heap.addresses_of(np.flatnonzero(tracer.from_outside())), live).any()
    on_stacks = heap.addresses_of(np.flatnonzero(tracer.on_stacks)).tolist()
    assert live in on_stacks
    assert (dead in on_stacks) == bool(on_cpu)


def test_what_does_not_end_as_a_stack_is_none(host: Host) -> None:
    thing = host.thing()
    pages = host.first_task()
    host.put(pages, SP - 8, thing)
    host.put(pages, 0, 0)
    heap = host.heap()
    tracer = Tracer(host.kernel.memory, LAYOUT_OF_STACKS, host.reading, heap)
    assert thing in heap.addresses_of(np.flatnonzero(tracer.from_outside())).tolist()


def test_a_stack_pointer_outside_the_stack_says_nothing(host: Host) -> None:
    thing = host.thing()
    task, pages = host.task()
    host.put(pages, 64, thing)
    host.point(task, "task.sp", STACK - 8)
    assert thing in host.reached()


def test_nothing_is_on_stacks_that_cpus_keep(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = host.thing()
    area, _, pages = host.area()
    host.put(pages, 2 * PAGE_BYTES - 8, thing)
    assert thing in host.reached()  # an area that nobody knows
    cached = host.section + 256 + 8
    host.kernel.memory.write_word(cached, area)
    assert thing not in host.reached()
    change(host, monkeypatch, lambda: host.kernel.memory.write_word(cached, 0))
    assert thing in host.reached()


@pytest.mark.parametrize(
    ("flag", "unused", "used"),
    [("hardirq_stack_inuse", b"\0", b"\1"), ("irq_count", b"\xff", b"\0")],
)
def test_nothing_is_on_the_stack_of_interrupts_while_there_is_none(
    host: Host, flag: str, unused: bytes, used: bytes
) -> None:
    thing = host.thing()
    host.kernel.memory.write_word(host.section + 4 * PAGE_BYTES - 8, thing)
    offsets = {**LAYOUT_OF_STACKS.offsets}
    offsets[f"percpu.{flag}"] = offsets.pop("percpu.hardirq_stack_inuse")
    host.layout = dataclasses.replace(LAYOUT_OF_STACKS, offsets=offsets)
    for byte in (unused, used):
        host.kernel.memory.write(host.section + 320, byte)
        assert (thing in host.reached()) == (byte == used)


def test_what_the_census_leaves_on_its_own_stack_is_not_its_process(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = host.task(on_cpu=1)
    other, _ = host.task()
    monkeypatch.setattr(host.kernel.memory, "own_task", lambda: mine)
    heap = host.heap()
    stacks = Stacks(host.kernel.memory, LAYOUT_OF_STACKS, host.reading, heap)
    tasks = np.concatenate([tasks for _, tasks in stacks.words()]).tolist()
    assert tasks.count(other) == PAGES
    assert mine not in tasks


def test_pages_of_stacks_that_changed_hands_are_read_whole(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing = host.thing()
    task, pages = host.task()
    host.put(pages, 64, thing)
    heap = host.heap()
    stacks = Stacks(host.kernel.memory, LAYOUT_OF_STACKS, host.reading, heap)
    host.point(task, "task.stack_area", 0)
    words = np.concatenate([words for words, tasks in stacks.words() if not tasks.any()])
    assert thing in words


def test_without_stack_pointers_all_of_a_stack_is_live(host: Host) -> None:
    offsets = {name: at for name, at in LAYOUT_OF_STACKS.offsets.items() if name != "task.sp"}
    layout = dataclasses.replace(LAYOUT_OF_STACKS, offsets=offsets)
    heap = host.heap()
    assert not len(Stacks(host.kernel.memory, layout, host.reading, heap).pages)
