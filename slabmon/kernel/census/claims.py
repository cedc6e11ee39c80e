# SPDX-License-Identifier: Apache-2.0
"""What structs objects are, by weight of the evidence for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from enum import IntEnum

import numpy as np

from slabmon.base.arrays import I64, distinct


class Weight(IntEnum):
    """How much one kind of evidence for a struct counts. All kinds that an object has are added."""

    PLACE = 1  # the only struct of that size with such a member there
    LINK = 2  # linked as others of the struct are
    POINTER = 2  # a pointer in an object whose struct was found
    JUDGED = 2  # the only one of a few whose members fit
    CACHE = 4  # a pointer in an object whose cache says its struct
    FUNCTION = 4  # a function that only one member can hold
    KNOWN = 100  # what the slab allocator itself points to


class Claims:
    """Structs of `count` objects: `types` has 0 where none is known. An object that several are
    claimed of has that of the most weight; `contested` is how many such objects there are. Of a
    struct and one that begins with it, which `begins(one, struct)` says, both can be true: it is
    the one that begins with the other, and all weight is its."""

    def __init__(self, count: int, begins: Callable[[int, int], bool]) -> None:
        self._begins = begins
        self.types = np.zeros(count, np.int64)
        self.changes = 0  # of objects from one struct to another
        self._weight = np.zeros(count, np.int32)
        self._rivals: dict[int, dict[int, int]] = defaultdict(dict)

    @property
    def contested(self) -> int:
        """The number of objects that are claimed to be of several structs."""
        return len(self._rivals)

    def add(self, objects: I64, struct: int, weight: Weight) -> I64:
        """Claim that distinct objects are of a struct; return those that now are, or are of one
        that begins with it."""
        known = self.types[objects]
        same = (known == 0) | (known == struct)
        longer = np.zeros(len(objects), bool)  # of a struct that begins with this one
        for other in distinct(known[~same]).tolist():
            if self._begins(other, struct):
                longer |= known == other
            elif self._begins(struct, other):
                same |= known == other
        self.changes += int(np.count_nonzero(known[same] != struct) - (known == 0).sum())
        self.types[objects[same]] = struct
        agreed: I64 = objects[same | longer]
        self._weight[agreed] += weight
        others = objects[~same & ~longer].tolist()
        if not others:
            return agreed
        won = [each for each in others if self._outweighs(each, struct, weight)]
        return np.concatenate([agreed, np.array(won, np.int64)])

    def _outweighs(self, number: int, struct: int, weight: Weight) -> bool:
        """Add to what is said against an object's struct; change the struct if that is more."""
        rivals = self._rivals[number]
        rivals[struct] = rivals.get(struct, 0) + weight
        if rivals[struct] <= self._weight[number]:
            return False
        rivals[int(self.types[number])] = int(self._weight[number])
        self.types[number], self._weight[number] = struct, rivals.pop(struct)
        self.changes += 1
        return True
