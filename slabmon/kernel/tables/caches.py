# SPDX-License-Identifier: Apache-2.0
"""Identity of slab caches.

A cache is one struct kmem_cache, identified by address and generation: names repeat, and addresses
are reused after a cache is destroyed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import U8, U64, Records
from slabmon.base.escape import escape
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.bpf.names import GOLDEN_RATIO
from slabmon.kernel.probe.slabinfo import SLAB_FLAGS
from slabmon.model import LARGE_CACHE, UNRESOLVED_CACHE

LARGE, UNKNOWN = CONSTANTS["CACHE_LARGE"], CONSTANTS["CACHE_UNKNOWN"]
_GENERATION_MASK = CONSTANTS["CACHE_GENERATION_MASK"]
_GENERATIONS = CONSTANTS["CACHE_GENERATIONS"]
_LARGEST_KMALLOC_CACHE = 2 * mmap.PAGESIZE  # KMALLOC_MAX_CACHE_SIZE (include/linux/slab.h)
# What kmalloc() takes from, caches of some callers alone included (CONFIG_SLAB_BUCKETS, 6.11+).
_KMALLOC_NAMES = re.compile(r"kmalloc|^(?:msg_msg|memdup_user)-\d")
_MOST_BYTES = (1 << 32) - 1  # stands for more (bpf/counting.h)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One row of the caches view: `kernel_name`, with a number behind it if that is taken.

    `object_size` is the size of an object, `size` the memory it occupies, both in bytes.
    """

    name: str
    kernel_name: str
    object_size: int = 0
    size: int = 0
    reclaimable: bool = False
    accounted: bool = False
    dma: bool = False


class CacheDirectory:
    """Identities by cache key, kept for the whole session so that rows keep their names."""

    def __init__(self, flag_masks: Mapping[str, int]) -> None:
        """Take the masks of slab flags that this kernel's BTF names, over those of SLAB_FLAGS."""
        self._masks = {**SLAB_FLAGS, **flag_masks}
        large = Identity(name=LARGE_CACHE, kernel_name=LARGE_CACHE)
        unknown = Identity(name=UNRESOLVED_CACHE, kernel_name=UNRESOLVED_CACHE)
        self._by_key: dict[int, Identity] = {LARGE: large, UNKNOWN: unknown}
        self._holders: dict[str, dict[int, int]] = {}
        self._names = {LARGE_CACHE, UNRESOLVED_CACHE}
        self._latest = {LARGE_CACHE: large, UNRESOLVED_CACHE: unknown}

    def update(self, keys: U64, records: Records, generations: U8) -> bool:
        """Add new entries of the kernel's cache table. Return whether there were any.

        `generations` are the kernel's counters by hash of the address. A second cache of one name
        becomes `name#2`, unless the first is destroyed: then it takes over the name.
        """
        news = False
        for key, record in zip(keys.tolist(), records, strict=True):
            if key not in self._by_key:
                self._by_key[key] = identity = self._identify(key, record, generations)
                self._latest[identity.name] = identity
                news = True
        return news

    def _identify(self, key: int, record: np.void, generations: U8) -> Identity:
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
            name=name,
            kernel_name=escape(record["name"]),
            object_size=int(record["object_size"]),
            size=int(record["size"]),
            reclaimable=bool(flags & self._masks["RECLAIM_ACCOUNT"]),
            accounted=bool(flags & self._masks["ACCOUNT"]),
            dma=bool(flags & self._masks["CACHE_DMA"]),
        )

    def _unused(self, kernel_name: str) -> str:
        """Return the name, with the first free number behind it if it is taken."""
        name, number = kernel_name, 1
        while name in self._names:
            number += 1
            name = f"{kernel_name}#{number}"
        return name

    def _destroyed(self, key: int, generations: U8) -> bool:
        """Return whether this cache is gone.

        The generation of its address has advanced, and no cache of its name was seen there since.
        """
        address = key & ~_GENERATION_MASK
        slot = (address * GOLDEN_RATIO & (1 << 64) - 1) >> 40 & _GENERATIONS - 1
        current = address | int(generations[slot]) & _GENERATION_MASK
        successor = self._by_key.get(current)
        return current != key and (
            successor is None or successor.kernel_name != self._by_key[key].kernel_name
        )

    def names(self) -> list[tuple[int, str, bool]]:
        """Return (key, name, whether it holds its kernel name now) of each cache, oldest first."""
        holding = {key for holders in self._holders.values() for key in holders.values()}
        return [
            (key, cache.name, key in holding)
            for key, cache in self._by_key.items()
            if key not in (LARGE, UNKNOWN)
        ]

    def restore(self, names: Iterable[tuple[int, str, bool]], keys: U64, records: Records) -> None:
        """Give the caches of the kernel's table the names() of an earlier process."""
        record_of = dict(zip(keys.tolist(), records, strict=True))
        for key, name, holds in names:
            if key not in record_of:
                continue
            self._by_key[key] = cache = self._identity(name, record_of[key])
            self._names.add(name)
            self._latest[name] = cache
            if holds:
                address = key & ~_GENERATION_MASK
                self._holders.setdefault(cache.kernel_name, {})[address] = key

    def get(self, key: int) -> Identity:
        """Return the cache of a key, UNRESOLVED_CACHE if the key was never seen."""
        return self._by_key.get(key) or self._by_key[UNKNOWN]

    def latest(self, name: str) -> Identity:
        """Return the newest cache of a row: those destroyed before may have had other sizes."""
        return self._latest[name]

    def of_failed_kmalloc(
        self, size: int, reclaimable: bool, accounted: bool, dma: bool
    ) -> Identity:
        """Return the cache that a failed request of this bucket size was for.

        It is known only if exactly one kmalloc cache of that size and kind was seen, or if no cache
        but whole pages can have that size: with slub_debug, objects of the largest caches occupy
        more than the largest bucket. Flags have the priority of kmalloc_type(): DMA, reclaimable,
        accounted.
        """
        kind = (dma, reclaimable and not dma, accounted and not dma and not reclaimable)
        matches = {
            identity.name: identity
            for identity in self._by_key.values()
            if identity.size == size
            and _KMALLOC_NAMES.search(identity.kernel_name)
            and (identity.dma, identity.reclaimable, identity.accounted) == kind
        }
        if size > _LARGEST_KMALLOC_CACHE and (size & size - 1 == 0 or size == _MOST_BYTES):
            matches[LARGE_CACHE] = self._by_key[LARGE]
        return next(iter(matches.values())) if len(matches) == 1 else self._by_key[UNKNOWN]
