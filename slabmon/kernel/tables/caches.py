# SPDX-License-Identifier: Apache-2.0
"""Which cache is which. A cache is one struct kmem_cache, told by address and generation; names
repeat, and addresses are used again after a cache is destroyed."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from slabmon.base.escape import escape
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.model import LARGE_CACHE, UNRESOLVED_CACHE

LARGE, UNKNOWN = CONSTANTS["CACHE_LARGE"], CONSTANTS["CACHE_UNKNOWN"]
_GENERATION_MASK = CONSTANTS["CACHE_GENERATION_MASK"]
_GENERATIONS = CONSTANTS["CACHE_GENERATIONS"]
_LARGEST_BUCKET = 2 * mmap.PAGESIZE  # KMALLOC_MAX_CACHE_SIZE (include/linux/slab.h)
_GOLDEN_RATIO = 0x9E3779B97F4A7C15

# Before 6.10 (include/linux/slab.h); later kernels number them in enum _slab_flag_bits.
SLAB_FLAGS = {"RECLAIM_ACCOUNT": 0x20000, "ACCOUNT": 0x4000000, "CACHE_DMA": 0x4000}


@dataclass(frozen=True)
class Identity:
    """One row of the caches view. `size` is what an object occupies, both in bytes."""

    name: str
    kernel_name: str
    object_size: int
    size: int
    reclaimable: bool
    accounted: bool
    dma: bool


class CacheDirectory:
    """Identities by cache key, kept for the whole session so that names never move."""

    def __init__(self, flag_masks: Mapping[str, int]) -> None:
        self._masks = {**SLAB_FLAGS, **flag_masks}
        large = Identity(LARGE_CACHE, LARGE_CACHE, 0, 0, False, False, False)
        unknown = Identity(UNRESOLVED_CACHE, UNRESOLVED_CACHE, 0, 0, False, False, False)
        self._by_key: dict[int, Identity] = {LARGE: large, UNKNOWN: unknown}
        self._holders: dict[str, dict[int, int]] = {}
        self._names = {LARGE_CACHE, UNRESOLVED_CACHE}

    def update(self, keys: np.ndarray, records: np.ndarray, generations: np.ndarray) -> bool:
        """Takes in the kernel's cache table; True when it had news.

        A second cache of one name becomes `name#2`, unless the first is destroyed: then it
        follows it under the same name.
        """
        news = False
        for key, record in zip(keys.tolist(), records, strict=True):
            if key not in self._by_key:
                self._by_key[key] = self._identify(key, record, generations)
                news = True
        return news

    def _identify(self, key: int, record: np.void, generations: np.ndarray) -> Identity:
        kernel_name = escape(record["name"])
        holders = self._holders.setdefault(kernel_name, {})
        address = key & ~_GENERATION_MASK
        if address in holders:
            name = self._by_key[holders.pop(address)].name
        else:
            gone = [a for a, k in holders.items() if self._destroyed(k, generations)]
            name = self._by_key[holders.pop(gone[0])].name if gone else self._unused(kernel_name)
        holders[address] = key
        self._names.add(name)
        return self._identity(name, record)

    def _identity(self, name: str, record: np.void) -> Identity:
        flags = int(record["flags"])
        return Identity(
            name,
            escape(record["name"]),
            int(record["object_size"]),
            int(record["size"]),
            bool(flags & self._masks["RECLAIM_ACCOUNT"]),
            bool(flags & self._masks["ACCOUNT"]),
            bool(flags & self._masks["CACHE_DMA"]),
        )

    def _unused(self, kernel_name: str) -> str:
        """The name, with the first free number behind it where it is taken."""
        name, number = kernel_name, 1
        while name in self._names:
            number += 1
            name = f"{kernel_name}#{number}"
        return name

    def _destroyed(self, key: int, generations: np.ndarray) -> bool:
        """Whether this cache is gone: the generation of its address moved on, and what is there
        now, as far as it was seen, is called otherwise."""
        address = key & ~_GENERATION_MASK
        slot = (address * _GOLDEN_RATIO & (1 << 64) - 1) >> 40 & _GENERATIONS - 1
        current = address | int(generations[slot]) & _GENERATION_MASK
        there = self._by_key.get(current)
        return current != key and (
            there is None or there.kernel_name != self._by_key[key].kernel_name
        )

    def names(self) -> list[tuple[int, str, bool]]:
        """Key, name and whether it holds its kernel name now, of every cache in order of sight."""
        holding = {key for holders in self._holders.values() for key in holders.values()}
        return [
            (key, cache.name, key in holding)
            for key, cache in self._by_key.items()
            if key not in (LARGE, UNKNOWN)
        ]

    def recall(
        self, names: Iterable[tuple[int, str, bool]], keys: np.ndarray, records: np.ndarray
    ) -> None:
        """Gives caches of the kernel's table the names an earlier process gave them."""
        record_of = dict(zip(keys.tolist(), records, strict=True))
        for key, name, holds in names:
            if key not in record_of:
                continue
            self._by_key[key] = cache = self._identity(name, record_of[key])
            self._names.add(name)
            if holds:
                address = key & ~_GENERATION_MASK
                self._holders.setdefault(cache.kernel_name, {})[address] = key

    def get(self, key: int) -> Identity:
        """The cache of a key; UNRESOLVED where it was never introduced."""
        return self._by_key.get(key) or self._by_key[UNKNOWN]

    def of_failed_kmalloc(
        self, size: int, reclaimable: bool, accounted: bool, dma: bool
    ) -> Identity:
        """The cache a failed request of this bucket size went to: known only where one kmalloc
        cache of that size and kind was seen. Priority as in kmalloc_type(): DMA, reclaimable,
        accounted."""
        wanted = (dma, reclaimable and not dma, accounted and not dma and not reclaimable)
        if size > _LARGEST_BUCKET:
            return self._by_key[LARGE]
        found = {
            identity.name: identity
            for identity in self._by_key.values()
            if identity.size == size
            and "kmalloc" in identity.kernel_name
            and (identity.dma, identity.reclaimable, identity.accounted) == wanted
        }
        return next(iter(found.values())) if len(found) == 1 else self._by_key[UNKNOWN]
