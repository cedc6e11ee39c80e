# SPDX-License-Identifier: Apache-2.0
"""Checks that dismiss statistically significant growth as not a leak.

CHECKS is the list: one function per code of finding.Dismissal, tried in order. Each returns the
reason in words, or "" if it does not apply. DISMISSED_SITE alone is decided elsewhere, where all
findings are known (attribution.without_explained).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.format import bytes_text, duration
from slabmon.base.losses import lost_frees
from slabmon.base.names import is_kmalloc
from slabmon.leaks.attribution import Attribution, cache_named, share
from slabmon.leaks.drift import blocks, correlation_chance, drawdown, drift
from slabmon.leaks.finding import Dismissal, Kind
from slabmon.leaks.growth import Case, Growth
from slabmon.leaks.holders import process_key
from slabmon.leaks.orphans import LEAST, find_orphans
from slabmon.leaks.pace import trend
from slabmon.model import Mode

BURST = 1 / 3  # share of the growth in one block
SLOWED = 0.5  # growth of the last quarter, relative to the mean
DECLINE, DECLINE_ERRORS = 0.5, 1.64
WARM_UP_SECONDS = 7200.0  # the longest time constant of a warm-up looked for in short windows
TURNOVER = 0.35  # share of old bytes that were freed
FALL = 0.7  # an earlier fall, relative to the growth
BOOT_SECONDS = 600.0
MIXED = 0.5
SAMPLES = 8
CONFIRMED = 0.3
STAYS = 0.02
HELD = 0.7  # share of the objects that come with a descriptor
_NAMED = 3  # processes
_CHANCE = 1e-3
_MANY = 2.5  # standard errors


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """Growth under examination. `claimed` is the growth of caches, in bytes per hour by name, that
    call sites accepted before account for."""

    case: Case
    growth: Growth
    kind: Kind
    attribution: Attribution
    claimed: Mapping[str, float]


@dataclass(frozen=True)
class Examination:
    """The result of examine(): the code and the reason in words, or None and "" if nothing
    dismisses the growth. `claims` is the growth of caches, in bytes per hour by name, that a call
    site which was not dismissed accounts for."""

    dismissal: Dismissal | None = None
    reason: str = ""
    claims: dict[str, float] = field(default_factory=dict)


def examine(suspicion: Suspicion) -> Examination:
    """Return the first dismissal that applies."""
    for dismissal, check in CHECKS.items():
        if suspicion.growth.batches is not None and dismissal in _OF_STEADY_GROWTH:
            continue
        reason = check(suspicion)
        if reason:
            return Examination(dismissal, reason)
    return Examination(claims=_claims(suspicion) if suspicion.kind == Kind.SITE else {})


def _reclaimable(s: Suspicion) -> str:
    part = (
        float(cache_named(s.case.now, s.attribution.name).reclaimable)
        if s.kind == Kind.NET
        else share(s.attribution, s.case.now, "reclaimable")
    )
    if part >= MIXED and oom_kills(s.case, s.growth, s.attribution) is None:
        return f"{part:.0%} of it is reclaimable: the kernel frees it under memory pressure"
    return ""


def oom_kills(case: Case, growth: Growth, attribution: Attribution) -> tuple[str, float] | None:
    """Return the cgroup that holds most of a growth, and how many of its processes were killed for
    lack of memory meanwhile; None if none were.

    The cgroup above it counts too, unless that is the root: that of a container is removed with it.
    """
    for path, share_of_all in attribution.share_by_cgroup.items():
        if share_of_all < MIXED:
            return None
        for cgroup in (path, path.rpartition("/")[0]):
            row = case.rows.get((Kind.OOM_KILLS, cgroup))
            if cgroup and row is not None:
                level = growth.stretch.level[:, row]
                if level[-1] > level[0]:
                    return cgroup, float(level[-1] - level[0])
    return None


def _demand(s: Suspicion) -> str:
    """Whether processes that run hold it: they have opened as many descriptors meanwhile.

    What the kernel loses when a process closes a descriptor is not in these, nor is what a census
    finds that nothing refers to.
    """
    stretch = s.growth.stretch
    lost = find_orphans(s.case.now, s.attribution, stretch.seconds)
    if lost is not None and lost.bytes > LEAST * s.growth.total:
        return ""
    counted = opened = 0.0
    names = []
    for held in s.attribution.running:
        row = s.case.rows.get((Kind.DESCRIPTORS, process_key(held.process)))
        if row is not None:
            more = float(stretch.level[-1, row] - stretch.level[0, row])
            if more > 0:
                opened += more
                counted += min(held.objects, more)
                names.append(held.name)
    if not counted or counted * (1 + _MANY * _sampling_error(s.attribution)) < (
        HELD * s.attribution.objects
    ):
        return _opened_alike(s)
    referred = (
        f", and the census of {lost.when} found all of it referred to"
        if lost is not None and lost.trusted
        else ""
    )
    return (
        f"demand: {' and '.join(list(dict.fromkeys(names))[:_NAMED])}, which runs, opened "
        f"{opened:,.0f} more descriptors meanwhile, for about {s.attribution.objects:,.0f} objects"
        f"{referred}"
    )


def _sampling_error(attribution: Attribution) -> float:
    """Return the standard error of the number of objects, relative to it: 0 if all are tracked."""
    tracked = attribution.samples / max(attribution.objects, 1.0)
    return math.sqrt(max(0.0, 1 - tracked) / max(attribution.samples, 1))


def _opened_alike(s: Suspicion) -> str:
    """Whether a cache too slow for samples grows with the descriptors of one process: both are
    counted exactly."""
    if s.kind != Kind.NET:
        return ""
    stretch = s.growth.stretch
    objects = s.growth.total / max(1, cache_named(s.case.now, s.attribution.name).occupied_bytes)
    rows = [(str(key), row) for (kind, key), row in s.case.rows.items() if kind == Kind.DESCRIPTORS]
    for key, row in rows:
        level = stretch.level[:, row : row + 1]
        opened = float(level[-1, 0] - level[0, 0])
        if opened < HELD * objects:
            continue
        p = correlation_chance(np.diff(s.growth.levels), np.diff(blocks(level)[:, 0]))
        if p * len(rows) < _CHANCE:
            return (
                f"demand: process {key.partition('@')[0]}, which runs, opened {opened:,.0f} more "
                f"descriptors in step with it, for {objects:,.0f} objects"
            )
    return ""


def _boot(s: Suspicion) -> str:
    passed = s.case.now.tracking.seconds - float(s.growth.stretch.taken[0])
    up = s.case.now.tracked.now_ns / 1e9 - passed
    if up < BOOT_SECONDS:
        return f"the window begins {duration(max(0.0, up))} after boot, while services start"
    return ""


def _module_load(s: Suspicion) -> str:
    seen = s.case.modules.get(s.attribution.module, -np.inf)
    passed = s.case.now.tracking.seconds - seen
    if passed < s.case.seconds:
        return f"the module {s.attribution.module} was loaded or first used {duration(passed)} ago"
    return ""


def _burst(s: Suspicion) -> str:
    part = float(np.diff(s.growth.levels).max()) / s.growth.total
    if part > BURST:
        return f"{part:.0%} of the growth came at once"
    return ""


def _plateau(s: Suspicion) -> str:
    levels = s.growth.levels
    quarter = (len(levels) - 1) // 4
    ratio = float(levels[-1] - levels[-1 - quarter]) / quarter / s.growth.mean
    if ratio >= SLOWED:
        return ""
    unseen = [
        cache.name
        for cache in s.case.now.caches
        if cache.name in s.attribution.caches and not cache.frees_observable
    ]
    if unseen:
        return f"how it went on is not known: what is freed from {', '.join(unseen)} is not seen"
    return f"it levels off: its latest growth is {ratio:.0%} of the mean rate"


def _warm_up(s: Suspicion) -> str:
    """Whether growth declines, by itself or, where most of what is allocated stays, according to
    the exact count of allocations."""
    series = [s.growth.levels]
    allocated = s.growth.stretch.allocated[:, s.growth.row]
    if not np.isnan(allocated).any():
        levels = blocks(allocated[:, None])[:, 0]
        if s.growth.total > MIXED * (levels[-1] - levels[0]) > 0:
            series.append(levels)
    least = min(DECLINE, s.growth.stretch.seconds / WARM_UP_SECONDS)
    for levels in series:
        change, errors = trend(np.arange(len(levels), dtype=float), levels)
        if -change > least and -errors > DECLINE_ERRORS:
            return (
                f"growth declines, by {min(-change, 2.0):.0%} of its mean over the window: "
                "a warm-up"
            )
    return ""


def _turnover(s: Suspicion) -> str:
    if s.growth.turnover > TURNOVER:
        return (
            f"{s.growth.turnover:.0%} of the objects older than {duration(s.growth.stretch.age)} "
            "have been freed since: it turns over"
        )
    return ""


def _periodic(s: Suspicion) -> str:
    for stretch in s.case.stretches:
        fall = drawdown(stretch.level[:, s.growth.row])
        if fall > FALL * s.growth.total:
            return f"it fell by {bytes_text(fall)} before: it comes and goes"
    return ""


def _over(s: Suspicion) -> str:
    """Whether growth at the mean rate of the whole window has ceased at a shorter scale."""
    growth, row = s.growth, s.growth.row
    for stretch in s.case.stretches:
        if stretch.age > growth.stretch.age:  # recent objects are not old enough to be seen there
            continue
        count = len(stretch.moments)
        for first in (count // 2, 3 * count // 4):
            part = stretch.since(first)
            if len(part.moments) < 2 or part.seconds >= growth.stretch.seconds:
                continue
            expected = growth.mean / growth.hours * part.seconds / 3600
            grown = float(part.level[-1, row] - part.level[0, row])
            variance = float(part.variance[-1, row] - part.variance[0, row])
            error = np.sqrt(max(variance, expected * _event_bytes(growth)))
            if expected > 0 and SLOWED * expected - grown > _MANY * error:
                return f"it stopped: {bytes_text(grown)} in the last {duration(part.seconds)}"
    return ""


def _event_bytes(growth: Growth) -> float:
    """Return the bytes that come together, from the scatter of the blocks' growth."""
    return float(np.diff(growth.levels).var(ddof=1)) / growth.mean


