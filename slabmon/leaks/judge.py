# SPDX-License-Identifier: Apache-2.0
"""From series to findings: establish growth, attribute it, dismiss what is not a leak."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import F64, I64
from slabmon.leaks import dismissals, evidence
from slabmon.leaks.attribution import Attribution, attribute_growth, without_explained
from slabmon.leaks.batches import Batches, find_batches
from slabmon.leaks.drift import BLOCKS, MIN_BLOCKS, GrowthRate, adjusted, blocks, drift, growth_rate
from slabmon.leaks.finding import EVIDENCE, MEMBERSHIPS, Finding, Kind, Strength
from slabmon.leaks.growth import Case, Established, Growth
from slabmon.leaks.orphans import orphan_bytes
from slabmon.leaks.series import Stretch, Subject

# Expected share of false findings in one assessment.
FALSE_SHARE = 1e-3
_LIKELY_SECONDS, _STRONG_SECONDS = 3600.0, 6 * 3600.0
# Exact net growth is not tested over shorter windows.
_NET_SECONDS = 3600.0
_MANY_BATCHES = 10  # that stay by chance as rarely as any other growth is found


class Judgement(NamedTuple):
    """All findings, dismissed ones included; what they are based on, by subject; and the number of
    tests made."""

    findings: list[Finding]
    established: dict[Subject, Established]
    tested: int


def judge(case: Case) -> Judgement:
    """Judge all series."""
    grown, tested = _significant(case)
    established: dict[Subject, Established] = {}
    findings: list[tuple[Finding, Attribution]] = []
    claimed: dict[str, float] = {}
    # Growth of which least was freed comes first: it has the best claim on its cache's net growth.
    for growth in sorted(grown, key=lambda growth: growth.turnover):
        kind, key = case.subjects[growth.row]
        start = float(growth.stretch.taken[0])
        attribution = attribute_growth(case.now, kind, key, start, growth.stretch.age)
        if attribution is None:
            continue
        finding, claims = _finding(case, growth, attribution, claimed)
        findings.append((finding, attribution))
        if not finding.dismissed:
            established[finding.kind, finding.key] = Established(growth, attribution)
        for name, rate in claims.items():
            claimed[name] = claimed.get(name, 0.0) + rate
    return Judgement(list(without_explained(findings)), established, tested)


def _windows(case: Case) -> Iterable[Stretch]:
    """Yield all points of each scale, and their later half where there are many."""
    for stretch in case.stretches:
        count = len(stretch.moments)
        for first in {0, count // 2 if count > 2 * BLOCKS else 0}:
            part = stretch.since(first)
            intervals = len(part.moments) - 1
            if intervals >= MIN_BLOCKS and part.seconds >= case.seconds:
                # Blocks have equally many points; the remainder is cut off at the beginning.
                every = -(-intervals // BLOCKS)
                yield part.since(intervals % every)


class _Test(NamedTuple):
    """Series tested over one window: their rows, mean growth per block, and p."""

    stretch: Stretch
    rows: I64
    mean: F64
    p: F64


def _tests(case: Case) -> Iterable[_Test]:
    """Test all series that changed, over all windows."""
    exact = np.array([kind == Kind.NET for kind, _ in case.subjects], bool)
    evidence = np.array([kind in EVIDENCE for kind, _ in case.subjects], bool)
    for stretch in _windows(case):
        changed = (stretch.level[-1] != stretch.level[0]) & ~evidence
        if stretch.seconds < _NET_SECONDS:
            changed &= ~exact
        rows = np.flatnonzero(changed)
        variance = stretch.variance[-1, rows] - stretch.variance[0, rows]
        result = drift(blocks(stretch.level[:, rows]), variance)
        yield _Test(stretch, rows, result.mean, result.p)


def _significant(case: Case) -> tuple[list[Growth], int]:
    """Return growth beyond chance, over the longest window that shows it, and the number of
    tests."""
    tests = list(_tests(case))
    if not tests:
        return [], 0
    p = adjusted(np.concatenate([test.p for test in tests]))
    grown = _in_batches(case)
    end = 0
    for stretch, rows, mean, _ in tests:
        begin, end = end, end + len(rows)
        corrected = p[begin:end]
        for i in np.flatnonzero((corrected < FALSE_SHARE) & (mean > 0)).tolist():
            row = int(rows[i])
            best = grown.get(row)
            if best is None or best.batches or best.stretch.seconds < stretch.seconds:
                levels = blocks(stretch.level[:, row : row + 1])[:, 0]
                grown[row] = Growth(
                    row=row,
                    stretch=stretch,
                    levels=levels,
                    mean=float(mean[i]),
                    p=float(corrected[i]),
                    rate=growth_rate(levels, _grain(stretch.level[:, row])),
                )
    return list(grown.values()), len(p)


def _in_batches(case: Case) -> dict[int, Growth]:
    """Return growth that came in rare batches, over the longest window that shows it."""
    grown: dict[int, Growth] = {}
    for stretch in sorted(case.stretches, key=lambda each: each.seconds):
        for row, batches in find_batches(stretch).items():
            if case.subjects[row][0] not in MEMBERSHIPS:
                continue
            levels = blocks(stretch.level[:, row : row + 1])[:, 0]
            block = stretch.seconds / (len(levels) - 1)
            rate = GrowthRate(0, batches.rate * block, batches.low * block, batches.high * block)
            grown[row] = Growth(
                row=row,
                stretch=stretch,
                levels=levels,
                mean=float(levels[-1] - levels[0]) / (len(levels) - 1),
                p=batches.p,
                rate=rate,
                batches=batches,
            )
    return grown


def _grain(level: F64) -> float:
    """Return the smallest rise from one point to the next."""
    steps = np.diff(level)
    return float(steps[steps > 0].min())


def _finding(
    case: Case, growth: Growth, attribution: Attribution, claimed: Mapping[str, float]
) -> tuple[Finding, dict[str, float]]:
    """Return the finding about this growth, and its claims (see dismissals.Examination)."""
    kind, key = case.subjects[growth.row]
    per_hour = 1 / growth.hours
    window = growth.stretch.seconds
    examination = dismissals.examine(
        dismissals.Suspicion(
            case=case, growth=growth, kind=kind, attribution=attribution, claimed=claimed
        )
    )
    bare = Finding(
        kind=Kind.CACHE if kind == Kind.NET else kind,
        key=key if kind != Kind.NET else attribution.name,
        name=attribution.name,
        module=attribution.module,
        drivers=attribution.drivers,
        devices=attribution.devices,
        caches=attribution.caches,
        sites=attribution.sites,
        strength=_strength(window, growth.batches),
        growth=growth.rate.growth * per_hour,
        low=growth.rate.low * per_hour,
        high=growth.rate.high * per_hour,
        window=window,
        grown=growth.total,
        live=attribution.live,
        p=growth.p,
        evidence_for=(),
        evidence_against=(),
        dismissed=examination.reason,
        dismissal=examination.dismissal,
        callers=attribution.callers,
        holders=attribution.holders,
        orphans=orphan_bytes(case.now, [Established(growth, attribution)]),
        aliases={
            cache.name: cache.aliases
            for cache in case.now.caches
            if cache.aliases and cache.name in attribution.caches
        },
    )
    finding = replace(
        bare,
        evidence_for=tuple(evidence.favouring(case, growth, bare, attribution)),
        evidence_against=tuple(evidence.contrary(case, growth, bare, attribution)),
    )
    return finding, examination.claims


def _strength(window: float, batches: Batches | None) -> Strength:
    if batches is not None and batches.count < _MANY_BATCHES:
        return Strength.POSSIBLE
    if window >= _STRONG_SECONDS:
        return Strength.STRONG
    return Strength.LIKELY if window >= _LIKELY_SECONDS else Strength.POSSIBLE
