# SPDX-License-Identifier: Apache-2.0
"""Stacks of tasks, whose live part alone refers to anything: from the stack pointer on that the
task had when it was last switched out (thread.sp, thread.cpu_context.sp), which lies below all that
its functions have stored. What is left behind below it is dead.

That holds of a task that does not run while its stack is read: it is on no CPU before and
afterwards, and was not switched out in between. The whole stack of any other task is live. Nothing
is on a stack that a CPU keeps for the next task (cached_stacks, kernel/fork.c), and on that of its
interrupts while it handles none (hardirq_stack_inuse, arch/x86/include/asm/irq_stack.h; irq_count
up to 5.11).

The first task (swapper/0) has its stack where the variables of the kernel's image begin
(init_stack; RW_DATA(), include/asm-generic/vmlinux.lds.h), and no area of vmalloc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, Bool, contained, distinct
from slabmon.kernel.census import percpu
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import WINDOW_BYTES, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.stale import TASKS

NEEDED = (
    "task.nvcsw",
    "task.nivcsw",
    "task.on_cpu",
    "task.sp",
    "task.stack",
    "task.stack_area",
    "area.addr",
    "area.pages",
    "area.nr_pages",
)
_MOST_PAGES = 16  # of a stack: 64 KiB
_IRQ_PAGES = 4  # of the stack of interrupts (IRQ_STACK_SIZE, arch/x86)
_END = np.uint64(0x57AC6E9D)  # STACK_END_MAGIC (include/uapi/linux/magic.h)
# What says whether a CPU's stack of interrupts is in use, and its first byte if not.
_FLAGS = {"percpu.hardirq_stack_inuse": 0, "percpu.irq_count": 0xFF}
_CACHED = 2  # stacks that a CPU keeps (NR_CACHED_STACKS, kernel/fork.c)
_INT = np.uint64(0xFFFFFFFF)
_STEP = WINDOW_BYTES // PAGE_BYTES


@dataclass(frozen=True)
class _Stacks:
    """Stacks: the task of each, 0 if it is kept for the next one, the area of vmalloc that it is, 0
    if it is in the image, its address, and its pages."""

    task: U64
    area: U64
    stack: U64
    pages: I64  # (stacks, pages of the largest), page frames; 0 for none

    def rows(self, rows: I64) -> _Stacks:
        return _Stacks(self.task[rows], self.area[rows], self.stack[rows], self.pages[rows])

    def joined(self, other: _Stacks) -> _Stacks:
        """Return these and others, which have as many pages at most."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Stacks(*(np.concatenate(pair) for pair in pairs))


