# SPDX-License-Identifier: Apache-2.0
"""Memory by family of caches: all kinds of one kmalloc size together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slabmon.analysis.grouping import Groups
from slabmon.analysis.sampling import Grouped, bounded
from slabmon.base.arrays import I64
from slabmon.model import Cache, Live, Slabinfo, Snapshot


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: sums over its caches. `slab_bytes` and `active_objects` are None if they are not
    known for every cache."""

    name: str
    caches: int
    allocs: int
    frees: int
    failed: int
    requested_bytes: int
    allocated_bytes: int
    slab_bytes: int | None
    active_objects: int | None
    live: Live
    held_bytes: int


def families(snapshot: Snapshot) -> Groups:
    """Return one row per family, in order of the first cache of each, and the row of each tracked
    object."""
    names = [cache.family for cache in snapshot.caches]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    members: list[list[Cache]] = [[] for _ in number]
    for cache, name in zip(snapshot.caches, names, strict=True):
        members[number[name]].append(cache)
    row_of_cache: I64 = np.array([number[name] for name in names], np.int64)
    tracked, interval = snapshot.tracked, snapshot.tracking.sample_bytes
    row_of_object = row_of_cache[tracked.cache]
    live = Grouped(tracked.bytes, tracked.interval, interval).by(row_of_object, len(number))
    rows = [
        _family(name, caches, estimate, interval)
        for name, caches, estimate in zip(number, members, live, strict=True)
    ]
    return Groups(rows, row_of_object)


def _family(name: str, caches: list[Cache], estimate: Live, interval: int) -> Family:
    allocated = sum(cache.allocated_bytes for cache in caches)
    only = caches[0].live  # of page-backed kmalloc it is certain, not an estimate
    sampled = estimate if estimate.objects else None
    return Family(
        name=name,
        caches=len(caches),
        allocs=sum(cache.allocs for cache in caches),
        frees=sum(cache.frees for cache in caches),
        failed=sum(cache.failed for cache in caches),
        requested_bytes=sum(cache.requested_bytes for cache in caches),
        allocated_bytes=allocated,
        held_bytes=sum(cache.held_bytes for cache in caches),
        slab_bytes=_sum(caches, lambda info: info.slab_bytes),
        active_objects=_sum(caches, lambda info: info.active_objects),
        live=only if len(caches) == 1 else bounded(sampled, interval, allocated),
    )


def _sum(caches: list[Cache], get: Callable[[Slabinfo], int]) -> int | None:
    known = [get(cache.slabinfo) for cache in caches if cache.slabinfo]
    return sum(known) if len(known) == len(caches) else None
