# SPDX-License-Identifier: Apache-2.0
"""What orphans are: rows of them by cache, and by what their words say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slabmon.base.arrays import I64
from slabmon.census.model import OrphanObjects, OwnedObjects
from slabmon.kernel.census import owners
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.orphans import Orphans
from slabmon.kernel.census.referrers import Pointers, Referrers
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.types import Types

_MOST_BYTES = 8 << 20  # of one cache's orphans that are looked into, at random


def rows(
    memory: Memory, orphans: Orphans, types: Types, aliases: Aliases, symbols: Symbols
) -> tuple[OrphanObjects, ...]:
    """Return rows of orphans, largest first."""
    if not len(orphans.numbers):
        return ()
    subjects = _subjects(memory, orphans)
    pointers = Referrers(
        named=Pointers(*np.zeros((4, 0), np.int64)), between=_between(subjects), share=1.0
    )
    owned = owners.subject_rows(
        memory, orphans.reading, subjects, pointers, types, aliases, symbols
    )
    return tuple(sorted(map(_row, owned), key=lambda row: (-row.bytes, row.cache, row.signature)))


def _row(owned: OwnedObjects) -> OrphanObjects:
    return OrphanObjects(
        cache=owned.cache,
        type=owned.type,
        module=owned.module,
        signature=owned.signature,
        objects=owned.objects,
        bytes=owned.bytes,
    )


def _subjects(memory: Memory, orphans: Orphans) -> Subjects:
    """Return orphans with their words; of many alike, random ones."""
    heap, caches = orphans.heap, orphans.reading.slabs.caches
    cache = heap.caches_of(orphans.numbers)
    chosen = np.sort(np.concatenate(list(_chosen(orphans, cache))))
    scale = np.bincount(cache, minlength=len(caches.name) + 1) / np.maximum(
        np.bincount(heap.caches_of(chosen), minlength=len(caches.name) + 1), 1
    )
    chosen = chosen[np.argsort(heap.addresses_of(chosen), kind="stable")]
    length = heap.lengths_of(chosen) // 8
    start = np.cumsum(length) - length
    words = np.zeros(int(length.sum()), np.uint64)
    filled = start.copy()
    order = np.argsort(chosen, kind="stable")
    for objects, piece in heap.contents(memory, chosen):
        places = order[np.searchsorted(chosen[order], objects)]
        words[filled[places][:, None] + np.arange(piece.shape[1])] = piece
        filled[places] += piece.shape[1]
    in_slab = chosen < orphans.reading.slabs.total
    return Subjects(
        address=heap.addresses_of(chosen),
        cache=heap.caches_of(chosen),
        slab=np.where(in_slab, heap.rows_of(chosen), NONE),
        start=start,
        length=length,
        words=words,
        units=heap.unit_bits(chosen),
        scale=tuple(scale.tolist()),
        share=len(chosen) / len(orphans.numbers),
    )


def _chosen(orphans: Orphans, cache: I64) -> Iterable[I64]:
    """Yield orphans of each cache: all, or as many as _MOST_BYTES hold."""
    random = np.random.default_rng(0)
    for number in np.unique(cache).tolist():
        alike = orphans.numbers[cache == number]
        most = max(_MOST_BYTES // int(orphans.heap.lengths_of(alike[:1])[0]), 1)
        yield alike if len(alike) <= most else random.choice(alike, most, replace=False)


def _between(subjects: Subjects) -> Pointers:
    """Return pointers from one orphan to another."""
    target, into = subjects.find(subjects.words & np.uint64(-8 % (1 << 64)))
    at = np.flatnonzero(target != NONE)
    source = np.searchsorted(subjects.start, at, side="right") - 1
    others = target[at] != source
    at, source = at[others], source[others]
    offset = (at - subjects.start[source]) * 8
    return Pointers(*np.stack([source, offset, target[at], into[at]]).astype(np.int32))
