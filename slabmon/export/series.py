# SPDX-License-Identifier: Apache-2.0
"""Bounds the number of series of a host: the largest rows have series of their own, the others are
folded into OTHER.

Caches, call sites and devices share the bound, less a reserve (RESERVED) for families that are
small by nature. Each kind is guaranteed its share, and gets what the others do not need.

A counter must not fall, and a family must have the same sum whichever rows have series. So a row
that gets a series after it was folded starts at 0 there, and its earlier count stays in OTHER; a
row that loses its series leaves its count to OTHER. To keep such moves rare, a row replaces another
only if its score is MARGIN times as large.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings import this module for MAX_SERIES, and must not load numpy
    from slabmon.model import Snapshot

Labels = tuple[str, ...]
Row = tuple[Labels, float]
SeriesValues = dict[Labels, float]

OTHER = "other"
MAX_SERIES = 5000
# Rows of a census by owner and of orphans, in two families each, and by memory cgroup, besides
# OTHER.
MAX_CENSUS_OWNERS, MAX_CENSUS_CGROUPS, MAX_CENSUS_ORPHANS = 40, 20, 20
# Callers, and cgroups that hold live memory, besides OTHER.
MAX_CALLERS, MAX_CGROUPS = 30, 30
# Call sites of pages, and as many of per-CPU memory, besides OTHER.
MAX_PAGE_SITES = 15
# Devices that allocated DMA memory, besides OTHER.
MAX_DMA_DEVICES = 15
# Lines of the kernel's source, in two families, besides OTHER.
MAX_LINES = 10
# Caches with other names, or of a family.
MAX_INFO = 100
# Series reserved for families without a bound: losses, features, programs, page orders, ...; for
# censuses, and for what is known of caches.
RESERVED = 400 + MAX_INFO
MARGIN = 2.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Rows of one kind: their guaranteed share of the bound, their labels, and the measures by
    which they are ranked."""

    share: float
    rows: Callable[[Snapshot], Iterable[Any]]
    labels: Callable[[Any], Labels]
    measures: Callable[[Any], tuple[float, ...]]

    def scores(self, snapshot: Snapshot) -> SeriesValues:
        """Return for each row its largest share of the sum of a measure.

        Sums since tracking began change slowly and survive restarts; live memory shows what is new.
        """
        rows = list(self.rows(snapshot))
        measured = [self.measures(row) for row in rows]
        totals = [sum(column) or 1 for column in zip(*measured, strict=True)]
        scores: SeriesValues = {}
        for row, values in zip(rows, measured, strict=True):
            labels = self.labels(row)
            score = max(value / total for value, total in zip(values, totals, strict=True))
            scores[labels] = scores.get(labels, 0.0) + score
        return scores


KINDS: Mapping[str, Kind] = {
    "cache": Kind(
        share=0.6,
        rows=lambda s: s.caches,
        labels=lambda c: (c.name,),
        measures=lambda c: (
            c.allocated_bytes,
            c.allocs,
            c.live.bytes,
            c.failed,
            c.slabinfo.slab_bytes if c.slabinfo else 0,
        ),
    ),
    "site": Kind(
        share=0.24,
        rows=lambda s: s.sites,
        labels=lambda row: (row.label, row.module or ""),
        measures=lambda row: (row.allocated_bytes, row.allocs, row.live.bytes, row.failed),
    ),
    "device": Kind(
        share=0.16,
        rows=lambda s: s.devices,
        labels=lambda d: (d.bus, d.name, d.driver or ""),
        measures=lambda d: (d.managed_bytes, d.resources, d.added + d.removed),
    ),
}

BOUNDS = (
    f"A host has at most `web.max_series` series ({MAX_SERIES} by default). {RESERVED} of them are "
    "reserved for families that are small by nature, for names of caches, and for a census, of "
    f"which the {MAX_CENSUS_OWNERS} largest owners, the {MAX_CENSUS_CGROUPS} largest cgroups and "
    f"the {MAX_CENSUS_ORPHANS} largest kinds of orphans are shown; of the rest "
    + ", ".join(f"{kind.share:.0%} are for {name}s" for name, kind in KINDS.items())
    + ", and each kind gets what the others do not need. The rows with the largest share of "
    "memory, allocations or failures have series of their own. The others are summed under "
    "`other`; `slabmon_folded_series` is their number. A row replaces another when it is twice as "
    "important (`slabmon_folded_moves_total`): it starts at 0 if it was folded before, and the "
    "other row leaves its count to `other`, so that sums over a family stay the same and no "
    "counter falls. For host-wide totals use the GFP-class families.\n\n"
    "Counters of the host have a start time in OpenMetrics: that of tracking or, for a row that "
    "was folded before, the time at which it got its series. OpenMetrics 2.0 has it as a part of "
    "the sample (`st@`), for all rows. In OpenMetrics 1.0 it is a sample (`_created`), which most "
    "versions of Prometheus store as one more series, so that rows of caches, sites and devices "
    "have none there. `slabmon_request_size_bytes` is also a native histogram (schema 0) for "
    "clients that accept OpenMetrics 2.0."
)


