# SPDX-License-Identifier: Apache-2.0
"""Pointers to subjects, wherever they lie in slabs: which cache's objects, or which other subject,
point to a subject, from what offset to what offset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I32, I64, U64, Values, distinct
from slabmon.kernel.census.contents import (
    NONE,
    UNIT,
    UNIT_WORDS,
    UNITS_PER_PAGE,
    Subjects,
    unit_addresses,
    units_of,
)
from slabmon.kernel.census.evidence import in_order
from slabmon.kernel.census.memory import WINDOW_BYTES, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading

Progress = Callable[[float], object]

_PIECE = WINDOW_BYTES // UNIT  # units read at once: a window full


# Bits of a packed row; the rest is the number of a cache or subject. Offsets count words.
_INTO_BITS, _TARGET_BITS, _OFFSET_BITS = 14, 26, 12
_FLUSH = 1 << 19  # rows after which equal ones are joined


@dataclass(frozen=True)
class Pointers:
    """Pointers to subjects, one row each, offsets in bytes. `source` is the row of the cache whose
    objects hold it, or, in `between`, which is in order of it, the subject that does."""

    source: Values
    offset: Values  # in the object that holds it
    target: Values
    into: Values  # offset in the subject pointed to; that of large blocks is cut off

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, chosen: I64) -> Pointers:
        """Return these rows, as 64-bit numbers."""
        columns = (self.source, self.offset, self.target, self.into)
        return Pointers(*(column[chosen].astype(np.int64) for column in columns))


@dataclass(frozen=True)
class Referrers:
    """Pointers to subjects, in objects of named caches, equal ones as one, and in other subjects.
    `share` of all slabs were read."""

    named: Pointers
    between: Pointers
    share: float


def find(
    memory: Memory, reading: Reading, subjects: Subjects, deadline: float, progress: Progress
) -> Referrers:
    """Read all slabs, in random order, until this process has used so much CPU time, and return the
    pointers to subjects in objects in use. Report the share of pages read."""
    slabs = reading.slabs
    units, block = units_of(slabs.pfn, slabs.pages)
    places = _Places(reading, subjects)
    named: list[U64] = [np.zeros(0, np.uint64)]
    between: list[I32] = [np.zeros((4, 0), np.int32)]
    waiting = read = 0
    for words, piece in _pieces(memory, reading.direct_map, units):
        at, target, into = _targets(words, reading, subjects)
        unit, word = piece.start + at // UNIT_WORDS, at % UNIT_WORDS
        row = block[unit]
        byte = (units[unit] - slabs.pfn[row] * UNITS_PER_PAGE) * UNIT + word * 8
        found, source = _sources(reading, places, row, byte, target, into)
        named.append(_packed(found[:, source == NONE]))
        between.append(_between(found, source))
        read += piece.stop - piece.start
        progress(read / len(units))
        if time.process_time() > deadline:
            break
        waiting += len(named[-1])
        if waiting > _FLUSH:
            named, waiting = [_distinct(np.concatenate(named))], 0
    joined = np.concatenate(between, axis=1)
    del between
    order = in_order(joined[0])
    for column in joined:
        column[:] = column[order]
    return Referrers(
        named=_unpacked(_distinct(np.concatenate(named))),
        between=Pointers(*joined),
        share=read / max(len(units), 1),
    )


def in_pages(
    memory: Memory, reading: Reading, subjects: Subjects, units: U64
) -> tuple[U64, I64, I64]:
    """Return the pointers to subjects in units of memory at these addresses: where each lies, the
    subject, and the offset in it."""
    places, targets = [np.zeros(0, np.uint64)], [np.zeros((2, 0), np.int64)]
    for start in range(0, len(units), _PIECE):
        part = units[start : start + _PIECE]
        words = memory.gather(part, UNIT).view(np.uint64).reshape(-1)
        at, target, into = _targets(words, reading, subjects)
        places.append(part[at // UNIT_WORDS] + (at % UNIT_WORDS * 8).astype(np.uint64))
        targets.append(np.stack([target, into]))
    return np.concatenate(places), *np.concatenate(targets, axis=1)


def _pieces(memory: Memory, direct_map: int, units: I64) -> Iterator[tuple[U64, slice]]:
    for piece in np.random.default_rng(0).permutation(-(-len(units) // _PIECE)).tolist():
        part = slice(piece * _PIECE, min((piece + 1) * _PIECE, len(units)))
        addresses = unit_addresses(direct_map, units[part])
        yield memory.view(addresses, UNIT).view(np.uint64).reshape(-1), part


def _targets(words: U64, reading: Reading, subjects: Subjects) -> tuple[I64, I64, I64]:
    """Return the places of words that point to a subject, the subjects, and the offsets in them.
    Low bits of a pointer can be flags."""
    end = max(pages.end for pages in reading.ranges)
    relative = words - np.uint64(reading.direct_map)
    at = np.flatnonzero(relative < np.uint64(end * PAGE_BYTES))
    at = at[subjects.holds((relative.take(at) // np.uint64(UNIT)).view(np.int64))]
    target, into = subjects.find(words[at] & np.uint64(-8 % (1 << 64)))
    if (target == NONE).any():
        inside = target != NONE
        at, target, into = at[inside], target[inside], into[inside]
    return at, target, into


class _Places:
    """Subjects by their place in slabs."""

    def __init__(self, reading: Reading, subjects: Subjects) -> None:
        slabs, caches = reading.slabs, reading.slabs.caches
        numbers = np.flatnonzero(subjects.slab != NONE)
        row = subjects.slab[numbers]
        rows = distinct(row)
        counts = slabs.objects[rows]
        self._first = np.full(len(slabs), NONE)
        self._first[rows] = np.cumsum(counts) - counts
        cache = slabs.cache[row]
        byte = (subjects.address[numbers] - slabs.address[row]).astype(np.int64)
        place = (byte - caches.red_left_pad[cache]) // caches.size[cache]
        self._number = np.full(counts.sum(), NONE, np.int32)
        self._number[self._first[row] + place] = numbers

    def subjects(self, row: I64, place: I64) -> I64:
        """Return the subject at each place of a slab, NONE if there is none."""
        first = self._first.take(row)
        known = np.flatnonzero(first != NONE)
        subject = np.full(len(row), NONE)
        subject[known] = self._number.take(first.take(known) + place.take(known))
        return subject


def _sources(
    reading: Reading, places: _Places, row: I64, byte: I64, target: I64, into: I64
) -> tuple[I64, I64]:
    """Return cache, offset, target and offset in it, (4, pointers), of those that lie in objects in
    use, and the subject each lies in. `byte` is the place in the slab."""
    slabs = reading.slabs
    caches = slabs.caches
    cache = slabs.cache[row]
    byte = byte - caches.red_left_pad[cache]
    size = caches.size[cache]
    place = byte // size
    offset = byte - place * size
    inside = (byte >= 0) & (place < slabs.objects[row]) & (offset < caches.object_size[cache])
    inside &= ~reading.free.take(slabs.first[row] + place, mode="clip")
    valid = np.flatnonzero(inside)
    table = np.stack([column.take(valid) for column in (cache, offset, target, into)])
    return table, places.subjects(row.take(valid), place.take(valid))


def _between(found: I64, source: I64) -> I32:
    """Return pointers from one subject to another, (4, pointers)."""
    apart = (source != NONE) & (source != found[2])
    return np.stack([source, *found[1:]])[:, apart].astype(np.int32)


def _packed(found: I64) -> U64:
    cache, offset, target, into = found
    into = np.minimum(into // 8, (1 << _INTO_BITS) - 1)
    row = cache << _OFFSET_BITS | np.minimum(offset // 8, (1 << _OFFSET_BITS) - 1)
    packed: I64 = (row << _TARGET_BITS | target) << _INTO_BITS | into
    return packed.astype(np.uint64)


def _unpacked(rows: U64) -> Pointers:
    words = rows.view(np.int64)
    into = words & (1 << _INTO_BITS) - 1
    target = words >> _INTO_BITS & (1 << _TARGET_BITS) - 1
    row = words >> _INTO_BITS + _TARGET_BITS & (1 << 64 - _INTO_BITS - _TARGET_BITS) - 1
    offset = row & (1 << _OFFSET_BITS) - 1
    return Pointers(source=row >> _OFFSET_BITS, offset=offset * 8, target=target, into=into * 8)


def _distinct(rows: U64) -> U64:
    """Return the distinct values, in order: np.unique() takes several times the memory."""
    rows.sort()
    first = np.concatenate([np.ones(min(len(rows), 1), bool), rows[1:] != rows[:-1]])
    distinct: U64 = rows[first]
    return distinct
