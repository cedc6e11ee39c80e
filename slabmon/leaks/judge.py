# SPDX-License-Identifier: Apache-2.0
"""From series to findings: which growth is established, what dismisses it, what is behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from slabmon.leaks import dismissals, evidence
from slabmon.leaks.attribution import Behind, behind, explained
from slabmon.leaks.drift import BLOCKS, MIN_BLOCKS, adjusted, blocks, drift, pace
from slabmon.leaks.finding import CACHE, LIKELY, NET, POSSIBLE, STRONG, Finding
from slabmon.leaks.growth import Case, Grown
from slabmon.leaks.series import Stretch

# Expected share of findings that chance alone makes, at one assessment.
FALSE_SHARE = 1e-3
_LONG, _LONGEST = 3600.0, 6 * 3600.0
_NET_SECONDS = 3600.0


def judge(case: Case) -> tuple[list[Finding], int]:
    """Findings, dismissed ones among them, and how many series were tested."""
    grown, tested = _established(case)
    findings: list[tuple[Finding, Behind]] = []
    # Those of which least was freed come first: they have the best claim on their cache's growth.
    for found in sorted(grown, key=lambda found: found.turnover):
        made = _finding(case, found)
        if made:
            findings.append(made)
    return list(explained(findings)), tested


def _windows(case: Case) -> Iterable[Stretch]:
    """All points of each scale, and the later half of them where these are many."""
    for stretch in case.stretches:
        count = len(stretch.moments)
        for first in {0, count // 2 if count > 2 * BLOCKS else 0}:
            part = stretch.since(first)
            intervals = len(part.moments) - 1
            if intervals >= MIN_BLOCKS and part.seconds >= case.seconds:
                # Blocks have equally many points: what is left over at the beginning goes.
                every = -(-intervals // BLOCKS)
                yield part.since(intervals % every)


def _established(case: Case) -> tuple[list[Grown], int]:
    """Growth beyond chance, over the longest window that shows it; and how many were tested."""
    tests: list[tuple[Stretch, np.ndarray, np.ndarray, np.ndarray]] = []
    exact = np.array([kind == NET for kind, _ in case.subjects], bool)
    for stretch in _windows(case):
        rows = stretch.level[-1] != stretch.level[0]
        if stretch.seconds < _NET_SECONDS:
            rows &= ~exact
        which = np.flatnonzero(rows)
        levels = blocks(stretch.level[:, which])
        spread = stretch.variance[-1, which] - stretch.variance[0, which]
        found = drift(levels, spread)
        tests.append((stretch, which, found.mean, found.p))
    if not tests:
        return [], 0
    p = adjusted(np.concatenate([test[3] for test in tests]))
    grown: dict[int, Grown] = {}
    at = 0
    for stretch, which, mean, _ in tests:
        mine, at = p[at : at + len(which)], at + len(which)
        for i in np.flatnonzero((mine < FALSE_SHARE) & (mean > 0)).tolist():
            row = int(which[i])
            best = grown.get(row)
            if best is None or best.stretch.seconds < stretch.seconds:
                levels = blocks(stretch.level[:, row : row + 1])[:, 0]
                grown[row] = Grown(
                    row,
                    stretch,
                    levels,
                    float(mean[i]),
                    float(mine[i]),
                    pace(levels, _grain(stretch.level[:, row])),
                )
    return list(grown.values()), len(p)


def _grain(level: np.ndarray) -> float:
    """The least by which it rose from one point to the next."""
    steps = np.diff(level)
    return float(steps[steps > 0].min())


def _finding(case: Case, found: Grown) -> tuple[Finding, Behind] | None:
    kind, key = case.subjects[found.row]
    start = case.now.tracking.seconds - found.stretch.seconds
    about = behind(case.now, kind, key, start, found.stretch.age)
    if about is None:
        return None
    per_hour = 1 / found.hours
    window = found.stretch.seconds
    made = Finding(
        kind=CACHE if kind == NET else kind,
        key=key if kind != NET else about.name,
        name=about.name,
        module=about.module,
        drivers=about.drivers,
        devices=about.devices,
        caches=about.caches,
        sites=about.sites,
        strength=_strength(window),
        growth=found.pace.growth * per_hour,
        low=found.pace.low * per_hour,
        high=found.pace.high * per_hour,
        window=window,
        grown=found.total,
        live=about.live,
        p=found.p,
        evidence_for=(),
        evidence_against=(),
    )
    return replace(
        made,
        dismissed=dismissals.examine(case, found, kind, about),
        evidence_for=evidence.favouring(case, found, made, about),
        evidence_against=evidence.contrary(case, found, made, about),
    ), about


def _strength(window: float) -> str:
    if window >= _LONGEST:
        return STRONG
    return LIKELY if window >= _LONG else POSSIBLE