class Stacks:
    """The stacks of all tasks, as far as this kernel shows them; `pages` are their page frames."""

    def __init__(self, memory: Memory, layout: Layout, reading: Reading, heap: Heap) -> None:
        self._memory = memory
        self._layout = layout
        self._reading = reading
        self._tasks = self._cached = self._first = np.zeros(0, np.uint64)
        self.pages = np.zeros(0, np.int64)
        self._irq_pages = np.zeros((0, _IRQ_PAGES), np.int64)  # of each CPU
        self._irq_flags = np.zeros(0, np.uint64)  # where it is said whether they are in use
        self._unused = 0  # the first byte of the flag of one that is not
        if layout.has(*NEEDED):
            self._tasks = heap.addresses_of(tasks_of(reading, heap))
            self._first = self._find_first()
            self._find_of_cpus()
            pages = distinct(np.concatenate([self._find().pages, self._irq_pages], axis=None))
            self.pages = pages[pages != 0]

    def words(self) -> Iterator[tuple[U64, U64]]:
        """Yield the words of all these pages, (pages, words of a page), those of dead parts as 0,
        and the task, by its address, that each page is of; 0 where that has changed, for the first
        one, and for the one that takes the census, whose functions leave what they read."""
        if not len(self.pages):
            return
        stacks = self._find()
        step = max(_STEP // stacks.pages.shape[1], 1)
        for first in range(0, len(stacks.task), step):
            yield self._live(stacks.rows(np.arange(first, min(first + step, len(stacks.task)))))
        yield self._of_interrupts()
        known = np.concatenate([stacks.pages, self._irq_pages], axis=None)
        left = self.pages[~contained(self.pages, known)]
        for first in range(0, len(left), _STEP):
            pages = left[first : first + _STEP]
            yield self._read(pages), np.zeros(len(pages), np.uint64)

    def _find(self) -> _Stacks:
        cached = self._memory.words(self._cached)
        tasks = np.concatenate([self._tasks, np.zeros(len(cached), np.uint64)])
        areas = np.concatenate([self._words(self._tasks, "task.stack_area"), cached])
        known = self._reading.in_ram(areas)
        tasks, areas = tasks[known], areas[known]
        count = self._ints(areas, "area.nr_pages")
        stacks = self._words(areas, "area.addr")
        known = (count > 0) & (count <= _MOST_PAGES)
        known &= (tasks == 0) | (self._words(tasks, "task.stack") == stacks)
        tasks, areas, stacks = tasks[known], areas[known], stacks[known]
        count = count[known]
        width = max(int(count.max(initial=0)), 1)
        vectors = self._words(areas, "area.pages")
        structs = self._memory.gather(vectors, 8 * width).view(np.uint64)
        inside = np.arange(width) < count[:, None]
        pages, valid = self._page_frames(structs)
        whole = np.flatnonzero((valid | ~inside).all(axis=1))
        found = _Stacks(tasks, areas, stacks, np.where(inside, pages, 0)).rows(whole)
        return found.joined(self._of_first(width))

    def _find_first(self) -> U64:
        """Return the first task, which is in no slab: others have it as their parent."""
        if "task.parent" not in self._layout or not self._reading.data_page:
            return np.zeros(0, np.uint64)
        parents: U64 = distinct(self._words(self._tasks, "task.parent"))
        first: U64 = parents[(parents != 0) & ~self._reading.in_ram(parents)]
        return first

    def _of_first(self, count: int) -> _Stacks:
        """Return the stack, of so many pages, of the first task, if it is where it should be: both
        mappings show the same there, which is what ends all stacks."""
        first, stack = self._first, self._words(self._first, "task.stack")
        pages = np.full(len(first), self._reading.data_page)[:, None] + np.arange(count)
        mapped = np.uint64(self._reading.direct_map) + (pages[:, 0] * PAGE_BYTES).astype(np.uint64)
        there = (self._memory.words(mapped) == _END) & (self._memory.words(stack) == _END)
        return _Stacks(first, np.zeros_like(first), stack, pages).rows(np.flatnonzero(there))

    def _find_of_cpus(self) -> None:
        """Find where CPUs have the areas of stacks that they keep, and their stacks of interrupts,
        which are per-CPU memory."""
        layout = self._layout
        sections = percpu.find_variables(
            self._memory,
            layout,
            self._reading.slabs.caches,
            self._reading.cpu_offsets,
            self._reading.in_ram,
        )
        if "percpu.cached_stacks" in layout:
            first = sections[:, None] + np.uint64(layout["percpu.cached_stacks"])
            self._cached = (first + 8 * np.arange(_CACHED, dtype=np.uint64)).reshape(-1)
        flag = next((each for each in _FLAGS if each in layout), "")
        if flag and "percpu.irq_stack_backing_store" in layout:
            start = sections + np.uint64(layout["percpu.irq_stack_backing_store"])
            first_page = (start - np.uint64(self._reading.direct_map)).astype(
                np.int64
            ) // PAGE_BYTES
            self._irq_pages = first_page[:, None] + np.arange(_IRQ_PAGES)
            self._irq_flags = sections + np.uint64(layout[flag])
            self._unused = _FLAGS[flag]

    def _page_frames(self, structs: U64) -> tuple[I64, Bool]:
        """Return the page frames that struct pages describe, and which are such."""
        size = np.uint64(self._layout.sizes["page"])
        pages, rest = np.divmod(structs - np.uint64(self._reading.vmemmap), size)
        addresses = pages * np.uint64(PAGE_BYTES) + np.uint64(self._reading.direct_map)
        return pages.astype(np.int64), (rest == 0) & self._reading.in_ram(addresses)

    def _live(self, stacks: _Stacks) -> tuple[U64, U64]:
        """Return the words of these stacks' pages, those of dead parts as 0, and whose they are."""
        tasks = stacks.task
        # A task that runs after it was seen on no CPU is switched out, which is counted, before it
        # is seen on none again (__schedule(), kernel/sched/core.c).
        switches, asleep = self._switches(tasks), self._asleep(tasks)
        used = self._words(tasks, "task.sp") - stacks.stack
        row, column = np.nonzero(stacks.pages)
        words = self._read(stacks.pages[row, column])
        asleep &= self._asleep(tasks) & (self._switches(tasks) == switches)
        # A task that has ended has neither any more (release_task_stack(), kernel/fork.c).
        asleep &= self._words(tasks, "task.stack") == stacks.stack
        asleep &= self._words(tasks, "task.stack_area") == stacks.area
        largest = np.uint64(_MOST_PAGES * PAGE_BYTES)
        dead = np.where(asleep & (used <= largest), used, np.uint64(0))
        kept = (tasks == 0) & contained(stacks.area, self._memory.words(self._cached))
        dead = np.where(kept, largest, dead).astype(np.int64)[row]
        place = column[:, None] * PAGE_BYTES + 8 * np.arange(words.shape[1])
        words[place < dead[:, None]] = 0
        nobodys = (stacks.area == 0) | (tasks == np.uint64(self._memory.own_task()))
        return words, np.where(nobodys, np.uint64(0), tasks)[row]

    def _of_interrupts(self) -> tuple[U64, U64]:
        """Return what _live() does of the stacks of interrupts."""
        used = self._memory.gather(self._irq_flags, 1)[:, 0] != self._unused
        words = self._read(self._irq_pages.reshape(-1))
        used |= self._memory.gather(self._irq_flags, 1)[:, 0] != self._unused
        words[~np.repeat(used, _IRQ_PAGES)] = 0
        return words, np.zeros(len(words), np.uint64)

    def _asleep(self, tasks: U64) -> Bool:
        asleep: Bool = self._ints(tasks, "task.on_cpu") == 0
        return asleep

    def _switches(self, tasks: U64) -> U64:
        """Return how often each task was switched out: both numbers grow."""
        return self._words(tasks, "task.nvcsw") + self._words(tasks, "task.nivcsw")

    def _read(self, pages: I64) -> U64:
        where = np.uint64(self._reading.direct_map) + (pages * PAGE_BYTES).astype(np.uint64)
        return self._memory.gather(where, PAGE_BYTES).view(np.uint64)

    def _words(self, places: U64, member: str) -> U64:
        return self._memory.words(places + np.uint64(self._layout[member]))

    def _ints(self, places: U64, member: str) -> I64:
        return (self._words(places, member) & _INT).astype(np.int64)


def tasks_of(reading: Reading, heap: Heap) -> I64:
    """Return the numbers of all tasks. Their cache is merged with no other: it says which part of
    a task may be copied to a process (fork_init(), kernel/fork.c)."""
    slabs = reading.slabs
    hold_tasks = np.array([name == TASKS for name in slabs.caches.name], bool)
    numbers = np.flatnonzero(np.repeat(hold_tasks[slabs.cache], slabs.objects))
    tasks: I64 = numbers[heap.in_use[numbers]]
    return tasks
