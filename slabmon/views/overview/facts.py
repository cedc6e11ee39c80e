# SPDX-License-Identifier: Apache-2.0
"""What the rows of the overview are computed from, and their thresholds (docs/top.md)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from slabmon.analysis.callers import callers
from slabmon.analysis.sampling import probability
from slabmon.base.activity import Activity
from slabmon.base.arrays import I64, distinct
from slabmon.base.format import bytes_text, duration
from slabmon.census.model import Certainty
from slabmon.views.memory import MEMORY, MemoryRow

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.views.view import View
    from slabmon.views.window import Window

# Memory that the kernel cannot reclaim: this share of the host's, and this many bytes.
# "Identify the causes of high percentage of the slab_unreclaimable memory" (Alibaba Cloud Linux)
# takes a tenth as the sign of a leak.
LARGE_SHARE, LARGE_BYTES = 0.10, 256 << 20
# Free and reclaimable memory, as shares of the host's.
SHORT_SHARE, EXHAUSTED_SHARE = 0.05, 0.02
# Until all of that is used up, at the pace of the window.
SOON_SECONDS, VERY_SOON_SECONDS = 6 * 3600.0, 3600.0
# What counts as growth: over at least this time, by a share of the host's memory and this many
# bytes (as in analysis/rising.py), and in each third of the window at half the mean pace or more.
RISE_SECONDS, RISE_SHARE, RISE_BYTES, RISE_PACE = 30.0, 1 / 16384, 1 << 20, 0.5
MAIN_SHARE = 0.5


class State(StrEnum):
    """How bad a row is; rows of which that is not known have None."""

    OK = "ok"
    WARN = "warn"
    CRIT = "crit"


_ORDER = list(State)


def worst(*states: State) -> State:
    """Return the worst of several states."""
    return max(states, key=_ORDER.index)


@dataclass(frozen=True, kw_only=True)
class OverviewRow:
    """A row. `growth` is in bytes per hour; a row of `depth` 1 is part of the one above. `cache`,
    `site`, `bus` and `device` name what it is about, `kind` is that of its rows of the ledger.
    `details` are the titles of the links that lead on from it."""

    key: tuple[str, str]
    what: str
    state: State | None
    bytes: int | None = None
    total_bytes: int | None = None
    growth: float | None = None
    finding: str = ""
    depth: int = 0
    cache: str = ""
    site: str = ""
    bus: str = ""
    device: str = ""
    kind: str = ""
    reclaimable: bool = False
    details: tuple[str, ...] = ()


# Rows of the ledger that are one row here: those of slabs, and all others of one kind.
SLAB, RECLAIMABLE, KERNEL, FREE, PAGE_CACHE = (
    "slab_unreclaimable",
    "slab_reclaimable",
    "kernel",
    "free",
    "cache",
)
_SLABS = {SLAB: SLAB, "kmalloc_large": SLAB, RECLAIMABLE: RECLAIMABLE}


class Rise(NamedTuple):
    """A change over the window: bytes per hour, and whether it is steady growth of note."""

    per_hour: float
    steady: bool


class Facts:
    """Figures of a host at the end of a window."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.snapshot: Snapshot = window.snapshot
        ledger = cast(Sequence[MemoryRow], window.now.listing(MEMORY).rows)
        self.total = ledger[0].total_bytes if ledger else self.snapshot.host.memory_bytes
        self.groups: dict[str, list[MemoryRow]] = {}
        for row in ledger:
            self.groups.setdefault(_SLABS.get(row.name, row.kind), []).append(row)

    @property
    def awake(self) -> bool:
        """Whether allocations are tracked now."""
        return self.snapshot.tracking.activity == Activity.AWAKE

    @property
    def scanned(self) -> bool:
        """Whether a census read the struct pages."""
        return self.snapshot.census is not None and self.snapshot.census.memory is not None

    def size(self, group: str) -> int:
        """Return the bytes of a group of rows of the ledger."""
        return sum(row.bytes for row in self.groups.get(group, ()))

    @cached_property
    def available(self) -> int | None:
        """Bytes that are free or can be reclaimed; None if that is not known."""
        return sum(map(self.size, (FREE, PAGE_CACHE, RECLAIMABLE))) if self.groups else None

    def rise(self, view: View, names: Sequence[Hashable], least: int | None = None) -> Rise | None:
        """Return how the sum of these rows of a view changed over the window; None if that is not
        known: a few seconds say nothing of an hour. It is steady if it is `least` bytes or more, by
        default what is of note on a host of this size."""
        if least is None:
            least = round(max(RISE_BYTES, self.total * RISE_SHARE))
        window, trail = self.window, self.window.trails.get(view.name)
        if window.span < RISE_SECONDS:
            return None
        if trail is None or not trail.points or not trail.points[0].count:
            return None  # nothing was read then
        listing = window.now.listing(view)
        now = listing.values(view.figure)[[listing.position[name] for name in names]]
        times = np.array([*window.moments, window.snapshot.tracking.seconds])
        thirds = times[0] + window.span * np.array([0, 1 / 3, 2 / 3])
        nearest = distinct(np.abs(times[:-1] - thirds[:, np.newaxis]).argmin(axis=1))
        values = np.array([*(trail.at(i, names).sum() for i in nearest.tolist()), now.sum()])
        grown = float(values[-1] - values[0])
        paces = np.diff(values) / np.diff(times[[*nearest, -1]])
        steady = (
            len(paces) > 1
            and grown >= least
            and bool((paces >= RISE_PACE * grown / window.span).all())
        )
        return Rise(round(grown / window.span * 3600), steady)

    def seconds_left(self, rise: Rise | None) -> float | None:
        """Return the time in which steady growth uses up what is available; None without it."""
        if rise is None or not rise.steady or self.available is None:
            return None
        return self.available / rise.per_hour * 3600

    def pace(self, rise: Rise | None) -> State:
        """Return how bad growth is, by the time until memory is used up."""
        left = self.seconds_left(rise)
        if left is None or left > SOON_SECONDS:
            return State.OK
        return State.WARN if left > VERY_SOON_SECONDS else State.CRIT

    def pace_text(self, rise: Rise | None, reclaimable: bool = False) -> str:
        """Return steady growth in words, "" without it."""
        if rise is None or not rise.steady:
            return ""
        left, pace = self.seconds_left(rise), f"+{bytes_text(rise.per_hour)}/h"
        if left is not None and left <= SOON_SECONDS and not reclaimable:
            return f"out of memory in {duration(left)} at {pace}"
        return pace

    def is_large(self, size: int) -> bool:
        """Whether an amount that the kernel cannot reclaim needs attention."""
        return self.total > 0 and size >= max(LARGE_BYTES, LARGE_SHARE * self.total)

    def holder(self, number: int) -> str:
        """Return the caller, and its cgroup, that holds most live memory of a cache, by its number:
        of what was allocated in the window if anything was; "" if nothing is tracked."""
        tracked = self.snapshot.tracked
        mask = tracked.cache == number
        recent = mask & (tracked.age <= max(self.window.span, RISE_SECONDS))
        rows = np.flatnonzero(recent if recent.any() else mask)
        if not len(rows):
            return ""
        size = tracked.bytes[rows].astype(float)
        size /= probability(size, tracked.interval[rows])
        caller, labels = self._callers
        text = labels[int(np.argmax(np.bincount(caller[rows], size)))]
        cgroups, numbers = np.unique(tracked.cgroup[rows], return_inverse=True)
        by_cgroup = np.bincount(numbers, np.where(tracked.by_interrupt[rows], 0.0, size))
        main = int(np.argmax(by_cgroup))
        path = tracked.cgroups.get(int(cgroups[main]), "/")
        if path != "/" and by_cgroup[main] >= MAIN_SHARE * size.sum():
            text += f" in {self.cgroup_name(path)}"
        return text

    def cgroup_name(self, path: str) -> str:
        """Return a cgroup's shortest name: its pod, container or unit, else its own."""
        label = self.snapshot.workload(path).label
        return path.rsplit("/", 1)[-1] if label == path else label

    @cached_property
    def _callers(self) -> tuple[I64, list[str]]:
        return callers(self.snapshot, self.snapshot.tracked)

    @cached_property
    def counted(self) -> Mapping[str, int]:
        """The bytes of each cache's slabs at the last census."""
        census = self.snapshot.census
        return {cache.name: cache.slab_bytes for cache in census.caches} if census else {}

    @cached_property
    def charged(self) -> Mapping[str, tuple[float, str]]:
        """The cgroup that most objects of each cache are charged to, by the last census: its share
        of the cache, and its path. What is charged to the root or to none is left out."""
        census = self.snapshot.census
        if census is None:
            return {}
        used = {cache.name: cache.in_use * cache.size for cache in census.caches}
        most: dict[str, tuple[float, str]] = {}
        for row in census.cgroups:
            for cache, size in row.by_cache.items() if row.cgroup != "/" else ():
                if used.get(cache):
                    found = (size / used[cache], row.cgroup)
                    most[cache] = max(most.get(cache, found), found)
        return most

    @cached_property
    def owners(self) -> Mapping[str, tuple[float, str]]:
        """What most of each cache is, by the last census: its share of the cache, and a text that
        continues a sentence."""
        census = self.snapshot.census
        total: dict[str, int] = {}
        most: dict[str, tuple[int, str]] = {}
        for owner in census.owners if census else ():
            total[owner.cache] = total.get(owner.cache, 0) + owner.bytes
            largest, _ = most.get(owner.cache, (0, ""))
            if owner.certainty != Certainty.UNKNOWN and owner.bytes > largest:
                likely = " (likely)" if owner.certainty == Certainty.LIKELY else ""
                module = f" is module {owner.module}'s{likely}" if owner.module else ""
                most[owner.cache] = (owner.bytes, f"{module}: {owner.signature}")
        return {cache: (size / total[cache], text) for cache, (size, text) in most.items()}
