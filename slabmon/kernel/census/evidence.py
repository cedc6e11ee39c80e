# SPDX-License-Identifier: Apache-2.0
"""What is known of objects: labels, how much each says, and the objects it is of."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from slabmon.base.arrays import I32, I64, Values, distinct


class Strength(IntEnum):
    """How much evidence says, least first. One step outweighs a group ten times as frequent."""

    OWNER = 0  # pointed to by objects of a group
    CACHE = 1  # pointed to by objects of a cache
    COMMON = 2  # holds a function that all kinds of objects hold
    AREA = 2  # pointed to by memory that a function allocated with vmalloc
    LINK = 3  # in a list or tree with, or headed by, a member of a struct
    PART = 5  # contains a known struct
    MEMBER = 6  # pointed to by a member of a struct
    SYMBOL = 7  # holds a function, or a table of functions
    HOLDER = 11  # pointed to by a member of an object whose functions are known
    TYPE = 20  # of this struct


@dataclass(frozen=True)
class Label:
    """What evidence says, for people; the struct and module it names."""

    text: str
    strength: Strength
    struct: int = 0
    module: str | None = None


class Evidence:
    """Labels, and the objects that each is of."""

    def __init__(self) -> None:
        self.labels: list[Label] = []
        self._objects: list[list[I32]] = []
        self._numbers: dict[Label, int] = {}
        self._changed: set[int] = set()

    def add(self, label: Label, objects: I64) -> None:
        """Add what is known of these objects."""
        if not len(objects):
            return
        number = self._numbers.setdefault(label, len(self.labels))
        if number == len(self.labels):
            self.labels.append(label)
            self._objects.append([])
        self._objects[number].append(objects.astype(np.int32))
        self._changed.add(number)

    def changed(self) -> list[int]:
        """Return the labels, by number, to which objects were added since the last call."""
        changed = sorted(self._changed)
        self._changed.clear()
        return changed

    def objects(self, number: int) -> I64:
        """Return the objects that a label is of."""
        parts = self._objects[number]
        if len(parts) > 1:
            parts[:] = [distinct(np.concatenate(parts))]
        return parts[0].astype(np.int64)


def groups(keys: I64) -> list[tuple[int, I64]]:
    """Return each distinct key, and the rows that have it."""
    rows = in_order(keys)
    ordered = keys[rows]
    edges = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(keys)]
    return [
        (int(ordered[start]), rows[start:end])
        for start, end in itertools.pairwise(edges)
        if start < end
    ]


def in_order(keys: Values) -> I64:
    """Return the rows in order of their keys, equal ones as they are. Numbers with the row in their
    low bits are sorted several times as fast as rows are (np.argsort)."""
    bits = len(keys).bit_length()
    if not len(keys) or int(keys.min()) < 0 or int(keys.max()) >> 63 - bits:
        return np.argsort(keys, kind="stable")
    packed: I64 = keys.astype(np.int64) << bits | np.arange(len(keys))
    packed.sort()
    return packed & (1 << bits) - 1


def numbered(values: Values) -> tuple[Values, I64, I64]:
    """Return the distinct values, in order, the number of each value among them, and how often each
    occurs: np.unique() takes several times as long."""
    base = values.min() if len(values) else values
    rows = in_order(values - base)
    ordered = values[rows]
    first = np.concatenate([np.ones(min(len(values), 1), bool), ordered[1:] != ordered[:-1]])
    starts = np.flatnonzero(first)
    number = np.empty(len(values), np.int64)
    number[rows] = np.cumsum(first) - 1
    return ordered[starts], number, np.diff(starts, append=len(values))
