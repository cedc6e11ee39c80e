# SPDX-License-Identifier: Apache-2.0
"""Object extensions: what the kernel keeps beside an object, which its slab leads to
(struct slabobj_ext, mm/slab.h): the memory cgroup it is charged to, the tag of its call site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading

_CHUNK = 1 << 20  # objects whose extensions are read at once


def count_words(
    memory: Memory, read: Reading, rows: I64, member: I64, mask: np.uint64
) -> Counter[tuple[int, int]]:
    """Count the objects in use of these slabs by the word at `member` of their extension, as far as
    `mask` lets it through, and by their cache's row; those whose word is 0 are left out. `member`
    is an offset in bytes for each slab."""
    totals: Counter[tuple[int, int]] = Counter()
    for part in _chunks(read.slabs.objects[rows]):
        totals.update(_counts(*_words(memory, read, rows[part], member[part], mask)))
    return totals


def _chunks(objects: I64) -> Iterator[slice]:
    edges = np.flatnonzero(np.diff(np.cumsum(objects) // _CHUNK)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(objects)], strict=True):
        yield slice(start, end)


def _words(
    memory: Memory, read: Reading, rows: I64, member: I64, mask: np.uint64
) -> tuple[U64, I64]:
    """Return the word and the cache of each object in use that has one."""
    slabs = read.slabs
    row, place = slabs.objects_of(rows)
    used = ~read.free[slabs.first[row] + place]
    offset = place * slabs.stride[row] + np.repeat(member, slabs.objects[rows])
    row, offset = row[used], offset[used]
    words = memory.words(slabs.exts[row] + offset.astype(np.uint64)) & mask
    return words[words != 0], slabs.cache[row][words != 0]


def _counts(words: U64, caches: I64) -> dict[tuple[int, int], int]:
    """Count equal pairs. Most objects in a row share both, and sorting is what takes long: runs of
    equal pairs are counted first."""
    differs = (words[1:] != words[:-1]) | (caches[1:] != caches[:-1])
    starts = np.concatenate([np.zeros(min(len(words), 1), int), np.flatnonzero(differs) + 1])
    lengths = np.diff(starts, append=len(words))
    values, number = np.unique(words[starts], return_inverse=True)
    most = int(caches.max(initial=0)) + 1
    totals = np.bincount(number * most + caches[starts], weights=lengths).astype(np.int64)
    return {
        (int(values[pair // most]), pair % most): int(totals[pair])
        for pair in np.flatnonzero(totals).tolist()
    }
