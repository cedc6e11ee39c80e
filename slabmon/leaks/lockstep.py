# SPDX-License-Identifier: Apache-2.0
"""Suspects that grow in lockstep are one leak: a socket that is lost takes a file, an inode and a
dentry with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from slabmon.base.arrays import F64
from slabmon.leaks.attribution import Attribution
from slabmon.leaks.drift import blocks, correlation_chance
from slabmon.leaks.finding import Finding, Kind, Part
from slabmon.leaks.growth import Case, Established
from slabmon.leaks.orphans import orphan_bytes
from slabmon.leaks.series import Stretch, Subject

_CHANCE = 1e-3
_STAYS = 0.7
_MOST_PAIRED = 64  # findings; beyond, only the first are compared
_NAMED = 8


def in_lockstep(
    case: Case, findings: Sequence[Finding], established: Mapping[Subject, Established]
) -> list[Finding]:
    """Return the findings, those that grow in lockstep as one: the one that comes first, with all
    of them as its parts."""
    compared = [f for f in findings[:_MOST_PAIRED] if (f.kind, f.key) in established]
    groups = {id(finding): [finding] for finding in compared}
    pairs = list(combinations(compared, 2))
    for one, other in pairs:
        mine, its = groups[id(one)], groups[id(other)]
        if mine is its:
            continue
        p = _chance(case, established[one.kind, one.key], established[other.kind, other.key])
        if p * len(pairs) < _CHANCE:
            mine += its
            groups |= {id(finding): mine for finding in its}
    shown = []
    seen: set[int] = set()
    for finding in findings:
        group = groups.get(id(finding), [finding])
        if id(group) not in seen:
            seen.add(id(group))
            shown.append(_together(case, group, established) if len(group) > 1 else finding)
    return shown


def _chance(case: Case, one: Established, other: Established) -> float:
    """Return the probability that independent growth is as correlated, 1 if it is not by enough."""
    stretch = min(one.growth.stretch, other.growth.stretch, key=lambda each: each.seconds)
    return correlation_chance(*(np.diff(_signal(case, stretch, each)) for each in (one, other)))


def _signal(case: Case, stretch: Stretch, each: Established) -> F64:
    """Return how a suspect grew, by the border of each block: by an exact count, where nearly all
    that it counts is this growth, else by the sampled survivors."""
    row = each.growth.row
    level, allocated = stretch.level[:, row], stretch.allocated[:, row]
    grown = float(level[-1] - level[0])
    candidates = [allocated]
    net = _net_row(case, each.attribution)
    if net is not None:
        candidates.append(stretch.level[:, net])
    for exact in candidates:
        if not np.isnan(exact).any() and 0 < exact[-1] - exact[0] <= grown / _STAYS:
            return blocks(exact[:, None])[:, 0]
    return blocks(level[:, None])[:, 0]


def _net_row(case: Case, attribution: Attribution) -> int | None:
    """Return the row of the exact growth of its cache, if it has one cache."""
    if len(attribution.bytes_by_cache) != 1:
        return None
    (number,) = attribution.bytes_by_cache
    return case.rows.get((Kind.NET, case.now.caches[number].name))


def _together(
    case: Case, group: Sequence[Finding], established: Mapping[Subject, Established]
) -> Finding:
    parts = tuple(
        Part(kind=each.kind, name=each.name, growth=each.growth, low=each.low, high=each.high)
        for each in group
    )
    first = group[0]
    others = ", ".join(f"{part.kind} {part.name}" for part in parts[1:])
    return replace(
        first,
        parts=parts,
        growth=sum(each.growth for each in group),
        low=sum(each.low for each in group),
        high=sum(each.high for each in group),
        grown=sum(each.grown for each in group),
        live=sum(each.live for each in group),
        caches=_union(each.caches for each in group),
        sites=_union(each.sites for each in group),
        drivers=_union(each.drivers for each in group),
        devices=_union(each.devices for each in group),
        evidence_for=(
            *first.evidence_for,
            f"it grows in lockstep with {others}, from one part of that time to the next: one "
            "leak, of which these are parts",
        ),
        aliases={name: names for each in group for name, names in each.aliases.items()},
        orphans=orphan_bytes(case.now, [established[each.kind, each.key] for each in group]),
    )


def _union(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))[:_NAMED]
