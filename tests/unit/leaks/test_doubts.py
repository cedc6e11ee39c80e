# SPDX-License-Identifier: Apache-2.0
"""What a finding lacks, and what would tell more of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.census.model import NO_ORPHANS, ORPHANS_UNSUPPORTED
from slabmon.leaks.doubts import AGAIN_SECONDS, Doubt, doubts
from slabmon.leaks.finding import Assessment, Finding, Holders, Kind, Strength
from slabmon.model import Examination, Mode, Snapshot
from tests.support.builders import snapshot
from tests.support.censuses import census

BARE = Finding(
    kind=Kind.CACHE,
    key="kmalloc-64",
    name="kmalloc-64",
    module="",
    drivers=(),
    devices=(),
    caches=("kmalloc-64",),
    sites=(),
    strength=Strength.STRONG,
    growth=1.0,
    low=1.0,
    high=1.0,
    window=7200.0,
    grown=1.0,
    live=1.0,
    p=0.0,
    evidence_for=(),
    evidence_against=(),
)
SURE = replace(
    BARE, kind=Kind.SITE, name="f+0x1 [m]", sites=("f+0x1 [m]",), holders=Holders(stack=("f", "g"))
)


def asked(finding: Finding, now: Snapshot, *, early: bool = False) -> list[Doubt]:
    assessment = Assessment(observed=1, needed=1, series=1, left_out=0, memory=1)
    findings = {"exhausting": (finding,)} if early else {"verdicts": (finding,)}
    return list(doubts(replace(assessment, **findings), now))  # type: ignore[arg-type]


def examined(age: float, now: Snapshot) -> Snapshot:
    done = Examination(
        kind="cache",
        name="kmalloc-64",
        taken=now.taken - age,
        seconds=60,
        allocs=1,
        age=15,
        survivors=1,
        survivor_bytes=64,
        verified=True,
        stacks=(),
    )
    return replace(now, examinations=(done,))


@pytest.fixture
def now() -> Snapshot:
    plain = snapshot()
    taken = replace(census(), passes=3, taken=plain.taken - 60)
    return replace(plain, census=taken)


def test_a_suspect_without_stacks_or_sites_is_tracked(now: Snapshot) -> None:
    assert asked(BARE, now) == [("cache", "kmalloc-64")]
    assert asked(replace(SURE, holders=Holders()), now) == [("site", "f+0x1 [m]")]


@pytest.mark.parametrize("strength", Strength)
def test_what_is_certain_needs_no_tracking(now: Snapshot, strength: Strength) -> None:
    uncertain = strength in (Strength.EARLY, Strength.POSSIBLE)
    found = asked(replace(SURE, strength=strength), now, early=strength == Strength.EARLY)
    assert found == ([("site", "f+0x1 [m]")] if uncertain else [])


def test_a_suspect_is_not_tracked_again_soon(now: Snapshot) -> None:
    assert asked(BARE, examined(AGAIN_SECONDS - 1, now)) == []
    assert asked(BARE, examined(AGAIN_SECONDS + 1, now)) == [("cache", "kmalloc-64")]


def test_where_all_is_tracked_exactly_nothing_more_is(now: Snapshot) -> None:
    exact = replace(now, tracking=replace(now.tracking, mode=Mode.EXACT))
    assert asked(BARE, exact) == []


def test_a_census_is_wanted_where_none_has_looked_for_orphans(now: Snapshot) -> None:
    assert asked(SURE, replace(now, census=None)) == [("census", "")]
    old = replace(census(), passes=3, taken=now.taken - 2 * 3600 - 1)
    assert asked(SURE, replace(now, census=old)) == [("census", "")]
    blind = replace(census(), passes=1, taken=now.taken)
    assert asked(SURE, replace(now, census=blind)) == [("census", "")]


@pytest.mark.parametrize("limit", [NO_ORPHANS, ORPHANS_UNSUPPORTED])
def test_a_census_that_looked_in_vain_is_not_repeated_at_once(now: Snapshot, limit: str) -> None:
    vain = replace(census(), passes=1, limits=(f"{limit}: why",), taken=now.taken)
    assert asked(SURE, replace(now, census=vain)) == []
    old = replace(vain, taken=now.taken - 2 * 3600 - 1)
    assert asked(SURE, replace(now, census=old)) == [("census", "")]


def test_a_device_can_be_tracked_no_better(now: Snapshot) -> None:
    device = replace(BARE, kind=Kind.DEVICE, strength=Strength.POSSIBLE)
    assert asked(device, replace(now, census=None)) == []
