# SPDX-License-Identifier: Apache-2.0
"""What speaks against a leak so strongly that growth is no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slabmon.base.format import duration, human
from slabmon.leaks.attribution import Behind, cache_of, share
from slabmon.leaks.drift import blocks, decline, drawdown, drift
from slabmon.leaks.finding import CACHE, DEVICE, NET, SITE
from slabmon.model import Mode

if TYPE_CHECKING:
    from slabmon.leaks.growth import Case, Grown

BURST = 1 / 3  # share of the growth in one block
SLOWED = 0.5  # growth of the last quarter, of the mean
DECLINE, DECLINE_ERRORS = 0.5, 1.64
WARM_UP_SECONDS = 7200.0  # a time constant up to which a decline is looked for in short windows
TURNOVER = 0.35  # share of old bytes that were freed
FALL = 0.7  # an earlier fall, of the growth
BOOT_SECONDS = 600.0
MIXED = 0.5
SAMPLES = 8
CONFIRMED = 0.3
STAYS = 0.02
_MANY = 2.5  # standard errors


def size(value: float) -> str:
    """Bytes in a sentence."""
    return human(round(value), "bytes")


def examine(case: Case, found: Grown, kind: str, about: Behind) -> str:
    """Why it is no verdict, "" if nothing says so."""
    for check in (
        _reclaimable,
        _booting,
        _new_module,
        _burst,
        _slowed,
        _declining,
        _turned_over,
        _fell_before,
        _stopped,
        _unconfirmed,
        _lost,
        _replaced,
    ):
        problem = check(case, found, kind, about)
        if problem:
            return problem
    return ""


def _reclaimable(case: Case, found: Grown, kind: str, about: Behind) -> str:
    part = (
        float(cache_of(case.now, about.name).reclaimable)
        if kind == NET
        else share(about, case.now, "reclaimable")
    )
    if part >= MIXED:
        return f"{part:.0%} of it is reclaimable: the kernel gives it back under memory pressure"
    return ""


def _booting(case: Case, found: Grown, kind: str, about: Behind) -> str:
    up = case.now.tracked.now_ns / 1e9 - found.stretch.seconds
    if up < BOOT_SECONDS:
        return f"the window begins {duration(max(0.0, up))} after boot, while services start"
    return ""


def _new_module(case: Case, found: Grown, kind: str, about: Behind) -> str:
    seen = case.modules.get(about.module, -np.inf)
    passed = case.now.tracking.seconds - seen
    if passed < case.seconds:
        return f"the module {about.module} was loaded or first used {duration(passed)} ago"
    return ""


def _burst(case: Case, found: Grown, kind: str, about: Behind) -> str:
    part = float(np.diff(found.levels).max()) / found.total
    if part > BURST:
        return f"{part:.0%} of the growth came at once"
    return ""


def _slowed(case: Case, found: Grown, kind: str, about: Behind) -> str:
    count = len(found.levels) - 1
    last = float(found.levels[-1] - found.levels[-1 - count // 4])
    ratio = last / (count // 4) / found.mean
    if ratio < SLOWED:
        return f"it levels off: lately it grew at {ratio:.0%} of its mean pace"
    return ""


def _declining(case: Case, found: Grown, kind: str, about: Behind) -> str:
    """A warm-up: growth declines, by itself or as the exact count of allocations shows where most
    of what is allocated stays."""
    series = [found.levels]
    allocated = found.stretch.allocated[:, found.row]
    if not np.isnan(allocated).any():
        levels = blocks(allocated[:, None])[:, 0]
        if found.total > MIXED * (levels[-1] - levels[0]) > 0:
            series.append(levels)
    least = min(DECLINE, found.stretch.seconds / WARM_UP_SECONDS)
    for levels in series:
        fall, errors = decline(levels)
        if fall > least and errors > DECLINE_ERRORS:
            return (
                f"growth declines, by {min(fall, 2.0):.0%} of its mean over the window: a warm-up"
            )
    return ""


def _turned_over(case: Case, found: Grown, kind: str, about: Behind) -> str:
    if found.turnover > TURNOVER:
        return (
            f"{found.turnover:.0%} of what outlived {duration(found.stretch.age)} was freed "
            "since: it turns over"
        )
    return ""


def _fell_before(case: Case, found: Grown, kind: str, about: Behind) -> str:
    for stretch in case.stretches:
        fall = drawdown(stretch.level[:, found.row])
        if fall > FALL * found.total:
            return f"it fell by {size(fall)} before: it comes and goes"
    return ""


def _stopped(case: Case, found: Grown, kind: str, about: Behind) -> str:
    """Whether the pace of the whole window is gone at a shorter scale."""
    for stretch in case.stretches:
        if stretch.age > found.stretch.age:  # where the latest is not old enough to be seen
            continue
        count = len(stretch.moments)
        for first in (count // 2, 3 * count // 4):
            part = stretch.since(first)
            if len(part.moments) < 2 or part.seconds >= found.stretch.seconds:
                continue
            expected = found.mean / found.hours * part.seconds / 3600
            grown = float(part.level[-1, found.row] - part.level[0, found.row])
            variance = float(part.variance[-1, found.row] - part.variance[0, found.row])
            per_event = _event(found)
            error = np.sqrt(max(variance, expected * per_event))
            if expected > 0 and SLOWED * expected - grown > _MANY * error:
                return f"it stopped: {size(grown)} in the last {duration(part.seconds)}"
    return ""


def _event(found: Grown) -> float:
    """Bytes that come together, from how much the growth of blocks scatters."""
    return float(np.diff(found.levels).var(ddof=1)) / found.mean


def _unconfirmed(case: Case, found: Grown, kind: str, about: Behind) -> str:
    """Exact growth that samples would show, if it were made of survivors."""
    interval = case.now.tracking.sample_bytes
    if kind != NET or not cache_of(case.now, about.name).frees_observable:
        return ""
    if not interval:
        return ""
    if found.total < SAMPLES * interval:
        allocated = found.stretch.allocated[:, found.row]
        passed = float(np.nanmax(allocated) - np.nanmin(allocated))
        if found.total < STAYS * passed:
            return f"less than {STAYS:.0%} of what was allocated stays: too little to tell"
        return ""
    stretch, rows = found.stretch, {subject: i for i, subject in enumerate(case.subjects)}
    row = rows.get((CACHE, about.name))
    grown = freed = 0.0
    if row is not None:
        grown = float(stretch.level[-1, row] - stretch.level[0, row])
        freed = float(stretch.gone[-1, row] - stretch.gone[0, row])
    if grown < MIXED * found.total or freed > TURNOVER * (freed + grown):
        return (
            f"of its objects that outlived {duration(stretch.age)}, {size(freed)} were freed "
            f"and {size(max(0.0, grown))} more live: samples do not confirm it"
        )
    return ""


def _replaced(case: Case, found: Grown, kind: str, about: Behind) -> str:
    """What was allocated before tracking began is not tracked: its frees are seen in the exact
    counters of its cache alone, which therefore have to confirm growth. Growth of a cache that
    call sites found before account for confirms no other site."""
    if kind in (NET, DEVICE):
        return ""
    hours = found.stretch.seconds / 3600
    rows = {subject: i for i, subject in enumerate(case.subjects)}
    net = claimed = variance = 0.0
    claims: dict[str, float] = {}
    for number, held in about.bytes_by_cache.items():
        name = case.now.caches[number].name
        row = rows.get((NET, name))
        claimed += held
        claims[name] = held / hours
        if row is None:
            continue
        levels = blocks(found.stretch.level[:, row : row + 1])
        measured = drift(levels, np.zeros(1))
        count = len(levels) - 1
        net += float(measured.mean[0]) * count
        if kind == SITE:
            net -= case.claimed.get(name, 0.0) * hours
        variance += float(measured.error[0] * count) ** 2
    claimed = min(claimed, found.total)
    # Where all is tracked, it is enough that the counters do not contradict.
    doubt = np.sqrt(variance) * (1 if case.now.tracking.mode == Mode.EXACT else -1)
    if net + doubt < CONFIRMED * claimed:
        error = size(float(np.sqrt(variance)))
        return (
            f"its caches, exactly counted, grew by {size(max(0.0, net))} (error {error}) "
            "beyond what else grows there, which does not confirm it: it may replace what was "
            "allocated before tracking began"
        )
    if kind == SITE:
        for name, rate in claims.items():
            case.claimed[name] = case.claimed.get(name, 0.0) + rate
    return ""


def _lost(case: Case, found: Grown, kind: str, about: Behind) -> str:
    if kind == DEVICE:
        return ""
    lost = float(found.stretch.lost[-1] - found.stretch.lost[0])
    if kind == NET:
        objects = found.total / max(1, cache_of(case.now, about.name).object_size)
    else:
        objects = about.objects
    if lost > MIXED * objects:
        return f"{lost:.0f} events were lost in the window, frees perhaps: as many as it grew by"
    return ""
