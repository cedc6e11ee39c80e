"""From columns of the kernel's tables to the rows of a Snapshot. No I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from slabmon.kernel.caches import LARGE, CacheDirectory, Identity
from slabmon.kernel.layout import CONSTANTS
from slabmon.kernel.reader import Allocations, Frees
from slabmon.kernel.symbols import Location
from slabmon.model import (
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
_NO_LIFETIMES = (0,) * CONSTANTS["LIFETIMES"]


@dataclass
class Sums:
    """Counters of one row while it is being added up."""

    allocs: int = 0
    frees: int = 0
    failed: int = 0
    requested: int = 0
    allocated: int = 0
    freed: int = 0
    unobserved: int = 0
    lifetimes: np.ndarray = field(default_factory=lambda: np.zeros(CONSTANTS["LIFETIMES"], "<u8"))


def object_caches(rows: Allocations, directory: CacheDirectory,
                  gfp: Mapping[str, int]) -> list[Identity]:  # fmt: skip
    """The cache of each allocation row. Rows that only ever failed name none: their bucket size
    and flags do, where that is unambiguous."""
    found = []
    for cache, request, count in zip(rows.cache.tolist(), rows.request.tolist(),
                                     rows.count.tolist(), strict=True):  # fmt: skip
        if cache == 0 and count == 0 and request & 0xFFFFFFFF:
            size, flags = request & 0xFFFFFFFF, request >> 32
            if size > 2 * 4096:
                found.append(directory.get(LARGE))
                continue
            found.append(directory.of_kmalloc(size, bool(flags & 1 << gfp["RECLAIMABLE"]),
                                              bool(flags & 1 << gfp["ACCOUNT"]),
                                              bool(flags & 1 << gfp["DMA"])))  # fmt: skip
        else:
            found.append(directory.get(cache))
    return found


def row_bytes(rows: Allocations, caches: Iterable[Identity]) -> list[tuple[int, int]]:
    """Requested and allocated bytes of each row. kmalloc events tell both; for kmem_cache_alloc
    they are the cache's object size and size."""
    result = []
    for request, count, requested, identity in zip(
        rows.request.tolist(), rows.count.tolist(), rows.requested.tolist(), caches, strict=True
    ):
        bucket = request & 0xFFFFFFFF
        if bucket:
            result.append((requested, count * bucket))
        else:
            result.append((count * identity.object_size, count * identity.size))
    return result


def cache_sums(
    rows: Allocations, identities: list[Identity], bytes_: list[tuple[int, int]], frees: Frees,
    directory: CacheDirectory, large_freed: int, unobserved: Mapping[int, int],
    tracked: Iterable[int],
) -> dict[str, tuple[Identity, Sums]]:  # fmt: skip
    """Counters by cache name. Caches of `tracked` keys have a row even without counters."""
    table: dict[str, tuple[Identity, Sums]] = {}

    def sums(identity: Identity) -> Sums:
        return table.setdefault(identity.name, (identity, Sums()))[1]

    for identity, (requested, allocated), count, failed in zip(
        identities, bytes_, rows.count.tolist(), rows.failed.tolist(), strict=True
    ):
        row = sums(identity)
        row.allocs += count
        row.failed += failed
        row.requested += requested
        row.allocated += allocated
    for key, count, lifetimes in zip(
        frees.cache.tolist(), frees.count.tolist(), frees.lifetimes, strict=True
    ):
        identity = directory.get(key)
        row = sums(identity)
        row.frees += count
        row.freed += large_freed if key == LARGE else count * identity.size
        row.lifetimes = row.lifetimes + lifetimes
    for key, count in unobserved.items():
        sums(directory.get(key)).unobserved += count
    for key in tracked:
        sums(directory.get(key))
    return table


def cache_rows(
    table: Mapping[str, tuple[Identity, Sums]], live: Mapping[str, Live],
    slabinfo: Mapping[str, Slabinfo], aliases: Mapping[str, tuple[str, ...]],
    reclaimable: Callable[[str], bool],
) -> tuple[Cache, ...]:  # fmt: skip
    """All caches: those seen in events, and those that only slabinfo knows."""
    rows = []
    for name, (identity, sums) in table.items():
        info = slabinfo.get(identity.kernel_name) if name == identity.kernel_name else None
        # Live objects of ours cannot outnumber all active ones, unless frees go unseen. The
        # slack covers frees between the two readings.
        excess = sums.allocs - sums.frees - (info.active_objects * 1.01 + 64) if info else 0
        rows.append(
            Cache(
                name=name, object_size=identity.object_size, allocs=sums.allocs, frees=sums.frees,
                failed=sums.failed, requested_bytes=sums.requested,
                allocated_bytes=sums.allocated, freed_bytes=sums.freed,
                live=live.get(name, Live()),
                frees_observable=not sums.unobserved and excess <= 0
                and identity.kernel_name not in BULK_CACHES and name != UNRESOLVED_CACHE,
                reclaimable=identity.reclaimable, accounted=identity.accounted,
                dma=identity.dma, unobserved_frees=sums.unobserved,
                lifetimes=tuple(sums.lifetimes.tolist()),
                aliases=aliases.get(identity.kernel_name, ()), slabinfo=info,
            )
        )  # fmt: skip
    known = {identity.kernel_name for identity, _ in table.values()}
    for name, info in slabinfo.items():
        if name not in known:
            rows.append(
                Cache(
                    name=name, object_size=info.object_size, allocs=0, frees=0, failed=0,
                    requested_bytes=0, allocated_bytes=0, freed_bytes=0, live=Live(),
                    frees_observable=name not in BULK_CACHES, reclaimable=reclaimable(name),
                    accounted=False, dma=False, unobserved_frees=0, lifetimes=_NO_LIFETIMES,
                    aliases=aliases.get(name, ()), slabinfo=info,
                )
            )  # fmt: skip
    return tuple(sorted(rows, key=lambda row: row.name))


