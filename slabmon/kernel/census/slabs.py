# SPDX-License-Identifier: Apache-2.0
"""Slabs and their objects. An object is known by its slab's row and its place in the slab, or by
one number: the objects of all slabs are numbered through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census import caches as cache_rows
from slabmon.kernel.census.caches import Caches
from slabmon.kernel.census.memory_map import PAGE_BYTES, find_direct_map
from slabmon.kernel.census.pages import IN_OBJECT, SlabPages

NONE = -1


@dataclass(frozen=True, kw_only=True)
class Slabs:
    """One row for each slab, in order of addresses."""

    caches: Caches
    cache: I64  # row of `caches`
    pfn: I64
    pages: I64
    address: U64  # of its memory
    freelist: U64  # address of its first free object; 0: none
    inuse: I64  # as the kernel counts: free objects of CPUs and sheaves are in use
    objects: I64
    exts: U64  # address of its first object's extension; 0: none
    stride: I64  # bytes from one object's extension to the next one's
    charged: Bool  # whether extensions name a memory cgroup
    first: I64  # number of its first object; one more entry holds the number of all (slabs + 1)

    def __len__(self) -> int:
        return len(self.pfn)

    @property
    def total(self) -> int:
        """The number of all objects."""
        return int(self.first[-1])

    def find(self, addresses: U64) -> I64:
        """Return the number of the object that each address lies in; NONE if in no slab's."""
        row = np.searchsorted(self.address, addresses, side="right") - 1
        if not len(self):
            return np.full(len(addresses), NONE)
        row = np.maximum(row, 0)
        offset = (addresses - self.address[row]).astype(np.int64)
        index = offset // self.caches.size[self.cache[row]]
        inside = (addresses >= self.address[row]) & (index < self.objects[row])
        return np.where(inside, self.first[row] + index, NONE)

    def row_of_page(self, pfns: I64) -> I64:
        """Return the row of the slab whose first page this is; NONE if it is not one's."""
        row = np.searchsorted(self.pfn, pfns)
        row = np.minimum(row, max(len(self) - 1, 0))
        return np.where(self.pfn[row] == pfns, row, NONE) if len(self) else np.full(len(pfns), NONE)

    def objects_of(self, rows: I64) -> tuple[I64, I64]:
        """Return the slab's row, and the place in it, of every object of these slabs."""
        counts = self.objects[rows]
        starts = np.cumsum(counts) - counts
        return np.repeat(rows, counts), np.arange(counts.sum()) - np.repeat(starts, counts)

    def rows_of(self, numbers: I64) -> I64:
        """Return the slab's row of each object."""
        return np.searchsorted(self.first, numbers, side="right") - 1


def assemble(pages: SlabPages, caches: Caches) -> tuple[Slabs, int]:
    """Return the slabs, and where page frame 0 is mapped. Pages that look like a slab and are not,
    freed while they were read or lent by KFENCE, are left out."""
    cache = np.searchsorted(caches.address, pages.cache)
    cache = np.minimum(cache, len(caches.address) - 1)
    order, valid = cache_rows.orders(caches, cache, pages.objects)
    valid &= (caches.address[cache] == pages.cache) & (pages.inuse <= pages.objects)
    one_page = valid & (order == 0)
    direct_map = find_direct_map(pages.pfn[one_page], pages.freelist[one_page])
    return _slabs(pages, caches, cache, order, valid, direct_map), direct_map


def _slabs(
    pages: SlabPages, caches: Caches, cache: I64, order: I64, valid: Bool, direct_map: int
) -> Slabs:
    pfn, objects, stride = pages.pfn[valid], pages.objects[valid], pages.stride[valid]
    return Slabs(
        caches=caches,
        cache=cache[valid],
        pfn=pfn,
        pages=1 << order[valid],
        address=np.uint64(direct_map) + pfn.astype(np.uint64) * np.uint64(PAGE_BYTES),
        freelist=pages.freelist[valid],
        inuse=pages.inuse[valid],
        objects=objects,
        exts=pages.exts[valid],
        charged=pages.charged[valid],
        stride=np.where(stride == IN_OBJECT, caches.size[cache[valid]], stride),
        first=np.concatenate([[0], np.cumsum(objects)]),
    )
