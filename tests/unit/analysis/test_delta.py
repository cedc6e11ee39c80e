# SPDX-License-Identifier: Apache-2.0
"""What changed between two snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis.delta import Delta, difference, is_reset
from slabmon.model import Snapshot
from tests.support.builders import cache, site, snapshot

CACHE_COUNTERS = (
    "allocs",
    "frees",
    "failed",
    "requested_bytes",
    "allocated_bytes",
    "freed_bytes",
)
SITE_COUNTERS = ("allocs", "failed", "requested_bytes", "allocated_bytes")
PLACES: list[tuple[str, int, str | None]] = [
    ("open", 4, None),
    ("open", 4, "ext4"),
    ("open", 8, None),
]


def fields(names: tuple[str, ...], values: list[int]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def at(seconds: float, caches: dict[str, list[int]], sites: dict[int, list[int]]) -> Snapshot:
    """A snapshot with these counters by cache name and by position in PLACES."""
    plain = snapshot()
    return replace(
        plain,
        tracking=replace(plain.tracking, seconds=seconds),
        caches=tuple(
            cache(name, **fields(CACHE_COUNTERS, values)) for name, values in caches.items()
        ),
        sites=tuple(
            site(*PLACES[place], **fields(SITE_COUNTERS, values)) for place, values in sites.items()
        ),
    )


GROWTH = st.lists(st.integers(0, 2**62), min_size=6, max_size=6)
STEPS = st.tuples(
    st.dictionaries(st.sampled_from("abc"), GROWTH),
    st.dictionaries(st.integers(0, 2), GROWTH.map(lambda values: values[:4])),
)


Table = dict[str, list[int]]
Places = dict[int, list[int]]


def plus(before: list[int] | None, growth: list[int]) -> list[int]:
    return [a + b for a, b in zip(before or [0] * len(growth), growth, strict=True)]


def history(steps: list[tuple[Table, Places]]) -> list[Snapshot]:
    """Snapshots of counters that grow by these steps; rows appear and stay."""
    caches: Table = {}
    sites: Places = {}
    found = [at(0.0, {}, {})]
    for number, (more_caches, more_sites) in enumerate(steps, 1):
        caches = caches | {k: plus(caches.get(k), v) for k, v in more_caches.items()}
        sites = sites | {k: plus(sites.get(k), v) for k, v in more_sites.items()}
        found.append(at(float(number), caches, sites))
    return found


def summed(deltas: list[Delta], part: str) -> dict[Any, dict[str, int]]:
    """Counters of all deltas added up, of `caches` or `sites`."""
    total: dict[Any, dict[str, int]] = {}
    for delta in deltas:
        for key, counters in getattr(delta, part).items():
            row = total.setdefault(key, dict.fromkeys(counters, 0))
            for name, value in counters.items():
                row[name] += value
    return total


@given(st.lists(STEPS, min_size=1, max_size=5))
def test_the_deltas_of_consecutive_snapshots_add_up(steps: list[tuple[Table, Places]]) -> None:
    snapshots = history(steps)
    deltas = [difference(before, after) for before, after in pairwise(snapshots)]
    whole = difference(snapshots[0], snapshots[-1])
    assert summed(deltas, "caches") == whole.caches
    assert summed(deltas, "sites") == whole.sites
    assert sum(delta.seconds for delta in deltas) == whole.seconds


@given(STEPS, STEPS)
def test_a_delta_is_exactly_what_was_added(
    before: tuple[Table, Places], growth: tuple[Table, Places]
) -> None:
    first, second = history([before, growth])[1:]
    delta = difference(first, second)
    for name, counters in delta.caches.items():
        assert list(counters.values()) == growth[0].get(name, [0] * 6), name
        assert tuple(counters) == CACHE_COUNTERS
    for place, growth_of_place in growth[1].items():
        assert list(delta.sites[PLACES[place]].values()) == growth_of_place
    assert not delta.reset
    assert delta.seconds == 1.0


def test_sites_are_told_apart_by_symbol_offset_and_module() -> None:
    before = at(1.0, {}, {0: [1, 0, 0, 0], 1: [10, 0, 0, 0], 2: [100, 0, 0, 0]})
    after = at(2.0, {}, {0: [2, 0, 0, 0], 1: [30, 0, 0, 0], 2: [400, 0, 0, 0]})
    grown = {key: row["allocs"] for key, row in difference(before, after).sites.items()}
    assert grown == {PLACES[0]: 1, PLACES[1]: 20, PLACES[2]: 300}


def test_a_cache_that_is_new_counts_in_full() -> None:
    after = at(2.0, {"new": [5, 4, 3, 2, 1, 0]}, {})
    found = difference(at(1.0, {}, {}), after).caches["new"]
    assert tuple(found.values()) == (5, 4, 3, 2, 1, 0)


@pytest.fixture
def before() -> Snapshot:
    return at(10.0, {"a": [100, 0, 0, 0, 0, 0]}, {0: [50, 0, 0, 0]})


def restarted(after: Snapshot) -> Snapshot:
    return replace(after, tracking=replace(after.tracking, since=after.tracking.since + 1))


def rebooted(after: Snapshot) -> Snapshot:
    return replace(after, host=replace(after.host, boot_id="another"))


def earlier(after: Snapshot) -> Snapshot:
    return replace(after, tracking=replace(after.tracking, seconds=3.0))


@pytest.mark.parametrize("changed", [restarted, rebooted, earlier])
def test_counters_that_began_anew_are_taken_as_they_are(
    before: Snapshot, changed: Callable[[Snapshot], Snapshot]
) -> None:
    after = changed(at(12.0, {"a": [7, 0, 0, 0, 0, 0]}, {0: [3, 0, 0, 0]}))
    assert is_reset(before, after)
    delta = difference(before, after)
    assert delta.reset
    assert delta.caches["a"]["allocs"] == 7
    assert delta.sites[PLACES[0]]["allocs"] == 3
    assert delta.seconds == after.tracking.seconds


def test_the_same_session_is_no_reset(before: Snapshot) -> None:
    assert not is_reset(before, before)
    assert difference(before, before).caches["a"] == dict.fromkeys(CACHE_COUNTERS, 0)