def _not_confirmed_by_samples(s: Suspicion) -> str:
    """Whether samples fail to show exact growth that they would show if it consisted of objects
    that survive."""
    now, growth, name = s.case.now, s.growth, s.attribution.name
    interval = now.tracking.sample_bytes
    if s.kind != Kind.NET or not interval or not cache_named(now, name).frees_observable:
        return ""
    if growth.total < SAMPLES * interval:
        allocated = growth.stretch.allocated[:, growth.row]
        passed = float(np.nanmax(allocated) - np.nanmin(allocated))
        if growth.total < STAYS * passed:
            return f"less than {STAYS:.0%} of what was allocated stays: too little to tell"
        return ""
    stretch, row = growth.stretch, s.case.rows.get((Kind.CACHE, name))
    grown = freed = 0.0
    if row is not None:
        grown = float(stretch.level[-1, row] - stretch.level[0, row])
        freed = float(stretch.gone[-1, row] - stretch.gone[0, row])
    if grown < MIXED * growth.total or freed > TURNOVER * (freed + grown):
        return (
            f"of its objects older than {duration(stretch.age)}, {bytes_text(freed)} were freed "
            f"and {bytes_text(max(0.0, grown))} more are live: samples do not confirm it"
        )
    return ""


def lost_events(case: Case, growth: Growth, attribution: Attribution) -> float:
    """Return how many lost events of the window may be frees of these objects, at most."""
    lost = float(growth.stretch.lost[-1] - growth.stretch.lost[0])
    if case.subjects[growth.row][0] == Kind.NET:
        caches = [cache_named(case.now, attribution.name)]
    else:
        caches = [case.now.caches[row] for row in attribution.bytes_by_cache]
    if caches and all(is_kmalloc(cache.name) and not cache.aliases for cache in caches):
        lost = min(lost, lost_frees(case.now.losses, kmalloc=True))
    return lost


