# SPDX-License-Identifier: Apache-2.0
"""Rows of a census for metrics: the largest by bytes, the others added up as OTHER."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from slabmon.base.workloads import Workload, named
from slabmon.census.model import Census, Certainty
from slabmon.export.series import (
    MAX_CENSUS_CGROUPS,
    MAX_CENSUS_ORPHANS,
    MAX_CENSUS_OWNERS,
    OTHER,
    Labels,
)

# Labels of families by cgroup.
CGROUP_LABELS = ("cgroup", "unit", "container", "pod", "namespace")


def workload_labels(workload: Workload) -> Labels:
    """Return the values of CGROUP_LABELS."""
    return (
        workload.cgroup,
        workload.unit,
        workload.shown_container,
        workload.shown_pod,
        workload.namespace,
    )


class Amount(NamedTuple):
    """Objects in use and the bytes that they occupy."""

    objects: int
    bytes: int


def by_owner(census: Census) -> dict[Labels, Amount]:
    """Return what is in use by cache, owner and certainty; all rows add up to all objects in use.

    The owner is empty for objects of which only the cache is known.
    """
    rows = [
        ((row.cache, row.signature, str(row.certainty)), Amount(row.objects, row.bytes))
        for row in census.owners
    ]
    objects: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for row in census.owners:
        objects[row.cache] += row.objects
        sizes[row.cache] += row.bytes
    for cache in census.caches:
        rest = cache.in_use - objects[cache.name]
        # Blocks of page-backed kmalloc have no common size, and are all in use.
        size = rest * cache.size if cache.size else cache.slab_bytes - sizes[cache.name]
        if rest > 0:
            labels = cache.name, "", str(Certainty.UNKNOWN)
            rows.append((labels, Amount(rest, max(0, size))))
    return _largest(rows, MAX_CENSUS_OWNERS)


def by_cgroup(census: Census) -> dict[Labels, Amount]:
    """Return what is in use by memory cgroup, what runs there, and its state."""
    rows = (
        (
            (*workload_labels(named(row.cgroup, census.workloads)), str(row.state)),
            Amount(row.objects, row.bytes),
        )
        for row in census.cgroups
    )
    return _largest(rows, MAX_CENSUS_CGROUPS)


def by_orphan(census: Census) -> dict[Labels, Amount]:
    """Return orphans by cache and what they are."""
    rows = (((row.cache, row.signature), Amount(row.objects, row.bytes)) for row in census.orphans)
    return _largest(rows, MAX_CENSUS_ORPHANS)


def _largest(rows: Iterable[tuple[Labels, Amount]], most: int) -> dict[Labels, Amount]:
    """Return the `most` largest rows, and the others as one."""
    summed: dict[Labels, Amount] = {}
    for labels, amount in rows:
        before = summed.get(labels, Amount(0, 0))
        summed[labels] = Amount(before.objects + amount.objects, before.bytes + amount.bytes)
    ranked = sorted(summed.items(), key=lambda row: (-row[1].bytes, row[0]))
    if len(ranked) <= most:
        return dict(ranked)
    others = [amount for _, amount in ranked[most:]]
    other = (OTHER,) * len(ranked[0][0])
    total = Amount(sum(each.objects for each in others), sum(each.bytes for each in others))
    return {**dict(ranked[:most]), other: total}
