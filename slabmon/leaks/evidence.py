# SPDX-License-Identifier: Apache-2.0
"""Sentences for and against a finding."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import dropwhile, islice

import numpy as np

from slabmon.analysis.callers import function_of, is_helper
from slabmon.base.format import bytes_text, duration
from slabmon.base.parse import show_moment
from slabmon.leaks.attribution import Attribution, cache_named, share
from slabmon.leaks.dismissals import MIXED, lost_events, oom_kills
from slabmon.leaks.finding import Finding, Kind
from slabmon.leaks.growth import Case, Growth
from slabmon.leaks.orphans import LEAST, find_orphans
from slabmon.model import Mode, Snapshot

_DAY = 86400.0
_MOST = 0.99
_FEW = 30
_SMALLEST = 1e-99  # probability that is shown
_FRAMES = 8  # of a stack, from the first one on that is no helper


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
    yield _chance(growth)
    if attribution.holders.processes:
        yield f"most of it was allocated by {', '.join(attribution.holders.processes)}"
    if attribution.samples:
        if finding.kind != Kind.DEVICE:
            yield (
                f"{growth.turnover:.0%} of its objects older than "
                f"{duration(growth.stretch.age)} have been freed since"
            )
        yield f"the oldest object of this growth is {duration(attribution.oldest)} old"
        yield from _lifetimes(case, attribution)
    lost = find_orphans(case.now, attribution, finding.window)
    if lost is not None and lost.bytes > LEAST * growth.total:
        yield (
            f"nothing in the kernel's memory refers to {lost.objects:,} objects "
            f"({bytes_text(lost.bytes)}) of {lost.caches}, as the census of {lost.when} found, "
            "any from before this growth included: they cannot be freed any more"
        )
    yield from _killed(case, growth, attribution)
    yield from examined(case.now, finding, survived=True)
    if finding.kind == Kind.DEVICE:
        yield "managed memory is counted exactly, resource by resource"
    elif case.now.tracking.mode == Mode.EXACT:
        yield "every allocation that matches the filter is tracked"


def _chance(growth: Growth) -> str:
    chance = f"{growth.p:.0e}" if growth.p > _SMALLEST else f"below {_SMALLEST:.0e}"
    batches = growth.batches
    if batches is None:
        return (
            f"the probability of such growth by chance, from sampling and demand, is "
            f"{chance}, corrected for the number of series tested"
        )
    return (
        f"it came in {batches.count} batches of about {bytes_text(batches.size)}, one every "
        f"{duration(batches.every)}, and all stayed: the probability by chance is {chance}, "
        "if each were as likely to be freed before the next one as not"
    )


def _killed(case: Case, growth: Growth, attribution: Attribution) -> Iterable[str]:
    """Yield that memory which can be reclaimed was not, when it was needed."""
    killed = oom_kills(case, growth, attribution)
    if killed is not None and share(attribution, case.now, "reclaimable") >= MIXED:
        cgroup, kills = killed
        yield (
            f"it is marked as reclaimable, but was not reclaimed: meanwhile {kills:.0f} processes "
            f"of {cgroup}, which holds most of it, were killed for lack of memory (memory.events)"
        )


def examined(now: Snapshot, finding: Finding, *, survived: bool) -> Iterable[str]:
    """Yield what exact tracking of the suspect, or of one of its sites and caches, has shown, if
    objects have `survived`, or if none has."""
    names = {
        ("site", name) for name in (*finding.sites, *([finding.name] * (finding.kind == Kind.SITE)))
    } | {("cache", name) for name in finding.caches}
    latest = {(each.kind, each.name): each for each in now.examinations}
    for key, each in latest.items():
        if key not in names or bool(each.survivors) != survived:
            continue
        checked = ", of which the slabs were read to be sure" if each.verified else ""
        yield (
            f"{each.kind} {each.name} was tracked exactly for {duration(each.seconds)} until "
            f"{show_moment(each.taken)}: {each.survivors:,} objects "
            f"({bytes_text(each.survivor_bytes)}) of {each.allocs:,} allocated then were live "
            f"after {duration(each.age)}{checked}"
        )
        if each.stacks:
            largest = each.stacks[0]
            callers = dropwhile(lambda frame: is_helper(function_of(frame)), largest.frames)
            yield (
                f"{largest.objects:,} of these are of {largest.site}, by {largest.process} in "
                f"{largest.cgroup}: {' < '.join(islice(callers, _FRAMES))}"
            )


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
    yield from examined(case.now, finding, survived=False)
    if finding.window < _DAY:
        yield (
            f"watched for {duration(finding.window)}: a slower warm-up, or a load that rises "
            "and falls with the day, looks the same so far"
        )
    if case.now.tracking.mode != Mode.EXACT and 0 < attribution.samples < _FEW:
        yield f"estimated from {attribution.samples} sampled objects"
    lost = find_orphans(case.now, attribution, finding.window)
    if lost is not None and lost.bytes <= LEAST * growth.total and lost.trusted:
        yield (
            f"nearly all objects of {lost.caches} were still referred to, as the census of "
            f"{lost.when} found: no pointer to them was lost, but a list or cache may grow without "
            "bound"
        )
    part = share(attribution, case.now, "reclaimable")
    if part:
        yield f"{part:.0%} of it is reclaimable"
    events = lost_events(case, growth, attribution)
    if events:
        yield f"{events:.0f} events, possibly frees, were lost in that time"
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