def _losses(s: Suspicion) -> str:
    if s.kind == Kind.DEVICE:
        return ""
    lost = lost_events(s.case, s.growth, s.attribution)
    if s.kind == Kind.NET:
        size = cache_named(s.case.now, s.attribution.name).occupied_bytes
        objects = s.growth.total / max(1, size)
    else:
        objects = s.attribution.objects
    if lost > MIXED * objects:
        return (
            f"{lost:.0f} events, possibly frees, were lost in the window: enough to explain the "
            "growth"
        )
    return ""


def _not_confirmed_by_counters(s: Suspicion) -> str:
    """Whether the exact counters of its caches do not show the growth.

    Objects allocated before tracking began are not tracked; only those counters show their frees.
    Growth of a cache that call sites accepted before account for confirms no other site.
    """
    if s.kind in (Kind.NET, Kind.DEVICE):
        return ""
    stretch, rows = s.growth.stretch, s.case.rows
    net = attributed = variance = 0.0
    for number, size in s.attribution.bytes_by_cache.items():
        name = s.case.now.caches[number].name
        row = rows.get((Kind.NET, name))
        attributed += size
        if row is None:
            continue
        levels = blocks(stretch.level[:, row : row + 1])
        measured = drift(levels, np.zeros(1))
        count = len(levels) - 1
        net += float(measured.mean[0]) * count
        if s.kind == Kind.SITE:
            net -= s.claimed.get(name, 0.0) * stretch.seconds / 3600
        variance += float(measured.error[0] * count) ** 2
    attributed = min(attributed, s.growth.total)
    error = float(np.sqrt(variance))
    # In exact mode it is enough that the counters do not contradict.
    allowance = error if s.case.now.tracking.mode == Mode.EXACT else -error
    if net + allowance < CONFIRMED * attributed:
        return (
            f"the exact counters of its caches grew by {bytes_text(max(0.0, net))} (error "
            f"{bytes_text(error)}) beyond other growth there, which does not confirm it: it may "
            "replace what was allocated before tracking began"
        )
    return ""


