# SPDX-License-Identifier: Apache-2.0
"""Words in objects that are no references.

The objects in a sheaf (struct slab_sheaf, mm/slub.c, 6.18+) are free, and addresses stay behind
them of objects that were taken from it. Registers of users have any values; in a program that
handles addresses of the kernel, as one that takes a census, they are addresses of objects.
"""

from __future__ import annotations

import sys

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.caches import Caches
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory

TASKS = "task_struct"  # a cache that is merged with no other
_SIMD_BYTES = 512  # vregs of struct user_fpsimd_state (arch/arm64/include/uapi/asm/ptrace.h)


class Registers:
    """Tells where tasks keep the vector registers of users while they are switched out."""

    def __init__(self, layout: Layout, caches: Caches) -> None:
        names = list(caches.name)
        self._tasks = names.index(TASKS) if TASKS in names else len(names)
        self._first, self._end = _registers(layout)

    def clear(self, words: U64, caches: I64, start: int) -> None:
        """Set registers to 0. `words` are rows of objects of these caches, from a byte on."""
        first, end = (max(at - start, 0) // 8 for at in (self._first, self._end))
        words[caches == self._tasks, first:end] = 0

    def hold(self, caches: I64, offsets: U64) -> Bool:
        """Return which words, at these offsets in objects of these caches, are registers."""
        inside = (offsets >= np.uint64(self._first)) & (offsets < np.uint64(self._end))
        held: Bool = inside & (caches == self._tasks)
        return held


def _registers(layout: Layout) -> tuple[int, int]:
    """Return where registers are in a task: [first, end). On x86-64 they end it: in struct fpu,
    from 6.16 on behind the task_struct (x86_task_fpu())."""
    if "task.fpu" in layout:
        return layout["task.fpu"], sys.maxsize
    if "fpu.regs" in layout and "task_struct" in layout.sizes:
        return layout.sizes["task_struct"] + layout["fpu.regs"], sys.maxsize
    if "task.simd" in layout:
        return layout["task.simd"], layout["task.simd"] + _SIMD_BYTES
    return 0, 0


class Sheaves:
    """Tells which objects are sheaves: they point to a cache that has some, and are of its size."""

    def __init__(self, layout: Layout, caches: Caches) -> None:
        used = caches.cpu_sheaves != 0
        exist = layout.has("sheaf.cache", "sheaf.objects") and bool(used.any())
        self._owner = layout["sheaf.cache"] if exist else 0
        self._first = layout["sheaf.objects"] if exist else 0
        self._caches = caches.address[used] if exist else np.zeros(0, np.uint64)
        self._needed = self._first + 8 * caches.sheaf_capacity[used]

    def clear(self, words: U64, length: int) -> None:
        """Set the words of sheaves to 0 from their first object on. `words` are rows of objects of
        `length` bytes, or the beginning of longer ones."""
        if len(self._caches) and length >= self._first:
            sheaves = self._are(words[:, self._owner // 8], np.int64(length))
            words[sheaves, self._first // 8 :] = 0

    def hold(self, memory: Memory, starts: U64, lengths: I64, offsets: U64) -> Bool:
        """Return which objects, of these lengths in bytes, are sheaves, and the word at this offset
        an object in it or one left behind."""
        held = np.zeros(len(starts), bool)
        if len(self._caches):
            behind = np.flatnonzero(offsets >= np.uint64(self._first))
            owners = memory.words(starts[behind] + np.uint64(self._owner))
            held[behind] = self._are(owners, lengths[behind])
        return held

    def _are(self, owners: U64, lengths: I64 | np.int64) -> Bool:
        number = np.minimum(np.searchsorted(self._caches, owners), len(self._caches) - 1)
        needed = self._needed[number]
        sheaves: Bool = (self._caches[number] == owners) & (needed <= lengths)
        sheaves &= lengths < 2 * needed
        return sheaves
