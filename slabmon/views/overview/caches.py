# SPDX-License-Identifier: Apache-2.0
"""Rows of the overview about caches: the largest, and those that grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from slabmon.base.names import kernel_name
from slabmon.views.cells import shortened
from slabmon.views.overview.facts import MAIN_SHARE, Facts, OverviewRow, Rise, State, worst
from slabmon.views.overview.held import HELD

if TYPE_CHECKING:
    from slabmon.model import Cache

# The links from a cache.
CACHE_DETAILS = ("owners", "sites", "callers", "processes", "cgroups", "stacks", "cache")
# The largest that are shown: unreclaimable and reclaimable; and at most so many that grow.
_LARGEST, _LARGEST_RECLAIMABLE, _RISING = 3, 1, 3
# Owners of a smaller share of a cache are not named.
_LEAST_SHARE = 0.1


def cache_rows(facts: Facts) -> Iterator[OverviewRow]:
    """Yield the caches that hold most or grow most, the largest first."""
    caches = facts.snapshot.caches
    sizes = _sizes(facts)
    numbers = [n for n in sorted(range(len(caches)), key=lambda n: -sizes[n]) if sizes[n]]
    rising = _rising(facts)
    unreclaimable = [n for n in numbers if not caches[n].reclaimable][:_LARGEST]
    reclaimable = [n for n in numbers if caches[n].reclaimable][:_LARGEST_RECLAIMABLE]
    shown = {*unreclaimable, *reclaimable, *rising}
    for number in numbers:
        if number in shown:
            yield _row(facts, number, sizes[number], rising.get(number))


def _sizes(facts: Facts) -> list[int]:
    """Return what each cache holds. For those that /proc/slabinfo does not list, such as
    page-backed kmalloc, a census knows what is older than tracking."""
    return [
        max(cache.held_bytes, 0 if cache.slabinfo else facts.counted.get(cache.name, 0))
        for cache in facts.snapshot.caches
    ]


def _rising(facts: Facts) -> dict[int, Rise]:
    """Return the caches, by number, that grew most and steadily."""
    trail = facts.window.trails.get(HELD.name)
    listing = facts.window.now.listing(HELD)
    if trail is None or not trail.points or not listing.rows:
        return {}
    grown = listing.values(HELD.figure) - trail.at(0, listing.keys)
    most = np.argsort(-grown, kind="stable")[:_RISING].tolist()
    rises = {number: facts.rise(HELD, [str(listing.keys[number])]) for number in most}
    return {number: rise for number, rise in rises.items() if rise and rise.steady}


def _row(facts: Facts, number: int, size: int, rise: Rise | None) -> OverviewRow:
    cache = facts.snapshot.caches[number]
    state = State.OK
    if not cache.reclaimable:
        large = State.WARN if facts.is_large(size) else State.OK
        state = worst(large, facts.pace(rise))
    return OverviewRow(
        key=("cache", cache.name),
        what=cache.name,
        state=state if facts.total else None,
        bytes=size,
        total_bytes=facts.total or None,
        growth=rise.per_hour if rise else None,
        finding=_finding(facts, number, size, rise, state != State.OK),
        depth=1 if facts.groups else 0,
        cache=cache.name,
        reclaimable=cache.reclaimable,
        details=CACHE_DETAILS,
    )


def _finding(facts: Facts, number: int, size: int, rise: Rise | None, bad: bool) -> str:
    """Return the owner of a cache of `size` bytes, who is charged for it, its growth, and its other
    names; `bad`: it needs attention."""
    cache = facts.snapshot.caches[number]
    name = kernel_name(cache.name)
    # A census covers only as much of the cache as there was then.
    covered = min(1.0, facts.counted.get(name, size) / size)
    share, owner = facts.owners.get(name, (0.0, ""))
    share *= covered
    owner = owner if share >= _LEAST_SHARE else ""
    old = facts.awake and _is_older(cache)
    holder = facts.holder(number) if rise or covered < 0.5 or (bad and not old) else ""
    charged, cgroup = facts.charged.get(name, (0.0, ""))
    charged *= covered
    cgroup = facts.cgroup_name(cgroup) if charged >= MAIN_SHARE and not holder else ""
    parts = [
        f"by {holder}" if holder else "",
        f"{share:.0%} of it{owner}" if owner else "",
        f"{charged:.0%} of it charged to {cgroup}" if cgroup else "",
        "take a census to see the owner" if bad and not (owner or cgroup or holder) else "",
        facts.pace_text(rise, cache.reclaimable),
        "allocated before tracking began" if bad and old else "",
        f"merged with {shortened(', '.join(cache.aliases))}" if cache.aliases else "",
    ]
    return "; ".join(filter(None, parts))


def _is_older(cache: Cache) -> bool:
    """Whether most objects of a cache were allocated before tracking began."""
    if cache.slabinfo is None:
        return False
    return 2 * cache.live.high_bytes < cache.slabinfo.active_objects * cache.slabinfo.object_size