def _claims(s: Suspicion) -> dict[str, float]:
    hours = s.growth.stretch.seconds / 3600
    return {
        s.case.now.caches[number].name: size / hours
        for number, size in s.attribution.bytes_by_cache.items()
    }


CHECKS: Mapping[Dismissal, Callable[[Suspicion], str]] = {
    Dismissal.RECLAIMABLE: _reclaimable,
    Dismissal.DEMAND: _demand,
    Dismissal.BOOT: _boot,
    Dismissal.MODULE_LOAD: _module_load,
    Dismissal.BURST: _burst,
    Dismissal.PLATEAU: _plateau,
    Dismissal.WARM_UP: _warm_up,
    Dismissal.TURNOVER: _turnover,
    Dismissal.PERIODIC: _periodic,
    Dismissal.OVER: _over,
    Dismissal.NOT_CONFIRMED_BY_SAMPLES: _not_confirmed_by_samples,
    Dismissal.LOSSES: _losses,
    Dismissal.NOT_CONFIRMED_BY_COUNTERS: _not_confirmed_by_counters,
}
# What says nothing of growth that comes in batches, which find_batches() has checked itself.
_OF_STEADY_GROWTH = (Dismissal.BURST, Dismissal.PLATEAU, Dismissal.WARM_UP, Dismissal.OVER)