def allot(wanted: Mapping[str, int], families: Mapping[str, int], bound: int) -> dict[str, int]:
    """Return how many rows of each kind may have series of their own, besides OTHER. `wanted` is
    the number of rows, `families` the number of series per row."""
    room = max(0, bound - RESERVED)
    limits = {kind: int(KINDS[kind].share * room / families[kind]) - 1 for kind in wanted}
    left = room - sum(
        (min(wanted[kind], limit) + 1) * families[kind] for kind, limit in limits.items()
    )
    for kind, guaranteed in limits.items():
        # A limit can include room for future rows; only what is used now is taken from the others.
        more = left // families[kind]
        limits[kind] += more
        left -= min(more, max(0, wanted[kind] - guaranteed)) * families[kind]
    return limits


class Folding:
    """The rows of one kind that have series of their own (members), and the counts of the others.

    `folded` is the number of rows without a series, `moves` counts rows that lost theirs.
    """

    def __init__(self) -> None:
        self._members: set[Labels] = set()
        self._limit = sys.maxsize
        # By family: the value of folded rows that OTHER includes; the value of members that it
        # includes from before they were members; the value of OTHER.
        self._folded: dict[str, dict[Labels, float]] = {}
        self._left: dict[str, dict[Labels, float]] = {}
        self._other: dict[str, float] = {}
        self._joined: dict[Labels, float] = {}  # Unix times at which folded rows became members
        self.folded = self.moves = 0

    def choose(self, scores: SeriesValues, limit: int, taken: float = 0.0) -> None:
        """Choose the members, once per snapshot, before its families are folded. `taken` is the
        Unix time of the snapshot.

        The limit only shrinks: if room that another kind has taken were returned, rows would move
        back and forth.
        """
        self._limit = min(limit, self._limit)
        before = self._members & scores.keys()
        ranked = sorted((scores[row], row) for row in before)
        ranked = ranked[max(0, len(ranked) - self._limit) :]
        members = {row for _, row in ranked}
        waiting = sorted(
            (score, row)
            for row, score in scores.items()
            if row not in members and set(row) != {OTHER}
        )
        for _ in range(min(self._limit - len(ranked), len(waiting))):
            members.add(waiting.pop()[1])
        for score, row in ranked:
            if not waiting or waiting[-1][0] <= MARGIN * score:
                break
            members.remove(row)
            members.add(waiting.pop()[1])
        for row in members - before:
            if any(row in folded for folded in self._folded.values()):
                self._joined[row] = taken
        if len(self._joined) > 2 * len(scores) + 1024:
            self._joined = {row: at for row, at in self._joined.items() if row in members}
        self._members = members
        self.moves += len(before - members)
        self.folded = len(scores) - len(members)

    def start(self, row: Labels, since: float) -> float:
        """Return the Unix time at which the counters of a row's series were 0: `since`, when
        tracking began, or when the row got its series after it had been folded."""
        return max(since, self._joined.get(row, since))

    def fold(self, family: str, rows: SeriesValues, counter: bool) -> SeriesValues:
        """Return the values of a family's members, and of OTHER unless it is empty."""
        if not rows:
            return {}
        width = len(next(iter(rows)))
        if not counter:
            shown = {row: value for row, value in rows.items() if row in self._members}
            if len(shown) < len(rows):
                shown[(OTHER,) * width] = sum(
                    value for row, value in rows.items() if row not in self._members
                )
            return shown
        folded, left = self._folded.setdefault(family, {}), self._left.setdefault(family, {})
        other = self._other.get(family, 0)
        shown = {}
        for row, value in rows.items():
            member = row in self._members
            if not member or row in folded:
                last = folded.pop(row, None)
                if last is None:
                    last = left.pop(row, 0)
                other += value - last if value >= last else value
                (left if member else folded)[row] = value
            if member:
                start = left.get(row, 0)
                # A new row of the same name; or a counter below 0, in a recording.
                if value < start:
                    left.pop(row, None)
                    start = 0
                shown[row] = value - start
        self._other[family] = other
        if other or folded:
            shown[(OTHER,) * width] = other
        for known in (folded, left):
            if len(known) > 2 * len(rows) + 1024:
                for row in known.keys() - rows.keys():
                    del known[row]
        return shown
