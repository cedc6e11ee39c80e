# SPDX-License-Identifier: Apache-2.0
"""Which of several structs the objects of a merged cache are.

The kernel merges caches of like size (mm/slab_common.c: find_mergeable()), and their names say
which structs they hold. A struct is told from another by what must be true of its members: a
pointer is 0 or a kernel address, that of a function points to one, neighbours in a list point back,
and a pointer to the objects of a named cache is declared to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.contents import Subjects
from slabmon.kernel.census.members import NO_LINK, Slot, Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.slabs import NONE
from slabmon.kernel.census.symbols import Symbols

KERNEL = np.uint64(0xFF00 << 48)  # and above, with five levels of page tables too
_USER = np.uint64(1 << 56)  # below: addresses of processes, and per-CPU pointers of x86
_POISON = np.uint64(0xDEAD << 48)  # LIST_POISON1 and LIST_POISON2 (include/linux/poison.h)
PROOF, _DOUBT, _WRONG = 1, -2, -100
# Where the neighbour's pointer back lies that each member of a link has.
_BACK: Mapping[str, int] = {"next": 8, "pprev": 0, "rb_left": 0, "rb_right": 0}


class Judge:
    """Tells structs from each other. `cache_types` are the structs of named caches by their row."""

    def __init__(
        self,
        memory: Memory,
        subjects: Subjects,
        structs: Structs,
        read: Reading,
        symbols: Symbols,
        cache_types: Mapping[int, int],
    ) -> None:
        self._memory = memory
        self._subjects = subjects
        self._structs = structs
        self._read = read
        self._slabs = read.slabs
        self._symbols = symbols
        self._types = np.zeros(len(read.slabs.caches.name), np.int64)
        for cache, struct in cache_types.items():
            self._types[cache] = struct

    def choose(
        self, objects: I64, candidates: Sequence[int], least: int = PROOF, start: int = 0
    ) -> I64:
        """Return for each object the only candidate that is not proven wrong and best proven, by
        `least` members at least of those from the offset `start` on; 0 if there is none."""
        scores = np.stack([self._score(objects, struct, start) for struct in candidates])
        best = scores.argmax(axis=0)
        second = np.sort(scores, axis=0)[-2] if len(candidates) > 1 else least - 1
        sure = (scores.max(axis=0) >= least) & (scores.max(axis=0) > second)
        return np.where(sure, np.array(candidates)[best], 0)

    def _score(self, objects: I64, struct: int, start: int) -> I64:
        score = np.zeros(len(objects), np.int64)
        size = int(self._subjects.length[objects].min()) * 8
        tail = self._structs.tail(struct)
        size = size if tail is None else min(size, tail.start)
        for offset, slots in self._structs.slots(struct).items():
            if start <= offset < size and all(slot.pointer for slot in slots):
                score += self._judge(objects, struct, offset, slots)
        return score

    def _judge(self, objects: I64, struct: int, offset: int, slots: Sequence[Slot]) -> I64:
        """Judge one member by its values."""
        words = self._subjects.word(objects, offset)
        kernel = words >= KERNEL
        poison = (words & np.uint64(0xFFFF << 48)) == _POISON
        doubtful = (words != 0) & (words < _USER)
        known = kernel | (words == 0) | poison | doubtful
        result = np.where(known, np.where(doubtful, _DOUBT, 0), _WRONG)
        if len(slots) > 1:
            return result
        if slots[0].function:
            called = self._symbols.functions(words)
            return np.where(called, PROOF, np.where(kernel, _WRONG, result))
        if slots[0].link != NO_LINK:
            return result + self._judge_link(objects, slots[0], words, kernel)
        return result + self._judge_pointer(objects, struct, slots[0], words, kernel)

    def _judge_link(self, objects: I64, slot: Slot, words: U64, kernel: Bool) -> I64:
        """Of a list_head, next->prev is the link itself; of an hlist_node, *pprev; of a tree's
        node, a child's parent. Only memory and the kernel's image are looked at: see in_ram()."""
        name = slot.path.rpartition(".")[2]
        if name == "next" and not (slot.target and self._structs.name(slot.target) == "list_head"):
            return np.zeros(len(objects), np.int64)
        if name not in _BACK:
            return np.zeros(len(objects), np.int64)
        back = np.zeros(len(objects), np.uint64)
        seen = kernel & (self._read.in_ram(words) | self._symbols.in_image(words))
        back[seen] = self._memory.words(words[seen] + np.uint64(_BACK[name]))
        own = self._subjects.address[objects] + np.uint64(slot.link)
        mask = np.uint64(~3 % (1 << 64)) if name.startswith("rb_") else np.uint64(~0 % (1 << 64))
        return np.where(seen & (back & mask == own), PROOF, np.where(seen, _WRONG, 0))

    def _judge_pointer(
        self, objects: I64, struct: int, slot: Slot, words: U64, kernel: Bool
    ) -> I64:
        """A pointer to an object of a named cache is declared to point to what that holds, or to a
        part of it; one to its own struct points to an object of its own cache."""
        result = np.zeros(len(words), np.int64)
        if not slot.target:
            return result
        number = self._slabs.find(words)
        known = np.flatnonzero(kernel & (number != NONE))
        cache = self._slabs.cache[self._slabs.rows_of(number[known])]
        actual = self._types[cache]
        if slot.target == struct:
            actual = np.where(cache == self._subjects.cache[objects[0]], struct, NONE)
        size = self._structs.size(slot.target)
        fits = size <= self._slabs.caches.object_size[cache]
        wrong = ~fits | ((slot.target == struct) & (actual == NONE))
        result[known] = np.where(actual == slot.target, PROOF, np.where(wrong, _WRONG, 0))
        return result
