# SPDX-License-Identifier: Apache-2.0
"""From columns of the kernel's tables to the rows of a Snapshot. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

import numpy as np

from slabmon.analysis.sampling import bounded, certain
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.probe.gfp import CLASSES
from slabmon.kernel.probe.slabinfo import Nature
from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables.caches import LARGE, CacheDirectory, Identity
from slabmon.kernel.tables.lanes import Allocations, Frees
from slabmon.model import (
    LARGE_CACHE,
    UNRESOLVED_CACHE,
    Cache,
    GfpClass,
    Live,
    NodeUse,
    PageOrder,
    Site,
    SizeBucket,
    Slabinfo,
)

# Caches whose users allocate or free in bulk, or free through RCU batches, on every kernel of
# the support matrix: mm/slub.c has no tracepoint for either.
BULK_CACHES = {
    "maple_node": "lib/maple_tree.c: mt_alloc_bulk, mt_free_bulk, mt_free_rcu",
    "skbuff_head_cache": "net/core/skbuff.c: napi_skb_cache_get, napi_skb_cache_put",
    "io_kiocb": "io_uring/io_uring.c: __io_alloc_req_refill",
}
T = TypeVar("T")
_NO_LIFETIMES = (0,) * CONSTANTS["LIFETIMES"]


@dataclass(frozen=True)
class Rows:
    """Allocation slots with what they mean: columns of equal length, `*_of` index the lists."""

    caches: list[Identity]
    cache_of: np.ndarray
    places: list[Location]
    place_of: np.ndarray
    class_of: np.ndarray
    flags: np.ndarray
    node: np.ndarray
    bucket: np.ndarray
    count: np.ndarray
    failed: np.ndarray
    requested: np.ndarray
    allocated: np.ndarray


def distinct(labels: list[T]) -> tuple[list[T], np.ndarray]:
    """The different labels, and for each label the position of its equal among them."""
    position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return list(position), np.array([position[label] for label in labels], np.int64)


def find_places(
    site: np.ndarray, variant_key: np.ndarray, locate: Callable[[int, int], Location]
) -> tuple[list[Location], np.ndarray]:
    """Locations of call sites (address, and module generation in the high half of `variant_key`):
    the different ones, and the position of each site's among them."""
    generation = variant_key >> np.uint64(32)
    _, number = np.unique(site, return_inverse=True)
    pairs = generation << np.uint64(32) | number.astype(np.uint64)
    _, first, pair_of = np.unique(pairs, return_index=True, return_inverse=True)
    known = zip(site[first].tolist(), generation[first].tolist(), strict=True)
    places, place_of = distinct([locate(*pair) for pair in known])
    return places, place_of[pair_of]


