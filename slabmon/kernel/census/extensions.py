# SPDX-License-Identifier: Apache-2.0
"""Object extensions: what the kernel keeps beside an object, which its slab leads to
(struct slabobj_ext, mm/slab.h): the memory cgroup it is charged to, the tag of its call site."""

from __future__ import annotations

from collections import Counter

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.census.memory import GATHER_BYTES, Memory
from slabmon.kernel.census.reading import Reading

_CHUNK = 1 << 18  # objects whose extensions are read at once


def count_words(
    memory: Memory, read: Reading, rows: I64, member: I64, mask: np.uint64
) -> Counter[tuple[int, int]]:
    """Count the objects in use of these slabs by the word at `member` of their extension, as far as
    `mask` lets it through, and by their cache's row; those whose word is 0 are left out. `member`
    is an offset in bytes for each slab."""
    slabs = read.slabs
    totals: Counter[tuple[int, int]] = Counter()
    shapes = slabs.objects[rows] << 40 | slabs.stride[rows] << 8 | member
    for shape in np.unique(shapes).tolist():
        alike = rows[shapes == shape]
        objects, stride, offset = shape >> 40, shape >> 8 & 0xFFFFFFFF, shape & 0xFF
        places = np.arange(objects)
        for part in np.split(alike, range(_CHUNK // objects, len(alike), _CHUNK // objects)):
            words = _words(memory, slabs.exts[part] + np.uint64(offset), objects, stride) & mask
            words[read.free[slabs.first[part][:, None] + places]] = 0
            caches = np.repeat(slabs.cache[part], objects)
            totals.update(_counts(words.ravel(), caches))
    return totals


def _words(memory: Memory, starts: U64, objects: int, stride: int) -> U64:
    """Return the words of each slab's objects, (starts, objects), the first of them at its start.
    A vector is read in one piece, extensions that lie in their objects one by one."""
    span = stride * (objects - 1) + 8
    if span <= GATHER_BYTES:
        return memory.gather(starts, span).view(np.uint64)[:, :: stride // 8]
    places = np.arange(objects, dtype=np.uint64) * np.uint64(stride)
    return memory.words((starts[:, None] + places).ravel()).reshape(-1, objects)


def _counts(words: U64, caches: I64) -> dict[tuple[int, int], int]:
    """Count equal pairs of a word that is not 0 and a cache. Most objects in a row share both, and
    sorting is what takes long: runs of equal pairs are counted first."""
    words, caches = words[words != 0], caches[words != 0]
    differs = (words[1:] != words[:-1]) | (caches[1:] != caches[:-1])
    starts = np.concatenate([np.zeros(min(len(words), 1), int), np.flatnonzero(differs) + 1])
    lengths = np.diff(starts, append=len(words))
    values, number = np.unique(words[starts], return_inverse=True)
    width = int(caches.max(initial=0)) + 1
    totals = np.bincount(number * width + caches[starts], weights=lengths).astype(np.int64)
    return {
        (int(values[pair // width]), pair % width): int(totals[pair])
        for pair in np.flatnonzero(totals).tolist()
    }