def site_rows(locations: list[Location], rows: Allocations, bytes_: list[tuple[int, int]],
              live: Mapping[Location, Live]) -> tuple[Site, ...]:  # fmt: skip
    """Counters by call site."""
    table: defaultdict[Location, Sums] = defaultdict(Sums)
    for location, (requested, allocated), count, failed in zip(
        locations, bytes_, rows.count.tolist(), rows.failed.tolist(), strict=True
    ):
        sums = table[location]
        sums.allocs += count
        sums.failed += failed
        sums.requested += requested
        sums.allocated += allocated
    for location in live:
        table[location]  # a tracked object whose slot was not read yet
    return tuple(
        Site(location.symbol, location.offset, location.module, sums.allocs, sums.failed,
             sums.requested, sums.allocated, live.get(location, Live()))
        for location, sums in sorted(
            table.items(), key=lambda item: (item[0].module or "", item[0].symbol, item[0].offset)
        )
    )  # fmt: skip


def gfp_rows(
    rows: Allocations,
    bytes_: list[tuple[int, int]],
    classify: Callable[[int], str],
    classes: Iterable[str],
) -> tuple[GfpClass, ...]:
    """Counters by GFP class, all classes present."""
    table = {name: Sums() for name in classes}
    for request, (_, allocated), count, failed in zip(
        rows.request.tolist(), bytes_, rows.count.tolist(), rows.failed.tolist(), strict=True
    ):
        sums = table[classify(request >> 32)]
        sums.allocs += count
        sums.failed += failed
        sums.allocated += allocated
    return tuple(GfpClass(name, s.allocs, s.allocated, s.failed) for name, s in table.items())


def size_rows(rows: Allocations, identities: Iterable[Identity]) -> tuple[SizeBucket, ...]:
    """kmalloc requests by powers of two.

    Every power of two from the smallest kmalloc bucket on is itself a bucket's object size, so
    the bucket alone decides between them, exactly.
    """
    table: Counter[int] = Counter()
    for request, count, identity in zip(
        rows.request.tolist(), rows.count.tolist(), identities, strict=True
    ):
        bucket = request & 0xFFFFFFFF
        if bucket and count:
            size = identity.object_size or bucket
            table[1 << (size - 1).bit_length()] += count
    return tuple(SizeBucket(le, table[le]) for le in sorted(table))


def node_rows(per_cpu: list[tuple[int, Allocations, list[tuple[int, int]]]]) -> tuple[NodeUse, ...]:
    """Counters by preferred node, from each CPU's own node and rows."""
    allocs: Counter[int] = Counter()
    bytes_: Counter[int] = Counter()
    for own, rows, sizes in per_cpu:
        for extra, count, (_, allocated) in zip(
            rows.extra.tolist(), rows.count.tolist(), sizes, strict=True
        ):
            asked = (extra & 0xFFFFFFFF) - 1
            node = asked if asked >= 0 else own
            allocs[node] += count
            bytes_[node] += allocated
    return tuple(NodeUse(node, allocs[node], bytes_[node]) for node in sorted(allocs))


def page_rows(pages: tuple[Allocations, Frees] | None,
              classify: Callable[[int], str]) -> tuple[PageOrder, ...]:  # fmt: skip
    """Page allocator counters by order and GFP class; frees know no class."""
    if pages is None:
        return ()
    allocs: Counter[tuple[int, str]] = Counter()
    failed: Counter[tuple[int, str]] = Counter()
    taken, freed = pages
    for order, request, count, failures in zip(
        taken.site.tolist(), taken.request.tolist(), taken.count.tolist(), taken.failed.tolist(),
        strict=True,
    ):  # fmt: skip
        allocs[order - 1, classify(request >> 32)] += count
        failed[order - 1, classify(request >> 32)] += failures
    rows = [PageOrder(order, name, allocs[order, name], 0, failed[order, name])
            for order, name in sorted(allocs)]  # fmt: skip
    for order, count in zip(freed.cache.tolist(), freed.count.tolist(), strict=True):
        rows.append(PageOrder(order - 1, None, 0, count, 0))
    return tuple(rows)