def read_rows(
    slots: Allocations,
    directory: CacheDirectory,
    locate: Callable[[int, int], Location],
    classify: Callable[[int], str],
    gfp: Mapping[str, int],
) -> Rows:
    """Gives allocation slots their cache, place and GFP class.

    kmalloc events tell bytes; for kmem_cache_alloc they are the cache's object size and size.
    """
    bucket = slots.gfp_size_key & np.uint64(0xFFFFFFFF)
    flags = slots.gfp_size_key >> np.uint64(32)
    keys, key_of = np.unique(slots.cache, return_inverse=True)
    identities = [directory.get(key) for key in keys.tolist()]
    for row in np.flatnonzero((slots.cache == 0) & (slots.count == 0) & (bucket != 0)).tolist():
        # Only ever failed: bucket size and flags name the cache, where that is unambiguous.
        value = int(flags[row])
        identities.append(
            directory.of_failed_kmalloc(
                int(bucket[row]),
                *(bool(value >> gfp[f] & 1) for f in ("RECLAIMABLE", "ACCOUNT", "DMA")),
            )
        )
        key_of[row] = len(identities) - 1
    named, name_of_key = distinct(identities)
    used, cache_of = np.unique(name_of_key[key_of], return_inverse=True)
    caches = [named[i] for i in used.tolist()]
    sizes = np.array([(c.object_size, c.size) for c in caches], np.uint64).reshape(-1, 2)
    places, place_of = find_places(slots.site, slots.variant_key, locate)
    values, flags_of = np.unique(flags, return_inverse=True)
    class_of = np.array([CLASSES.index(classify(value)) for value in values.tolist()], np.int64)
    fixed = bucket == 0
    return Rows(
        caches=caches,
        cache_of=cache_of,
        places=places,
        place_of=place_of,
        class_of=class_of[flags_of],
        flags=flags,
        node=(slots.variant_key & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1,
        bucket=bucket,
        count=slots.count,
        failed=slots.failed,
        requested=np.where(fixed, slots.count * sizes[cache_of, 0], slots.requested),
        allocated=slots.count * np.where(fixed, sizes[cache_of, 1], bucket),
    )


def totals(groups: np.ndarray, size: int, *columns: np.ndarray) -> list[list[int]]:
    """Exact sums of 64-bit columns by group number: one list of `size` per column."""
    result = []
    for column in columns:
        total = np.zeros(size, np.uint64)
        np.add.at(total, groups, column)
        result.append(total.tolist())
    return result


@dataclass
class Sums:
    """Counters of one cache while they are added up."""

    allocs: int = 0
    failed: int = 0
    requested: int = 0
    allocated: int = 0
    frees: int = 0
    freed: int = 0
    unobserved: int = 0
    lifetimes: tuple[int, ...] = _NO_LIFETIMES


def cache_sums(
    rows: Rows,
    frees: Frees,
    directory: CacheDirectory,
    large_freed: int,
    unobserved: Mapping[int, int],
) -> dict[str, tuple[Identity, Sums]]:
    """Counters by cache name."""
    columns = totals(
        rows.cache_of, len(rows.caches), rows.count, rows.failed, rows.requested, rows.allocated
    )
    table: dict[str, tuple[Identity, Sums]] = {}

    def sums(key: int) -> Sums:
        identity = directory.get(key)
        return table.setdefault(identity.name, (identity, Sums()))[1]

    for identity, allocs, failed, requested, allocated in zip(rows.caches, *columns, strict=True):
        row = table.setdefault(identity.name, (identity, Sums()))[1]
        row.allocs += allocs
        row.failed += failed
        row.requested += requested
        row.allocated += allocated
    for key, count, lifetimes in zip(
        frees.cache.tolist(), frees.count.tolist(), frees.lifetimes.tolist(), strict=True
    ):
        row = sums(key)
        row.frees += count
        row.freed += large_freed if key == LARGE else count * directory.get(key).size
        row.lifetimes = tuple(map(sum, zip(row.lifetimes, lifetimes, strict=True)))
    for key, count in unobserved.items():
        sums(key).unobserved += count
    return table


def cache_rows(
    table: Mapping[str, tuple[Identity, Sums]],
    live: Mapping[str, Live],
    slabinfo: Mapping[str, Slabinfo],
    aliases: Mapping[str, tuple[str, ...]],
    nature: Callable[[str, int], Nature],
    interval: int,
    bulk_unseen: bool,
) -> tuple[Cache, ...]:
    """All caches: those seen in events, and those that only slabinfo knows. `bulk_unseen`: frees
    in bulk and through RCU batches are not observed here."""
    blind = BULK_CACHES if bulk_unseen else {}
    rows = []
    for name, (identity, sums) in table.items():
        info = slabinfo.get(identity.kernel_name) if name == identity.kernel_name else None
        # Live objects of ours cannot outnumber all active ones, unless frees go unseen. The
        # slack covers frees between the two readings.
        excess = sums.allocs - sums.frees - (info.active_objects * 1.01 + 64) if info else 0
        rows.append(
            Cache(
                name=name,
                object_size=identity.object_size,
                allocs=sums.allocs,
                frees=sums.frees,
                failed=sums.failed,
                requested_bytes=sums.requested,
                allocated_bytes=sums.allocated,
                freed_bytes=sums.freed,
                live=certain(live.get(name))
                if name == LARGE_CACHE
                else bounded(live.get(name), interval, sums.allocated),
                frees_observable=not sums.unobserved
                and excess <= 0
                and identity.kernel_name not in blind
                and name != UNRESOLVED_CACHE,
                reclaimable=identity.reclaimable,
                accounted=identity.accounted,
                dma=identity.dma,
                unobserved_frees=sums.unobserved,
                lifetimes=sums.lifetimes,
                aliases=aliases.get(identity.kernel_name, ()),
                slabinfo=info,
            )
        )
    known = {identity.kernel_name for identity, _ in table.values()}
    for name, info in slabinfo.items():
        if name not in known:
            size, reclaimable = nature(name, info.object_size)
            rows.append(
                Cache(
                    name=name,
                    object_size=size,
                    allocs=0,
                    frees=0,
                    failed=0,
                    requested_bytes=0,
                    allocated_bytes=0,
                    freed_bytes=0,
                    live=Live(),
                    frees_observable=name not in blind,
                    reclaimable=reclaimable,
                    accounted=False,
                    dma=False,
                    unobserved_frees=0,
                    lifetimes=_NO_LIFETIMES,
                    aliases=aliases.get(name, ()),
                    slabinfo=info,
                )
            )
    return tuple(sorted(rows, key=lambda row: row.name))


def site_rows(rows: Rows, live: Mapping[Location, Live], interval: int) -> tuple[Site, ...]:
    """Counters by call site."""
    columns = totals(
        rows.place_of, len(rows.places), rows.count, rows.failed, rows.requested, rows.allocated
    )
    found = [
        Site._make((*place, *values, bounded(live.get(place), interval, values[-1])))
        for place, values in zip(rows.places, zip(*columns, strict=True), strict=True)
    ]
    found.sort(key=itemgetter(0, 1))  # symbol, offset
    return tuple(found)


def gfp_rows(rows: Rows) -> tuple[GfpClass, ...]:
    """Counters by GFP class, all classes present."""
    columns = totals(rows.class_of, len(CLASSES), rows.count, rows.allocated, rows.failed)
    return tuple(GfpClass(*row) for row in zip(CLASSES, *columns, strict=True))


def size_rows(rows: Rows) -> tuple[SizeBucket, ...]:
    """kmalloc requests by powers of two.

    Every power of two from the smallest kmalloc bucket on is itself a bucket's object size, so
    the bucket alone decides between them, exactly.
    """
    kmalloc = (rows.bucket != 0) & (rows.count != 0)
    known = np.array([cache.object_size for cache in rows.caches], np.uint64)[rows.cache_of]
    exact = np.where(known != 0, known, rows.bucket)[kmalloc]
    sizes, size_of = np.unique(exact, return_inverse=True)
    (counts,) = totals(size_of, len(sizes), rows.count[kmalloc])
    table: Counter[int] = Counter()
    for size, count in zip(sizes.tolist(), counts, strict=True):
        table[1 << (size - 1).bit_length()] += count
    return tuple(SizeBucket(le, table[le]) for le in sorted(table))


def node_rows(per_cpu: Iterable[tuple[int, Rows]]) -> tuple[NodeUse, ...]:
    """Counters by preferred node, from each CPU's own node and rows."""
    allocs: Counter[int] = Counter()
    bytes_: Counter[int] = Counter()
    for own, rows in per_cpu:
        asked = np.where(rows.node >= 0, rows.node, own)
        for node in np.unique(asked).tolist():
            allocs[node] += int(rows.count[asked == node].sum())
            bytes_[node] += int(rows.allocated[asked == node].sum())
    return tuple(NodeUse(node, allocs[node], bytes_[node]) for node in sorted(allocs))


def page_rows(
    pages: tuple[Allocations, Frees] | None, classify: Callable[[int], str]
) -> tuple[PageOrder, ...]:
    """Page allocator counters by order and GFP class; frees know no class."""
    if pages is None:
        return ()
    allocs: Counter[tuple[int, str]] = Counter()
    failed: Counter[tuple[int, str]] = Counter()
    taken, freed = pages
    for order, request, count, failures in zip(
        taken.site.tolist(),
        taken.gfp_size_key.tolist(),
        taken.count.tolist(),
        taken.failed.tolist(),
        strict=True,
    ):
        allocs[order - 1, classify(request >> 32)] += count
        failed[order - 1, classify(request >> 32)] += failures
    rows = [
        PageOrder(order, name, allocs[order, name], 0, failed[order, name])
        for order, name in sorted(allocs)
    ]
    for order, count in zip(freed.cache.tolist(), freed.count.tolist(), strict=True):
        rows.append(PageOrder(order - 1, None, 0, count, 0))
    return tuple(rows)
