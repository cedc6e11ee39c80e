# SPDX-License-Identifier: Apache-2.0
"""Which rows have series of their own, within a bound for the whole host; the others are added up
under OTHER.

Caches, call sites and devices share what is left of the bound after everything whose number is
small by nature (RESERVED). Each kind is sure of its share; what one does not need the others get.

A counter must not fall, and its family must add up to the same sum whichever rows are shown. So a
row that gets a series of its own after it was folded begins at 0 there, and what it counted before
stays in OTHER; a row that loses its series leaves what it counted to OTHER. Only what is small
moves: a row takes another's place when its score is MARGIN times as large.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings need the default of the bound, and no numpy
    from slabmon.model import Snapshot

Labels = tuple[str, ...]
Row = tuple[Labels, float]
Rows = dict[Labels, float]

OTHER = "other"
MAX_SERIES = 5000
# Series of families without a bound of their own: losses, features, programs, page orders, ...
RESERVED = 400
MARGIN = 2.0


@dataclass(frozen=True)
class Kind:
    """Rows of one kind: their labels, what makes one of them important, and the part of the bound
    that is theirs in any case."""

    share: float
    rows: Callable[[Snapshot], Iterable[Any]]
    labels: Callable[[Any], Labels]
    measures: Callable[[Any], tuple[float, ...]]

    def scores(self, snapshot: Snapshot) -> Rows:
        """Of each row the largest share it has of any measure's sum. Sums since tracking began
        change slowly and are the same after a restart; live memory shows what is new."""
        rows = list(self.rows(snapshot))
        measured = [self.measures(row) for row in rows]
        totals = [sum(column) or 1 for column in zip(*measured, strict=True)]
        found: Rows = {}
        for row, values in zip(rows, measured, strict=True):
            labels = self.labels(row)
            score = max(value / total for value, total in zip(values, totals, strict=True))
            found[labels] = found.get(labels, 0.0) + score
        return found


KINDS: Mapping[str, Kind] = {
    "cache": Kind(
        0.58,
        lambda s: s.caches,
        lambda c: (c.name,),
        lambda c: (
            c.allocated_bytes,
            c.allocs,
            c.live.bytes,
            c.failed,
            c.slabinfo.slab_bytes if c.slabinfo else 0,
        ),
    ),
    "site": Kind(
        0.25,
        lambda s: s.sites,
        lambda row: (row.label, row.module or ""),
        lambda row: (row.allocated_bytes, row.allocs, row.live.bytes, row.failed),
    ),
    "device": Kind(
        0.17,
        lambda s: s.devices,
        lambda d: (d.bus, d.name, d.driver or ""),
        lambda d: (d.managed_bytes, d.resources, d.added + d.removed),
    ),
}

BOUNDS = (
    f"A host has at most `web.max_series` series ({MAX_SERIES} by default). {RESERVED} of them are "
    "for families that are small by nature; of the rest "
    + ", ".join(f"{kind.share:.0%} are for {name}s" for name, kind in KINDS.items())
    + ", and what one of these does not need the others get. The largest have series of their own: "
    "by their share of memory, allocations, failures. The rest is added up under `other`, and "
    "`slabmon_folded_series` says how many label sets that are. A row takes another's place when "
    "it is twice as important (`slabmon_folded_moves_total`): it begins at 0 if it was folded "
    "before, and the other leaves what it counted to `other`, so that families add up to the same "
    "sum and no counter falls. Who needs the sum of all takes the families of GFP classes."
)


def allot(wanted: Mapping[str, int], families: Mapping[str, int], bound: int) -> dict[str, int]:
    """Rows of each kind that may have series of their own, one of which is OTHER's. `wanted`: rows
    there are; `families`: series of a row."""
    room = max(0, bound - RESERVED)
    found = {kind: int(KINDS[kind].share * room / families[kind]) - 1 for kind in wanted}
    left = room - sum(
        (min(wanted[kind], limit) + 1) * families[kind] for kind, limit in found.items()
    )
    for kind, limit in found.items():
        # All that is left, so that rows to come have room; what is taken now, others do not get.
        more = left // families[kind]
        found[kind] += more
        left -= min(more, max(0, wanted[kind] - limit)) * families[kind]
    return found


class Chosen:
    """The rows of one kind that have series of their own, and what the others counted."""

    def __init__(self) -> None:
        self._members: set[Labels] = set()
        self._limit = sys.maxsize
        # By family: of folded rows the value that is in OTHER; of members what is, from before
        # they were members; OTHER itself.
        self._folded: dict[str, dict[Labels, float]] = {}
        self._left: dict[str, dict[Labels, float]] = {}
        self._other: dict[str, float] = {}
        self.folded = self.moves = 0

    def choose(self, scores: Rows, limit: int) -> None:
        """Once per snapshot, before its families are folded. The limit only shrinks: what others
        take over is not given back, or rows would move to and fro."""
        self._limit = min(limit, self._limit)
        before = self._members & scores.keys()
        kept = sorted((scores[row], row) for row in before)
        kept = kept[max(0, len(kept) - self._limit) :]
        members = {row for _, row in kept}
        waiting = sorted(
            (score, row)
            for row, score in scores.items()
            if row not in members and set(row) != {OTHER}
        )
        for _ in range(min(self._limit - len(kept), len(waiting))):
            members.add(waiting.pop()[1])
        for score, row in kept:
            if not waiting or waiting[-1][0] <= MARGIN * score:
                break
            members.remove(row)
            members.add(waiting.pop()[1])
        self._members = members
        self.moves += len(before - members)
        self.folded = len(scores) - len(members)

    def fold(self, family: str, rows: Rows, counter: bool) -> Rows:
        """The family's rows with series of their own, and OTHER if there is anything in it."""
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
                # Another row of this name, which began anew; or a recording's counter below 0.
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
