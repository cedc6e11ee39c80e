# SPDX-License-Identifier: Apache-2.0
"""Sentences for and against a finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from slabmon.base.format import bytes_text, duration
from slabmon.base.parse import show_moment
from slabmon.leaks.attribution import Attribution, cache_named, share
from slabmon.leaks.finding import Finding, Kind
from slabmon.leaks.growth import Case, Growth
from slabmon.model import Mode

_DAY = 86400.0
_MOST = 0.99
_NAMED = 3  # caches
_FEW = 30
_LEAST_LOST = 0.01  # of the growth, for orphans to tell of it


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Orphans of a suspect's caches, and of its module if they have one, at the census of `taken`
    (Unix time). `trusted` says that most of the growth was there by then, and that no table of
    slabmon's own refers to all its objects."""

    objects: int
    bytes: int
    caches: str
    taken: float
    trusted: bool

    @classmethod
    def of(cls, case: Case, finding: Finding, attribution: Attribution) -> Lost | None:
        """Return None if no census has looked for orphans."""
        census, tracking = case.now.census, case.now.tracking
        names = [case.now.caches[row].name for row in attribution.bytes_by_cache]
        if census is None or census.passes < 2 or not names:
            return None
        rows = [
            row
            for row in census.orphans
            if row.cache in names and row.module in (None, attribution.module)
        ]
        age = tracking.since + tracking.seconds + tracking.suspended - census.taken
        return cls(
            objects=sum(row.objects for row in rows),
            bytes=sum(row.bytes for row in rows),
            caches=" and ".join(names[:_NAMED]),
            taken=census.taken,
            trusted=age < finding.window / 2 and tracking.mode != Mode.EXACT,
        )


def favouring(
    case: Case, growth: Growth, finding: Finding, attribution: Attribution
) -> Iterable[str]:
    """Yield the evidence for a leak."""
    steps = np.diff(growth.levels)
    yield (
        f"it grew by {bytes_text(growth.total)} in {duration(finding.window)}, in "
        f"{int((steps > 0).sum())} of {len(steps)} equal parts of that time"
    )
    if growth.rate.first:
        steady = growth.hours * (len(steps) - growth.rate.first) * 3600
        yield f"it has grown at its present rate for {duration(steady)}"
    yield (
        f"the probability of such growth by chance, from sampling and demand, is {growth.p:.0e}, "
        "corrected for the number of series tested"
    )
    if attribution.samples:
        if finding.kind != Kind.DEVICE:
            yield (
                f"{growth.turnover:.0%} of its objects older than "
                f"{duration(growth.stretch.age)} have been freed since"
            )
        yield f"the oldest object of this growth is {duration(attribution.oldest)} old"
        yield from _lifetimes(case, attribution)
    lost = Lost.of(case, finding, attribution)
    if lost is not None and lost.bytes > _LEAST_LOST * growth.total:
        yield (
            f"nothing in the kernel's memory refers to {lost.objects:,} objects "
            f"({bytes_text(lost.bytes)}) of {lost.caches}, as the census of "
            f"{show_moment(lost.taken)} found: they cannot be freed any more"
        )
    if finding.kind == Kind.DEVICE:
        yield "managed memory is counted exactly, resource by resource"
    elif case.now.tracking.mode == Mode.EXACT:
        yield "every allocation that matches the filter is tracked"


def _lifetimes(case: Case, attribution: Attribution) -> Iterable[str]:
    """Yield how long the freed objects of its main cache lived."""
    cache = case.now.caches[next(iter(attribution.bytes_by_cache))]
    counts = np.cumsum(cache.lifetimes)
    if not len(counts) or not counts[-1]:
        return
    decade = int(np.searchsorted(counts, _MOST * counts[-1]))
    if decade < len(counts) - 1 and 10.0 ** (decade - 5) < attribution.oldest:
        yield (
            f"{_MOST:.0%} of the sampled objects of {cache.name} that were freed lived less "
            f"than {duration(10.0 ** (decade - 5))}"
        )


def contrary(
    case: Case, growth: Growth, finding: Finding, attribution: Attribution
) -> Iterable[str]:
    """Yield the evidence against a leak that does not suffice to dismiss it."""
    if finding.window < _DAY:
        yield (
            f"watched for {duration(finding.window)}: a slower warm-up, or a load that rises "
            "and falls with the day, looks the same so far"
        )
    if case.now.tracking.mode != Mode.EXACT and 0 < attribution.samples < _FEW:
        yield f"estimated from {attribution.samples} sampled objects"
    lost = Lost.of(case, finding, attribution)
    if lost is not None and lost.bytes <= _LEAST_LOST * growth.total and lost.trusted:
        yield (
            f"nearly all objects of {lost.caches} were still referred to, as the census of "
            f"{show_moment(lost.taken)} found: no pointer to them was lost, but a list or cache "
            "may grow without bound"
        )
    part = share(attribution, case.now, "reclaimable")
    if part:
        yield f"{part:.0%} of it is reclaimable"
    lost = growth.stretch.lost[-1] - growth.stretch.lost[0]
    if lost:
        yield f"{lost:.0f} events, possibly frees, were lost in that time"
    kind = case.subjects[growth.row][0]
    if kind == Kind.NET and not cache_named(case.now, attribution.name).frees_observable:
        yield (
            "not all frees of this cache can be seen; it is judged by the active objects of "
            "/proc/slabinfo, an upper bound"
        )
    elif kind == Kind.NET:
        yield "too slow for samples: the call site is not known; track the cache exactly"
    if finding.kind == Kind.CACHE and len(attribution.sites) > 1:
        yield f"no single call site stands out: {len(attribution.bytes_by_site)} share it"
