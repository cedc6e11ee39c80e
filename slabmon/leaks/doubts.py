# SPDX-License-Identifier: Apache-2.0
"""What a finding lacks, and what would tell: exact tracking of its site or cache, or a census."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from slabmon.census.model import NO_ORPHANS, ORPHANS_UNSUPPORTED
from slabmon.leaks.finding import Assessment, Finding, Kind, Strength
from slabmon.model import Mode, Snapshot

# A suspect that was tracked exactly so recently is not tracked again.
AGAIN_SECONDS = 3600.0
CENSUS = "census"


class Doubt(NamedTuple):
    """A suspect to be tracked exactly, of kind cache or site; or a census, which has no name."""

    kind: str
    name: str = ""


def doubts(assessment: Assessment, now: Snapshot) -> Iterator[Doubt]:
    """Yield what would tell more of the findings, the most urgent first."""
    if now.tracking.mode != Mode.EXACT:
        known = {
            (each.kind, each.name)
            for each in now.examinations
            if now.taken - each.taken < AGAIN_SECONDS
        }
        for finding in (*assessment.exhausting, *assessment.verdicts):
            target = _target(finding)
            if target is not None and target not in known and _lacks(finding):
                yield Doubt(*target)
    for finding in assessment.verdicts:
        if finding.kind != Kind.DEVICE and not _has_census(finding, now):
            yield Doubt(CENSUS)
            return


def _lacks(finding: Finding) -> bool:
    """Whether a finding has no stack or call site, or is not certain yet."""
    uncertain = finding.strength in (Strength.POSSIBLE, Strength.EARLY)
    return uncertain or not finding.holders.stack or not finding.sites


def _target(finding: Finding) -> tuple[str, str] | None:
    """Return what can be tracked exactly: the call site, else the cache with most of it."""
    if finding.kind == Kind.SITE:
        return "site", finding.name
    if finding.kind == Kind.DEVICE or not finding.caches:
        return None
    return "cache", finding.caches[0]


def _has_census(finding: Finding, now: Snapshot) -> bool:
    """Whether a census has looked for orphans, if in vain, after most of the growth was there."""
    census = now.census
    if census is None:
        return False
    in_vain = any(text.startswith((NO_ORPHANS, ORPHANS_UNSUPPORTED)) for text in census.limits)
    if census.passes < 2 and not in_vain:
        return False
    return now.taken - census.taken < max(AGAIN_SECONDS, finding.window / 2)
