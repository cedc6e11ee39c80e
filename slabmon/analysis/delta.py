# SPDX-License-Identifier: Apache-2.0
"""Differences of counters between two snapshots, with resets recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from slabmon.base.fields import Host
from slabmon.model import Cache, Site, Snapshot, Tracking

_CACHE_COUNTERS = (
    "allocs",
    "frees",
    "failed",
    "requested_bytes",
    "allocated_bytes",
    "freed_bytes",
)
_SITE_COUNTERS = ("allocs", "failed", "requested_bytes", "allocated_bytes")


@dataclass(frozen=True)
class Delta:
    """Growth of counters over `seconds`, by cache name and by (symbol, offset, module). `reset`:
    tracking was restarted in between, so that the growth is since the restart."""

    seconds: float
    reset: bool
    caches: dict[str, dict[str, int]]
    sites: dict[tuple[str, int, str | None], dict[str, int]]


class SessionTime(NamedTuple):
    """When a snapshot was taken: the host's boot, and the time of the tracking session."""

    host: Host
    tracking: Tracking


def is_reset(before: Snapshot | SessionTime, after: Snapshot) -> bool:
    """Whether the counters of `after` do not continue those of `before`."""
    return (
        before.host.boot_id != after.host.boot_id
        or before.tracking.since != after.tracking.since
        or before.tracking.seconds > after.tracking.seconds
    )


def is_interrupted(before: Snapshot | SessionTime, after: Snapshot) -> bool:
    """Whether tracking slept in between, or has fallen asleep, so that live objects of `before` are
    not among those of `after`."""
    first, last = before.tracking, after.tracking
    return first.wakes != last.wakes or first.activity != last.activity


def continuity(snapshot: Snapshot) -> tuple[str, float, str, int]:
    """Return what is the same in all snapshots that neither a reset nor an interruption is
    between."""
    tracking = snapshot.tracking
    return snapshot.host.boot_id, tracking.since, tracking.activity, tracking.wakes


def _growth(before: Any, after: Any, counters: tuple[str, ...]) -> dict[str, int]:
    return {
        name: getattr(after, name) - (getattr(before, name) if before is not None else 0)
        for name in counters
    }


def difference(before: Snapshot, after: Snapshot) -> Delta:
    """Return the growth of counters from `before` to `after`."""
    reset = is_reset(before, after)
    old_caches: dict[str, Cache] = {} if reset else {c.name: c for c in before.caches}
    old_sites: dict[tuple[str, int, str | None], Site] = (
        {} if reset else {(s.symbol, s.offset, s.module): s for s in before.sites}
    )
    return Delta(
        seconds=after.tracking.counted - (0 if reset else before.tracking.counted),
        reset=reset,
        caches={c.name: _growth(old_caches.get(c.name), c, _CACHE_COUNTERS) for c in after.caches},
        sites={
            key: _growth(old_sites.get(key), site, _SITE_COUNTERS)
            for site in after.sites
            for key in [(site.symbol, site.offset, site.module)]
        },
    )
