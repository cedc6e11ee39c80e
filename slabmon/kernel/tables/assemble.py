# SPDX-License-Identifier: Apache-2.0
"""Turn columns of the kernel's tables into the rows of a Snapshot. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

import numpy as np

from slabmon.analysis.sampling import bounded, certain
from slabmon.base.arrays import I64, U64, contained, distinct
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
    GfpModifier,
    Live,
    NodeUse,
    PageOrder,
    Site,
    SizeBucket,
    Slabinfo,
)

# Caches whose users allocate or free in bulk, or free through RCU batches, on every kernel of
# the support matrix. mm/slub.c has no tracepoint for either.
BULK_CACHES = {
    "maple_node": "lib/maple_tree.c: mt_alloc_bulk, mt_free_bulk, mt_free_rcu",
    "skbuff_head_cache": "net/core/skbuff.c: napi_skb_cache_get, napi_skb_cache_put",
    "io_kiocb": "io_uring/io_uring.c: __io_alloc_req_refill",
}
T = TypeVar("T")
_NO_LIFETIMES = (0,) * CONSTANTS["LIFETIMES"]


@dataclass(frozen=True, kw_only=True)
class SlotColumns:
    """Allocation slots and what they mean: columns (slots,), and the lists that `*_of` index.

    `caches` and `locations` have no duplicates. `node` is the NUMA node asked for, -1 for any;
    `bucket` the size of the kmalloc cache in bytes, 0 for other caches.
    """

    caches: list[Identity]
    cache_of: I64  # (slots,) into caches
    locations: list[Location]
    location_of: I64  # (slots,) into locations
    class_of: I64  # (slots,) into gfp.CLASSES
    flags: U64  # (slots,) GFP flags
    node: I64  # (slots,)
    bucket: U64  # (slots,)
    count: U64  # (slots,) successful allocations
    failed: U64  # (slots,) failed allocations
    requested: U64  # (slots,) bytes
    allocated: U64  # (slots,) bytes


def distinct_labels(labels: list[T]) -> tuple[list[T], I64]:
    """Return the labels without duplicates, and the index of each label among them."""
    position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return list(position), np.array([position[label] for label in labels], np.int64)


def _find_locations(
    slots: Allocations, locate: Callable[[int, int], Location]
) -> tuple[list[Location], I64]:
    """Return the distinct locations of the slots' call sites, and the index of each slot's.

    `locate` takes an address and the module generation it was seen in, which is the high half of
    `variant_key`.
    """
    generation = slots.variant_key >> np.uint64(32)
    _, number = np.unique(slots.site, return_inverse=True)
    pairs = generation << np.uint64(32) | number.astype(np.uint64)
    _, first, pair_of = np.unique(pairs, return_index=True, return_inverse=True)
    known = zip(slots.site[first].tolist(), generation[first].tolist(), strict=True)
    locations, location_of = distinct_labels([locate(*pair) for pair in known])
    return locations, location_of[pair_of]


def _request(slots: Allocations, row: int) -> tuple[int, int, int]:
    """Return call site, its module generation, and size and flags."""
    generation = int(slots.variant_key[row]) >> 32
    return int(slots.site[row]), generation, int(slots.gfp_size_key[row])


def _caches_of_requests(slots: Allocations, rows: I64) -> dict[tuple[int, int, int], set[int]]:
    """Return the keys of the caches that requests like those of these rows were served from."""
    served = (slots.cache != 0) & contained(slots.site, slots.site[rows])
    found: dict[tuple[int, int, int], set[int]] = {}
    for row in np.flatnonzero(served).tolist():
        found.setdefault(_request(slots, row), set()).add(int(slots.cache[row]))
    return found


def _find_caches(
    slots: Allocations, directory: CacheDirectory, gfp: Mapping[str, int]
) -> tuple[list[Identity], I64]:
    """Return the distinct caches of the slots, and the index of each slot's.

    A slot whose allocations all failed has no cache. Its site identifies the cache if it took the
    same size, with the same flags, from one, on another CPU; else size and flags do where only one
    fits.
    """
    bucket, flags = slots.gfp_size_key & np.uint64(0xFFFFFFFF), slots.gfp_size_key >> np.uint64(32)
    keys, key_of = np.unique(slots.cache, return_inverse=True)
    identities = [directory.get(key) for key in keys.tolist()]
    failed = np.flatnonzero((slots.cache == 0) & (slots.count == 0))
    of_requests = _caches_of_requests(slots, failed)
    for row in failed.tolist():
        value = int(flags[row])
        served = of_requests.get(_request(slots, row), set())
        if len(served) == 1:
            identities.append(directory.get(next(iter(served))))
        elif bucket[row]:
            of_flags = (bool(value >> gfp[f] & 1) for f in ("RECLAIMABLE", "ACCOUNT", "DMA"))
            identities.append(directory.of_failed_kmalloc(int(bucket[row]), *of_flags))
        else:
            continue
        key_of[row] = len(identities) - 1
    named, name_of_key = distinct_labels(identities)
    used, cache_of = np.unique(name_of_key[key_of], return_inverse=True)
    return [named[i] for i in used.tolist()], cache_of


def slot_columns(
    slots: Allocations,
    directory: CacheDirectory,
    locate: Callable[[int, int], Location],
    classify: Callable[[int], str],
    gfp: Mapping[str, int],
) -> SlotColumns:
    """Give allocation slots their cache, location and GFP class.

    kmalloc events carry their bytes. For kmem_cache_alloc the requested and allocated bytes are
    the cache's object size and size.
    """
    bucket, flags = slots.gfp_size_key & np.uint64(0xFFFFFFFF), slots.gfp_size_key >> np.uint64(32)
    caches, cache_of = _find_caches(slots, directory, gfp)
    sizes = np.array([(c.object_size, c.size) for c in caches], np.uint64).reshape(-1, 2)
    locations, location_of = _find_locations(slots, locate)
    values, flags_of = np.unique(flags, return_inverse=True)
    class_of = np.array([CLASSES.index(classify(value)) for value in values.tolist()], np.int64)
    fixed = bucket == 0
    return SlotColumns(
        caches=caches,
        cache_of=cache_of,
        locations=locations,
        location_of=location_of,
        class_of=class_of[flags_of],
        flags=flags,
        node=(slots.variant_key & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1,
        bucket=bucket,
        count=slots.count,
        failed=slots.failed,
        requested=np.where(fixed, slots.count * sizes[cache_of, 0], slots.requested),
        allocated=slots.count * np.where(fixed, sizes[cache_of, 1], bucket),
    )


def totals(groups: I64, size: int, *columns: U64) -> list[list[int]]:
    """Return the exact sums of 64-bit columns by group: a list of `size` sums per column."""
    result = []
    for column in columns:
        sums = np.zeros(size, np.uint64)
        np.add.at(sums, groups, column)
        result.append(sums.tolist())
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
    rows: SlotColumns,
    frees: Frees,
    directory: CacheDirectory,
    large_freed: int,
    unobserved: Mapping[int, int],
) -> dict[str, tuple[Identity, Sums]]:
    """Return identity and counters by cache name.

    `large_freed` is the number of freed bytes of page-backed kmalloc, `unobserved` the number of
    proven unobserved frees by cache key.
    """
    columns = totals(
        rows.cache_of, len(rows.caches), rows.count, rows.failed, rows.requested, rows.allocated
    )
    table: dict[str, tuple[Identity, Sums]] = {}

    def sums_of(identity: Identity) -> Sums:
        name = identity.name
        return table.setdefault(name, (directory.latest(name), Sums()))[1]

    for identity, allocs, failed, requested, allocated in zip(rows.caches, *columns, strict=True):
        sums = sums_of(identity)
        sums.allocs += allocs
        sums.failed += failed
        sums.requested += requested
        sums.allocated += allocated
    for key, count, lifetimes in zip(
        frees.cache.tolist(), frees.count.tolist(), frees.lifetimes.tolist(), strict=True
    ):
        sums = sums_of(directory.get(key))
        sums.frees += count
        sums.freed += large_freed if key == LARGE else count * directory.get(key).size
        sums.lifetimes = tuple(map(sum, zip(sums.lifetimes, lifetimes, strict=True)))
    for key, count in unobserved.items():
        sums_of(directory.get(key)).unobserved += count
    return table


def cache_rows(
    table: Mapping[str, tuple[Identity, Sums]],
    *,
    live: Mapping[str, Live],
    slabinfo: Mapping[str, Slabinfo],
    aliases: Mapping[str, tuple[str, ...]],
    nature_of: Callable[[str, int], Nature],
    interval: int,
    bulk_unseen: bool,
    net: Mapping[str, int] | None,
) -> tuple[Cache, ...]:
    """Return all caches by name: those seen in events, and those that only slabinfo lists.

    `live` is by cache name, `slabinfo` and `aliases` by the kernel's name. `nature_of` takes a
    name and the size in slabinfo. `bulk_unseen` says that frees in bulk and through RCU batches are
    not observed on this host. `net` holds, by name, allocations minus frees counted when tracking
    last woke (None: it is asleep).
    """
    blind = BULK_CACHES if bulk_unseen else {}
    rows = []
    for name, (identity, sums) in table.items():
        info = slabinfo.get(identity.kernel_name) if name == identity.kernel_name else None
        nature = Nature(identity.object_size, identity.reclaimable)
        if info and info.object_size != identity.size:
            # Another cache has the name by now, and none of its events was seen yet.
            nature = nature_of(name, info.object_size)
        rows.append(
            Cache(
                name=name,
                object_size=nature.object_size,
                allocs=sums.allocs,
                frees=sums.frees,
                failed=sums.failed,
                requested_bytes=sums.requested,
                allocated_bytes=sums.allocated,
                freed_bytes=sums.freed,
                live=certain(live.get(name))
                if name == LARGE_CACHE
                else bounded(live.get(name), interval, sums.allocated),
                frees_observable=_frees_observable(
                    sums, info, None if net is None else net.get(name, 0)
                )
                and identity.kernel_name not in blind
                and name != UNRESOLVED_CACHE,
                reclaimable=nature.reclaimable,
                accounted=identity.accounted,
                dma=identity.dma,
                unobserved_frees=sums.unobserved,
                lifetimes=sums.lifetimes,
                aliases=aliases.get(identity.kernel_name, ()),
                slabinfo=info,
            )
        )
    seen = {identity.kernel_name for identity, _ in table.values()}
    rows += [
        _idle_cache(
            name,
            info,
            nature_of(name, info.object_size),
            aliases=aliases.get(name, ()),
            frees_observable=name not in blind,
        )
        for name, info in slabinfo.items()
        if name not in seen
    ]
    return tuple(sorted(rows, key=lambda row: row.name))


def _frees_observable(sums: Sums, info: Slabinfo | None, net: int | None) -> bool:
    """Return False if the counters show frees without an event. `net`: allocations minus frees when
    tracking last woke, None while it is asleep."""
    if sums.unobserved:
        return False
    if info is None or net is None:
        return True
    # The live objects cannot outnumber all active ones unless frees go unseen. The slack covers
    # frees between the two readings.
    return sums.allocs - sums.frees - net <= info.active_objects * 1.01 + 64


def _idle_cache(
    name: str, info: Slabinfo, nature: Nature, *, aliases: tuple[str, ...], frees_observable: bool
) -> Cache:
    """Return the row of a cache without events since tracking began."""
    return Cache(
        name=name,
        object_size=nature.object_size,
        allocs=0,
        frees=0,
        failed=0,
        requested_bytes=0,
        allocated_bytes=0,
        freed_bytes=0,
        live=Live(),
        frees_observable=frees_observable,
        reclaimable=nature.reclaimable,
        accounted=False,
        dma=False,
        unobserved_frees=0,
        lifetimes=_NO_LIFETIMES,
        aliases=aliases,
        slabinfo=info,
    )


@dataclass(frozen=True)
class Function:
    """What is known of the function around a call site, see Site."""

    size: int = 0
    component: str | None = None


_UNKNOWN_FUNCTION = Function()


def site_rows(
    rows: SlotColumns,
    live: Mapping[Location, Live],
    interval: int,
    functions: Mapping[Location, Function],
) -> tuple[Site, ...]:
    """Return counters by call site, in order of symbol and offset."""
    columns = totals(
        rows.location_of,
        len(rows.locations),
        rows.count,
        rows.failed,
        rows.requested,
        rows.allocated,
    )
    sites = [
        Site._make(
            (
                *location,
                *values,
                bounded(live.get(location), interval, values[-1]),
                function.size,
                function.component,
            )
        )
        for location, values, function in zip(
            rows.locations,
            zip(*columns, strict=True),
            (functions.get(location, _UNKNOWN_FUNCTION) for location in rows.locations),
            strict=True,
        )
    ]
    sites.sort(key=itemgetter(0, 1))  # symbol, offset
    return tuple(sites)


def gfp_rows(rows: SlotColumns) -> tuple[GfpClass, ...]:
    """Return counters by GFP class, all classes included."""
    columns = totals(rows.class_of, len(CLASSES), rows.count, rows.allocated, rows.failed)
    return tuple(GfpClass(*row) for row in zip(CLASSES, *columns, strict=True))


def modifier_rows(rows: SlotColumns, masks: Mapping[str, int]) -> tuple[GfpModifier, ...]:
    """Return counters by modifier, in the order of `masks`, the bit of each."""
    result = []
    for name, mask in masks.items():
        having = rows.flags & np.uint64(mask) != 0
        sums = (int(c[having].sum()) for c in (rows.count, rows.allocated, rows.failed))
        result.append(GfpModifier(name, *sums))
    return tuple(result)


def size_rows(rows: SlotColumns) -> tuple[SizeBucket, ...]:
    """Return kmalloc requests by powers of two.

    Every power of two from the smallest kmalloc bucket on is itself a bucket's object size, so
    the bucket alone decides between them, exactly.
    """
    kmalloc = (rows.bucket != 0) & (rows.count != 0)
    object_sizes = np.array([cache.object_size for cache in rows.caches], np.uint64)[rows.cache_of]
    exact = np.where(object_sizes != 0, object_sizes, rows.bucket)[kmalloc]
    sizes, size_of = np.unique(exact, return_inverse=True)
    counts, requested = totals(size_of, len(sizes), rows.count[kmalloc], rows.requested[kmalloc])
    allocs: Counter[int] = Counter()
    requested_bytes: Counter[int] = Counter()
    for size, count, amount in zip(sizes.tolist(), counts, requested, strict=True):
        le = 1 << (size - 1).bit_length()
        allocs[le] += count
        requested_bytes[le] += amount
    return tuple(SizeBucket(le, allocs[le], requested_bytes[le]) for le in sorted(allocs))


def node_rows(per_cpu: Iterable[tuple[int, SlotColumns]]) -> tuple[NodeUse, ...]:
    """Return counters by preferred NUMA node, from the node and the slots of each CPU."""
    allocs: Counter[int] = Counter()
    allocated: Counter[int] = Counter()
    for cpu_node, rows in per_cpu:
        preferred = np.where(rows.node >= 0, rows.node, cpu_node)
        for node in distinct(preferred).tolist():
            allocs[node] += int(rows.count[preferred == node].sum())
            allocated[node] += int(rows.allocated[preferred == node].sum())
    return tuple(NodeUse(node, allocs[node], allocated[node]) for node in sorted(allocs))


def page_rows(
    pages: tuple[Allocations, Frees] | None, classify: Callable[[int], str]
) -> tuple[PageOrder, ...]:
    """Return page allocator counters by order and GFP class; frees have no class."""
    if pages is None:
        return ()
    allocs: Counter[tuple[int, str]] = Counter()
    failed: Counter[tuple[int, str]] = Counter()
    allocations, frees = pages
    for order, request, count, failures in zip(
        allocations.site.tolist(),
        allocations.gfp_size_key.tolist(),
        allocations.count.tolist(),
        allocations.failed.tolist(),
        strict=True,
    ):
        allocs[order - 1, classify(request >> 32)] += count
        failed[order - 1, classify(request >> 32)] += failures
    rows = [
        PageOrder(order, name, allocs[order, name], 0, failed[order, name])
        for order, name in sorted(allocs)
    ]
    for order, count in zip(frees.cache.tolist(), frees.count.tolist(), strict=True):
        rows.append(PageOrder(order - 1, None, 0, count, 0))
    return tuple(rows)
