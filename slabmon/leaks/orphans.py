# SPDX-License-Identifier: Apache-2.0
"""What the last census says of a growth: how many objects of its caches nothing refers to any more.

A census does not tell when they were allocated, nor by whom: they may be from before the growth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slabmon.base.parse import show_moment
from slabmon.leaks.attribution import Attribution
from slabmon.leaks.growth import Established
from slabmon.model import Mode, Snapshot

_NAMED = 3  # caches
# Share of a growth from which on orphans tell of it.
LEAST = 0.01


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """Orphans of a suspect's caches, and of its modules if they have one, at the census of `taken`
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
    modules = _modules(now, attribution)
    rows = [row for row in census.orphans if row.cache in names and row.module in modules]
    age = tracking.since + tracking.seconds + tracking.suspended - census.taken
    return Orphans(
        objects=sum(row.objects for row in rows),
        bytes=sum(row.bytes for row in rows),
        caches=" and ".join([*names[:_NAMED], *(["others"] if len(names) > _NAMED else [])]),
        taken=census.taken,
        trusted=age < window / 2 and tracking.mode != Mode.EXACT,
    )


def _modules(now: Snapshot, attribution: Attribution) -> set[str | None]:
    """Return the modules that orphans of a growth can be of, None for those of no known one."""
    return {None, *(now.sites[row].module for row in attribution.bytes_by_site)}


def orphan_bytes(now: Snapshot, growths: Sequence[Established]) -> int | None:
    """Return how many bytes of these growths can be orphans: those of each cache, counted once, but
    at most what grew there. None if no census has looked for them."""
    census = now.census
    grown: dict[str, float] = {}
    modules: dict[str, set[str | None]] = {}
    for growth, attribution in ((each.growth, each.attribution) for each in growths):
        per_byte = growth.total / max(1.0, attribution.bytes)
        for row, size in attribution.bytes_by_cache.items():
            name = now.caches[row].name
            grown[name] = grown.get(name, 0.0) + size * per_byte
            modules.setdefault(name, set()).update(_modules(now, attribution))
    if census is None or census.passes < 2 or not grown:
        return None
    found = Counter[str]()
    for orphans in census.orphans:
        if orphans.module in modules.get(orphans.cache, ()):
            found[orphans.cache] += orphans.bytes
    return round(sum(min(found[name], most) for name, most in grown.items()))
