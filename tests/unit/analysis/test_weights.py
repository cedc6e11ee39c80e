# SPDX-License-Identifier: Apache-2.0
"""Whole numbers that add up to the snapshot's own figures."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis.sampling import probability
from slabmon.analysis.weights import Part, changed, live, whole
from slabmon.model import Snapshot
from tests.support.builders import Object
from tests.support.reported import SOME, host, hosts

numbers = st.lists(
    st.tuples(st.floats(1, 1e6, allow_nan=False), st.integers(0, 3)), min_size=1, max_size=80
)


@given(numbers)
def test_whole_numbers_are_near_and_add_up(pairs: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in pairs])
    groups = np.array([group for _, group in pairs])
    totals = np.rint(np.bincount(groups, values, 4))
    found = whole(values, groups, totals)
    assert np.bincount(groups, found, 4).tolist() == totals.tolist()
    assert (np.abs(found - values) <= 1.001).all()


def test_nothing_is_whole() -> None:
    assert whole(np.zeros(0), np.zeros(0, int), np.zeros(1)).tolist() == []


def by_cache(parts: list[Part], column: str) -> dict[str, int]:
    found: Counter[str] = Counter()
    for part in parts:
        caches = part.snapshot.tracked.cache[part.object_ids].tolist()
        for number, value in zip(caches, getattr(part, column).tolist(), strict=True):
            found[part.snapshot.caches[number].name] += value
    return {name: value for name, value in found.items() if value}


def figures(snapshot: Snapshot, field: str) -> dict[str, int]:
    return {cache.name: getattr(cache.live, field) for cache in snapshot.caches}


@given(hosts)
def test_live_sums_are_those_of_the_snapshot(things: list[Object]) -> None:
    snapshot = host(things)
    for column, field in (("bytes", "bytes"), ("objects", "objects")):
        wanted = {name: value for name, value in figures(snapshot, field).items() if value}
        assert by_cache(live(snapshot), column) == wanted
    variance = sum(part.variance.sum() for part in live(snapshot))
    p = probability(snapshot.tracked.bytes.astype(float), snapshot.tracked.interval)
    assert np.isclose(variance, ((1 - p) / p**2 * snapshot.tracked.bytes.astype(float) ** 2).sum())


@given(hosts, hosts, hosts)
def test_change_is_the_difference_of_two_snapshots(
    stay: list[Object], gone: list[Object], come: list[Object]
) -> None:
    # Ages tell objects apart: none of one kind is born when one of another is.
    def aged(things: list[Object], start: int) -> list[Object]:
        return [
            Object(**{**vars(thing), "age": float(start + 3 * i)}) for i, thing in enumerate(things)
        ]

    stay, gone, come = aged(stay, 1000), aged(gone, 1001), aged(come, 1002)
    before, after = host(stay + gone, 60), host(stay + come, 120)
    parts = changed(before, after)
    assert [len(part.object_ids) for part in parts] == [len(gone), len(come)]
    for field in ("bytes", "objects"):
        then, now = figures(before, field), figures(after, field)
        wanted = {name: now[name] - then[name] for name in now if now[name] != then[name]}
        assert by_cache(parts, field) == wanted


def test_what_stays_has_no_part_in_the_error_of_a_change() -> None:
    before, after = host(SOME[:3], 60), host(SOME[:4], 120)
    gone, come = changed(before, after)
    assert len(gone.object_ids) == 0
    assert come.variance.tolist() == [0.0]  # the page-backed object is tracked with certainty
    assert come.bytes.tolist() == [65536]
