# SPDX-License-Identifier: Apache-2.0
"""What members point to that can point to anything, such as `file.private_data`, by the table of
functions that the same object points to, such as `file.f_op`: it tells whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, distinct
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import Evidence, Label, Strength
from slabmon.kernel.census.members import NO_LINK, Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.symbols import Symbols

_PIECE = 1 << 16  # objects looked at at once
_TABLES = ("_operations", "_ops")
_NOT_THEIRS = ("[]", "_security")  # a security module's, whoever the object belongs to


class _Member(NamedTuple):
    """A member that can point to anything, beside one that points to a table of functions."""

    path: str
    offset: int
    ops: int


class _Followed(NamedTuple):
    """Subjects that one member points to, each with the address of the table beside it."""

    path: str
    target: I64
    table: U64


def _members(structs: Structs, struct: int) -> list[_Member]:
    tables, others = [], []
    for offset, slots in structs.slots(struct).items():
        for slot in slots:
            if (
                not slot.pointer
                or slot.function
                or slot.link != NO_LINK
                or slot.path.count(".") > 1
            ):
                continue
            if slot.target and structs.name(slot.target).endswith(_TABLES):
                tables.append(offset)
            elif not slot.target and not slot.path.endswith(_NOT_THEIRS):
                others.append((slot.path, offset))
    return [_Member(path, offset, tables[0]) for path, offset in others] if tables else []


def follow(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    types: I64,
    named: Pointers,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
    evidence: Evidence,
) -> None:
    """Name what such members point to, in objects of named caches and in subjects, whose structs
    are `types`."""
    used = _used(named)
    followed: list[_Followed] = []
    for cache, struct in caches.types.items():
        members = [each for each in _members(structs, struct) if (cache, each.offset) in used]
        if members:
            addresses = read.objects_in_use(cache)
            followed += _follow(memory, subjects, members, addresses)
    for struct in np.unique(types[types != 0]).tolist():
        members = _members(structs, struct)
        if members:
            addresses = subjects.address[types == struct]
            followed += _follow(memory, subjects, members, addresses)
    tables = distinct(np.concatenate([np.zeros(0, np.uint64), *(each.table for each in followed)]))
    known = symbols.look_up(memory, tables)
    for path, target, table in followed:
        for address in distinct(table).tolist():
            symbol = known.get(address)
            if symbol is not None:
                text = f"pointed to by {path} with {symbol.label}"
                label = Label(text, Strength.HOLDER, module=symbol.module)
                evidence.add(label, distinct(target[table == address]))


def _used(named: Pointers) -> set[tuple[int, int]]:
    """Return the words of caches' objects that point to the start of a subject."""
    starts = np.flatnonzero(named.into == 0)
    rows = named.rows(starts)
    keys = np.unique(rows.source << 32 | rows.offset)
    return {(key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()}


def _follow(
    memory: Memory, subjects: Subjects, members: Sequence[_Member], addresses: U64
) -> Iterator[_Followed]:
    """Yield what members of these objects point to, and the tables beside it."""
    for member in members:
        for part in np.split(addresses, range(_PIECE, len(addresses), _PIECE)):
            target, into = subjects.find(memory.words(part + np.uint64(member.offset)))
            starts = (target != NONE) & (into == 0)
            table = memory.words(part[starts] + np.uint64(member.ops))
            yield _Followed(member.path, target[starts], table)
