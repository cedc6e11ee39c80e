# SPDX-License-Identifier: Apache-2.0
"""Windows: rates, growth and history over snapshots as they come."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.activity import Activity
from slabmon.base.units import Value
from slabmon.base.zstd import unpack_own
from slabmon.model import Live, Snapshot
from slabmon.views import compressed_rows
from slabmon.views.catalogue import VIEWS
from slabmon.views.table import Table
from slabmon.views.window import POINT_SECONDS, WINDOW_SECONDS, NoJudge, Window, WindowBuilder
from tests.support.builders import Object, cache, device, site, snapshot, tracked, window_of


def at(seconds: float, since: float = 0.0, **fields: Any) -> Snapshot:
    plain = snapshot(**fields)
    tracking = replace(plain.tracking, seconds=seconds, since=since)
    return replace(plain, tracking=tracking)


def live(size: int, error: int = 0) -> Live:
    return Live(1, size, error, size, size)


def column(name: str, window: Window, view: str = "caches") -> dict[Any, Value]:
    table = Table(VIEWS[view], window)
    (cells,) = zip(*table.cells(range(len(table)), [VIEWS[view].column(name)]), strict=True)
    return dict(zip(table.listing.keys, cells, strict=True))


def test_rates_are_over_the_last_interval() -> None:
    window = window_of(
        at(10, caches=(cache("a", allocs=100, frees=10),)),
        at(20, caches=(cache("a", allocs=200, frees=10),)),
        at(24, caches=(cache("a", allocs=220, frees=13), cache("b", allocs=8))),
    )
    assert window.seconds == 4
    assert column("allocs_per_second", window) == {"a": 5.0, "b": 2.0}
    assert column("frees_per_second", window) == {"a": 0.75, "b": 0.0}


def test_rates_of_a_first_snapshot_are_since_tracking_began() -> None:
    window = window_of(at(10, caches=(cache("a", allocs=100),)))
    assert column("allocs_per_second", window) == {"a": 10.0}


def paused(snapshot: Snapshot, activity: Activity, asleep: float, wakes: int) -> Snapshot:
    tracking = replace(snapshot.tracking, activity=activity, asleep=asleep, wakes=wakes)
    return replace(snapshot, tracking=tracking)


def test_rates_are_over_the_time_in_which_events_were_counted() -> None:
    window = window_of(
        at(10, caches=(cache("a", allocs=100),)),
        paused(at(100, caches=(cache("a", allocs=400),)), Activity.AWAKE, 70, 1),
    )
    assert window.seconds == 20
    assert column("allocs_per_second", window) == {"a": 15.0}
    asleep = (paused(at(s, caches=(cache("a"),)), Activity.ASLEEP, s, 0) for s in (10, 20))
    assert column("allocs_per_second", window_of(*asleep)) == {"a": None}


def test_live_memory_of_before_a_sleep_is_no_past_of_what_follows() -> None:
    def moment(seconds: float, asleep: float, wakes: int) -> Snapshot:
        caches = (cache("a", live=live(1 << 20)),)
        return paused(at(seconds, caches=caches), Activity.AWAKE, asleep, wakes)

    slept = [moment(s, 0, 1) for s in (10, 20, 30)] + [moment(100, 60, 2)]
    assert window_of(*slept[:3]).moments
    assert not window_of(*slept).moments


def test_no_time_gives_no_rate() -> None:
    assert column("allocs_per_second", window_of(at(0, caches=(cache("a"),)))) == {"a": None}


def test_growth_is_over_the_whole_window_and_per_hour() -> None:
    window = window_of(
        *(at(seconds, caches=(cache("a", live=live(1000 + seconds)),)) for seconds in (10, 20, 46))
    )
    assert window.span == 36
    assert column("growth_bytes_per_hour", window) == {"a": 3600}
    assert column("history", window) == {"a": [1010, 1020, 1046]}


def test_growth_carries_the_error_of_both_ends() -> None:
    window = window_of(
        at(0, caches=(cache("a", live=live(1, 300)),)),
        at(3600, caches=(cache("a", live=live(1, 400)),)),
    )
    assert column("growth_stderr_bytes_per_hour", window) == {"a": 500}


def test_without_a_past_there_is_no_growth() -> None:
    window = window_of(at(10))
    assert set(column("growth_bytes_per_hour", window).values()) == {None}
    names = {found.name for found in Table(VIEWS["caches"], window).columns}
    assert not names & {"growth_bytes_per_hour", "history", "growth_stderr_bytes_per_hour"}


def test_what_was_not_there_had_nothing() -> None:
    window = window_of(
        at(10, caches=(cache("a", live=live(7)),)),
        at(20, caches=(cache("a", live=live(7)), cache("b", live=live(9)))),
    )
    assert column("history", window) == {"a": [7, 7], "b": [0, 9]}


@pytest.mark.parametrize("since", [0.0, 5.0])
def test_another_session_begins_anew(since: float) -> None:
    """Also when the counters of the new session are larger."""
    before = at(100, caches=(cache("a", allocs=500, live=live(3)),))
    after = at(50, since=since, caches=(cache("a", allocs=600, live=live(4)),))
    window = window_of(at(90), before, after)
    assert window.before is None
    assert window.moments == ()
    assert column("allocs_per_second", window) == {"a": 12.0}


def test_the_same_snapshot_twice_changes_nothing() -> None:
    history = WindowBuilder(VIEWS.values(), NoJudge())
    first, second = at(10), at(20)
    history.add(first)
    window = history.add(second)
    assert history.add(second) is window
    assert window.seconds == 10


def test_a_window_forgets_what_is_older() -> None:
    history = WindowBuilder(VIEWS.values(), NoJudge(), span=100, step=10)
    for second in range(0, 1000, 2):
        window = history.add(at(second, caches=(cache("a", live=live(second)),)))
    assert 90 <= window.span <= 112
    assert len(window.moments) <= 11
    values = column("history", window)["a"]
    assert values == [*map(round, window.moments), 998]
    assert all(b - a >= 10 for a, b in pairwise(window.moments))
    assert WINDOW_SECONDS / POINT_SECONDS <= 120


@pytest.mark.parametrize(
    ("moments", "history", "unread"),
    [
        ([0, 10, 20, 30], [0, 10, 20, 30], 0),
        ([0, 10, 100, 110], [0, 10, *[None] * 8, 100, 110], 80),
        ([0, 100, 110, 120], [0, *[None] * 9, 100, 110, 120], 90),
        # Stopped until now.
        ([0, 10, 20, 80], [0, 10, 20, *[None] * 5, 80], 50),
        # A recording, then what is live: its points are as far apart as they are.
        ([0, 30, 60, 90, 96, 102], [0, 30, 60, 90, 96, 102], 0),
        # The last point is as old as the interval is long; two are too few to tell.
        ([0, 10, 11], [0, 10, 11], 0),
        ([0, 300], [0, 300], 0),
    ],
)
def test_a_history_has_gaps_where_nothing_was_read(
    moments: list[int], history: list[int | None], unread: float
) -> None:
    builder = WindowBuilder(VIEWS.values(), NoJudge())
    for second in moments:
        window = builder.add(at(second, caches=(cache("a", live=live(second)),)))
    assert column("history", window)["a"] == history
    assert window.unread == pytest.approx(unread)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 40])
def test_a_thinned_history_ends_with_the_present_and_reads_no_more(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    read = []

    def unpacked(data: bytes) -> bytes:
        read.append(data)
        return unpack_own(data)

    builder = WindowBuilder(VIEWS.values(), NoJudge())
    for second in (*range(10, 100, 10), 200, *range(210, 300, 10)):
        window = builder.add(at(second, caches=(cache("a", live=live(second)),)))
    table = Table(VIEWS["caches"], window)
    (whole,), step = table.history([0]), -(-len(table.history([0])[0]) // most)
    assert None in whole
    monkeypatch.setattr(compressed_rows, "unpack_own", unpacked)
    (thin,) = table.history([0], most)
    assert thin == whole[::-1][::step][::-1]
    figures = [value for value in thin if value is not None]
    assert len(read) <= max(0, len(figures) - 1) + 1, "each point, and the rows' numbers once"


def test_a_pause_is_part_of_rates_and_growth() -> None:
    """The kernel counted meanwhile: 90 s of it are in the rate of the interval."""
    window = window_of(
        at(10, caches=(cache("a", allocs=100, live=live(0)),)),
        at(20, caches=(cache("a", allocs=200, live=live(1000)),)),
        at(110, caches=(cache("a", allocs=1100, live=live(10_000)),)),
    )
    assert column("allocs_per_second", window) == {"a": 10.0}
    assert column("growth_bytes_per_hour", window) == {"a": 360_000}
    assert window.unread == 80


def test_windows_do_not_change_when_time_goes_on() -> None:
    history = WindowBuilder(VIEWS.values(), NoJudge(), step=0)
    windows = [history.add(at(s, caches=(cache("a", live=live(s)),))) for s in range(1, 20)]
    for number, window in enumerate(windows, 1):
        assert column("history", window)["a"] == list(range(1, number + 1))


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2**40), min_size=1),
        min_size=1,
        max_size=8,
    )
)
def test_histories_are_what_was_seen(steps: list[dict[str, int]]) -> None:
    """Rows come and go in any order."""
    history = WindowBuilder(VIEWS.values(), NoJudge(), step=0)
    for second, step in enumerate(steps):
        window = history.add(
            at(second, caches=tuple(cache(name, live=live(n)) for name, n in step.items()))
        )
    assert column("history", window) == {
        name: [step.get(name, 0) for step in steps] for name in steps[-1]
    }


def test_rows_that_come_and_go_do_not_pile_up() -> None:
    history = WindowBuilder([VIEWS["caches"]], NoJudge(), span=20, step=1)
    for second in range(60):
        names = [f"{second}-{i}" for i in range(500)]
        rows = (*(cache(name, live=live(5)) for name in names), cache("stays", live=live(second)))
        window = history.add(at(second, caches=rows))
    assert len(window.trails["caches"].ids) < 16_000
    assert column("history", window)["stays"] == [*map(round, window.moments), 59]


def test_devices_have_a_trail_of_managed_bytes() -> None:
    window = window_of(*(at(s, devices=(device(managed_bytes=s),)) for s in (100, 200)))
    assert list(column("history", window, "devices").values()) == [[100, 200]]
    assert list(column("growth_bytes_per_hour", window, "devices").values()) == [3600]


def test_ages_are_of_the_oldest_and_of_most_survivors() -> None:
    objects = [Object(age=age) for age in range(1, 11)] + [Object(age=50, cache=1)]
    window = window_of(at(9, caches=(cache("a"), cache("b"), cache("c")), tracked=tracked(objects)))
    assert column("oldest_seconds", window) == {"a": 10.0, "b": 50.0, "c": None}
    assert column("age_p90_seconds", window) == {"a": 9.0, "b": 50.0, "c": None}


def test_ages_weigh_each_object_by_what_it_stands_for() -> None:
    """One sampled small object stands for many more than nine certain ones."""
    objects = [Object(age=5, interval=0) for _ in range(9)]
    objects.append(Object(age=100, interval=65_536, bytes=64))
    window = window_of(at(9, caches=(cache("a"),), tracked=tracked(objects)))
    assert column("age_p90_seconds", window) == {"a": 100.0}


OBJECTS = st.lists(
    st.builds(
        Object, cache=st.integers(0, 3), age=st.floats(0, 1e5), interval=st.sampled_from([0, 4096])
    ),
    max_size=40,
)


@given(OBJECTS)
def test_ages_are_within_their_row(objects: list[Object]) -> None:
    rows = tuple(cache(name) for name in "abcd")
    window = window_of(at(9, caches=rows, tracked=tracked(objects)))
    oldest, most = column("oldest_seconds", window), column("age_p90_seconds", window)
    for number, name in enumerate("abcd"):
        ages = sorted(thing.age for thing in objects if thing.cache == number)
        if not ages:
            assert oldest[name] is None
            continue
        assert oldest[name] == pytest.approx(ages[-1], abs=1e-3)
        assert any(most[name] == pytest.approx(age, abs=1e-3) for age in ages)
        if all(thing.interval == 0 for thing in objects if thing.cache == number):
            below = np.array(ages) <= float(most[name] or 0) + 1e-3  # type: ignore[arg-type]
            assert below.mean() >= 0.9


def test_rows_of_what_is_freed_unseen_say_so() -> None:
    rows = (cache("seen"), cache("unseen", frees_observable=False))
    places = (site("a"), site("b"), site("c", module="m"))
    objects = [Object(cache=0, site=0), Object(cache=1, site=2, comm=b"x", tgid=5)]
    window = window_of(at(9, caches=rows, sites=places, tracked=tracked(objects)))
    assert list(column("frees_observable", window, "sites").values()) == [True, True, False]
    assert column("frees_observable", window, "processes") == {
        ("cat", "100"): True,
        ("x", "5"): False,
    }
    drivers = column("frees_observable", window, "drivers")
    assert drivers[True, "[core kernel]"] is True
    assert drivers[False, "m"] is False
