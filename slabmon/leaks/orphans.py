# SPDX-License-Identifier: Apache-2.0
"""What the last census says of a growth: which of its objects nothing refers to any more."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.base.parse import show_moment
from slabmon.leaks.attribution import Attribution
from slabmon.model import Mode, Snapshot

_NAMED = 3  # caches
# Share of a growth from which on orphans tell of it.
LEAST = 0.01


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """Orphans of a suspect's caches, and of its module if they have one, at the census of `taken`
    (Unix time). `trusted` says that most of the growth was there by then, and that no table of
    slabmon's own refers to all its objects."""

    objects: int
    bytes: int
    caches: str
    taken: float
    trusted: bool

    @property
    def when(self) -> str:
        """When the census was taken, as text."""
        return show_moment(self.taken)


def find_orphans(now: Snapshot, attribution: Attribution, window: float) -> Orphans | None:
    """Return those of a growth of the last `window` seconds, None if no census has looked for
    orphans."""
    census, tracking = now.census, now.tracking
    names = [now.caches[row].name for row in attribution.bytes_by_cache]
    if census is None or census.passes < 2 or not names:
        return None
    rows = [
        row
        for row in census.orphans
        if row.cache in names and row.module in (None, attribution.module)
    ]
    age = tracking.since + tracking.seconds + tracking.suspended - census.taken
    return Orphans(
        objects=sum(row.objects for row in rows),
        bytes=sum(row.bytes for row in rows),
        caches=" and ".join(names[:_NAMED]),
        taken=census.taken,
        trusted=age < window / 2 and tracking.mode != Mode.EXACT,
    )


def orphan_bytes(now: Snapshot, attribution: Attribution) -> int | None:
    """Return how many bytes of its caches nothing refers to, None if that is not known."""
    found = find_orphans(now, attribution, 0.0)
    return None if found is None else found.bytes
