# SPDX-License-Identifier: Apache-2.0
"""The last hour of figures, for charts."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.model import Live, Snapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.chart_history import ChartHistory, rates
from slabmon.views.window import Instant
from tests.support.builders import cache, snapshot

CACHES = VIEWS["caches"]


def at(seconds: float, live: dict[str, int], since: float = 1.7e9, **counts: Any) -> Snapshot:
    """A host with these caches."""
    tracking = replace(snapshot().tracking, seconds=seconds, since=since)
    rows = tuple(cache(name, live=Live(1, size, 3), **counts) for name, size in live.items())
    return replace(snapshot(), tracking=tracking, caches=rows)


def hour_of(*snapshots: Snapshot, **settings: Any) -> ChartHistory:
    hour = ChartHistory([CACHES], **settings)
    for found in snapshots:
        hour.add(Instant(found))
    return hour


def figures(hour: ChartHistory, key: Hashable) -> list[float | None]:
    return [None if x != x else x for x in hour.series(CACHES, key)[:, 0].tolist()]


def test_points_are_a_step_apart() -> None:
    hour = hour_of(*(at(seconds, {"a": int(seconds)}) for seconds in (1, 2, 10.5, 11, 12, 21.5)))
    assert list(hour.moments) == [1, 11, 21.5]
    assert figures(hour, "a") == [1, 11, 21]


def test_rates_are_over_the_step_not_between_readings() -> None:
    hour = hour_of(
        at(10, {"a": 1}, allocs=100),
        at(15, {"a": 1}, allocs=400),
        at(20, {"a": 1}, allocs=500, frees=20),
    )
    assert [column.name for column in rates(CACHES)][:2] == [
        "allocs_per_second",
        "frees_per_second",
    ]
    assert hour.series(CACHES, "a")[:, 2:4].tolist() == [[10, 0], [40, 2]]


def test_rows_come_and_go() -> None:
    hour = hour_of(at(10, {"a": 1}), at(20, {"b": 5, "a": 2}), at(30, {"b": 6}))
    assert figures(hour, "a") == [1, 2, None]
    assert figures(hour, "b") == [None, 5, 6]
    assert figures(hour, "never") == [None, None, None]
    assert figures(hour, None) == [1, 7, 6]


def test_the_error_of_all_rows_is_that_of_independent_ones() -> None:
    hour = hour_of(at(10, {"a": 1, "b": 2}))
    assert np.allclose(hour.series(CACHES, None)[0, 1], np.hypot(3, 3))


def test_an_hour_is_kept() -> None:
    hour = hour_of(*(at(10.0 * i, {"a": i}) for i in range(500)))
    assert len(hour.moments) == 361
    assert hour.moments[0] == 4990 - 3600
    assert figures(hour, "a")[0] == 139


def test_another_session_begins_anew() -> None:
    hour = hour_of(at(10, {"a": 1}), at(20, {"a": 2}), at(5, {"a": 3}, since=1.8e9))
    assert list(hour.moments) == [5]
    assert figures(hour, "a") == [3]


def test_of_many_rows_the_largest_and_the_busiest_are_kept() -> None:
    live = {f"c{i}": i for i in range(20)}
    rows = at(10, live).caches
    busy = tuple(replace(row, allocs=20 - i) for i, row in enumerate(rows))
    hour = hour_of(replace(at(10, live), caches=busy), max_rows=2)
    assert [name for name in live if figures(hour, name) != [None]] == ["c0", "c1", "c18", "c19"]
    assert figures(hour, None) == [sum(live.values())], "all rows count, kept or not"


@given(
    st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_forgetting_keys_changes_no_series(present: list[set[str]], max_keys: int) -> None:
    shots = [at(10.0 * i, dict.fromkeys(sorted(names), i + 1)) for i, names in enumerate(present)]
    hour = ChartHistory([CACHES], span=50.0)
    hour._series["caches"].max_keys = max_keys
    for shot in shots:
        hour.add(Instant(shot))
    kept = list(enumerate(present))[-len(hour.moments) :]
    for name in "abcdefgh":
        assert figures(hour, name) == [i + 1 if name in names else None for i, names in kept]


def test_a_suspension_is_a_gap_in_time_and_none_in_rates() -> None:
    before, after = at(100, {"a": 1}, allocs=100), at(110, {"a": 1}, allocs=300)
    after = replace(after, tracking=replace(after.tracking, suspended=3600.0))
    hour = hour_of(before, after)
    assert list(hour.times) == [1.7e9 + 100, 1.7e9 + 3710]
    assert after.taken == 1.7e9 + 3710
    assert hour.series(CACHES, "a")[-1, 2] == 20, "per second in which the host ran"
