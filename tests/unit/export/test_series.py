# SPDX-License-Identifier: Apache-2.0
"""Which rows have series of their own: bounded, stable, and no counter falls or is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import FAMILIES, Exporter
from slabmon.export.series import (
    KINDS,
    MARGIN,
    MAX_SERIES,
    OTHER,
    RESERVED,
    Folding,
    SeriesValues,
    allot,
)
from slabmon.model import Live, Slabinfo, Snapshot
from tests.support import scraping
from tests.support.builders import cache, device, site, snapshot
from tests.support.snapshots import synthetic

NAMES = ["a", "b", "c", "d", "e", "f", OTHER]
# Of each step: the rows there are, and by how much each grew.
STEP = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1000))
LIMITS = st.integers(0, 5)


def rows_of(values: dict[str, int]) -> SeriesValues:
    return {(name,): value for name, value in values.items()}


@given(st.lists(st.tuples(STEP, LIMITS), max_size=12))
@settings(max_examples=300)
def test_no_counter_falls_while_rows_come_go_and_grow(
    steps: list[tuple[dict[str, int], int]],
) -> None:
    chosen, values, before, other = Folding(), dict.fromkeys(NAMES, 0), SeriesValues(), 0.0
    for grown, limit in steps:
        for name, more in grown.items():
            values[name] += more
        now = rows_of({name: values[name] for name in grown})
        chosen.choose(dict(now), limit)
        shown = chosen.fold("family", now, counter=True)
        assert len(shown) <= limit + 1
        assert all(shown[row] >= before[row] for row in shown.keys() & before.keys())
        if shown:  # a family without rows has none at all
            assert shown.get((OTHER,), 0) >= other
            other = shown.get((OTHER,), 0)
        before = shown


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1000), min_size=6, max_size=6), LIMITS), max_size=12)
)
@settings(max_examples=300)
def test_families_add_up_to_what_all_rows_do_while_they_come_and_grow(
    steps: list[tuple[list[int], int]],
) -> None:
    chosen = Folding()
    values = dict.fromkeys(NAMES[:6], 0)
    for grown, limit in steps:
        for name, more in zip(values, grown, strict=True):
            values[name] += more
        now = rows_of({name: value for name, value in values.items() if value})
        scores: SeriesValues = {
            (name,): float(more) for name, more in zip(values, grown, strict=True)
        }
        chosen.choose({row: scores[row] for row in now}, limit)
        for counter in (True, False):
            shown = chosen.fold(f"family {counter}", dict(now), counter)
            assert sum(shown.values()) == sum(values.values())


def test_a_row_that_was_folded_begins_at_nothing_and_leaves_nothing_twice() -> None:
    chosen = Folding()
    chosen.choose({("big",): 2.0, ("small",): 1.0}, 1)
    assert chosen.fold("f", rows_of({"big": 20, "small": 10}), True) == {("big",): 20, (OTHER,): 10}
    chosen.choose({("big",): 1.0, ("small",): 2.1}, 1)
    assert chosen.fold("f", rows_of({"big": 21, "small": 15}), True) == {
        ("small",): 0,
        (OTHER,): 10 + 5 + 21,
    }
    assert chosen.fold("f", rows_of({"big": 22, "small": 18}), True) == {
        ("small",): 3,
        (OTHER,): 37,
    }
    assert chosen.moves == 1


def test_what_is_new_and_large_gets_its_series_at_once_with_all_it_counted() -> None:
    chosen = Folding()
    chosen.choose({("old",): 1.0}, 1)
    chosen.fold("f", rows_of({"old": 5}), True)
    chosen.choose({("old",): 1.0, ("new",): 3.0}, 1)
    assert chosen.fold("f", rows_of({"old": 5, "new": 7}), True) == {("new",): 7, (OTHER,): 5}


@given(st.lists(st.lists(st.floats(1, MARGIN * 0.999), min_size=30, max_size=30), max_size=6))
def test_noise_below_the_margin_moves_nothing(noise: list[list[float]]) -> None:
    chosen = Folding()
    first: set[tuple[str, ...]] | None = None
    for scores in noise:
        chosen.choose({(f"row{i}",): 10 * score for i, score in enumerate(scores)}, 10)
        now = chosen.fold("f", {(f"row{i}",): 1 for i in range(30)}, False).keys()
        assert first is None or now == first
        first = set(now)
    assert chosen.moves == 0


def test_another_exporter_chooses_the_same() -> None:
    """As after a restart."""
    host = synthetic(300, 3000, 500, 10)
    one, other = (names(Exporter(), host) for _ in range(2))
    assert one == other


def names(exporter: Exporter, host: Snapshot) -> set[str]:
    return {line.rpartition(" ")[0] for line in lines(exporter, host)}


def lines(exporter: Exporter, host: Snapshot) -> list[str]:
    page = scraping.text(exporter.families(host, Daemon()))
    return [line for line in page.splitlines() if not line.startswith("#")]


def test_a_host_of_ten_thousand_sites_stays_within_the_bound() -> None:
    host = synthetic(1_000, 10_000, 5_000, 10)
    for bound in (1_000, MAX_SERIES, 20_000):
        found = lines(Exporter(bound), host)
        assert len(found) > 0.8 * (bound - RESERVED)
        assert len(found) <= bound


def test_an_ordinary_host_has_all_its_caches() -> None:
    host = synthetic(225, 1_500, 40, 10)
    found = lines(Exporter(), host)
    assert sum(line.startswith("slabmon_cache_live_bytes{") for line in found) == 225
    assert sum(line.startswith("slabmon_site_live_bytes") for line in found) > 280
    assert len(found) <= MAX_SERIES


@given(
    st.fixed_dictionaries({kind: st.integers(0, 5_000) for kind in KINDS}),
    st.integers(1_000, 20_000),
)
def test_what_a_kind_does_not_need_the_others_get(wanted: dict[str, int], bound: int) -> None:
    found = allot(wanted, FAMILIES, bound)
    used = sum((min(found[kind], wanted[kind]) + 1) * FAMILIES[kind] for kind in KINDS)
    assert used <= bound - RESERVED
    for kind, limit in found.items():
        if limit < wanted[kind]:
            assert limit >= int(KINDS[kind].share * (bound - RESERVED) / FAMILIES[kind]) - 1


def test_rows_to_come_have_series_while_there_is_room() -> None:
    exporter = Exporter()
    lines(exporter, synthetic(200, 250, 40, 10))
    found = lines(exporter, synthetic(220, 270, 50, 10))
    assert not any(f'="{OTHER}"' in line for line in found if "gfp" not in line)
    assert 'slabmon_folded_moves_total{family="cache"} 0.0' in found


def test_a_leak_from_a_small_site_gets_its_own_series() -> None:
    """Live memory counts as much as the sums of a week."""
    busy = tuple(
        site(f"f{i}", i, allocs=10**6 * i, allocated_bytes=10**8 * i, live=Live(1000, 64_000))
        for i in range(3000)
    )
    exporter = Exporter()
    lines(exporter, snapshot(sites=busy))
    leak = replace_last(busy, 300_000_000)
    shown = lines(exporter, snapshot(sites=leak))
    assert any('site="leak+0x1"' in line for line in shown)


def replace_last(sites: tuple[Any, ...], held: int) -> tuple[Any, ...]:
    return (*sites[1:], site("leak", 1, allocs=5, allocated_bytes=held, live=Live(5, held)))


def test_a_row_that_begins_anew_is_another_one() -> None:
    """A device of the same name, say: its counters are its own, OTHER's go on."""
    chosen = Folding()
    chosen.choose({("a",): 2.0, ("b",): 1.0}, 1)
    chosen.fold("f", rows_of({"a": 20, "b": 10}), True)
    assert chosen.fold("f", rows_of({"a": 3, "b": 4}), True) == {("a",): 3, (OTHER,): 14}


@given(st.lists(st.tuples(st.dictionaries(st.sampled_from(NAMES), st.integers()), LIMITS)))
def test_counters_of_damaged_recordings_are_shown(
    steps: list[tuple[dict[str, int], int]],
) -> None:
    chosen = Folding()
    for values, limit in steps:
        chosen.choose(rows_of(values), limit)
        assert len(chosen.fold("family", rows_of(values), counter=True)) <= limit + 1


def test_rows_that_keep_coming_and_going_are_forgotten() -> None:
    chosen = Folding()
    for step in range(5_000):
        now: SeriesValues = {(f"device{step}",): 1.0, ("stays",): 2.0}
        chosen.choose(now, 1)
        chosen.fold("f", now, True)
    assert sum(len(kept["f"]) for kept in (chosen._folded, chosen._left)) < 2_000


def test_members_that_are_gone_are_no_moves() -> None:
    exporter = Exporter()
    host = snapshot(
        caches=(cache("a", slabinfo=Slabinfo(1, 1, 64, 4096)), cache("b")),
        devices=(device(resources=1),),
    )
    lines(exporter, host)
    shown = lines(exporter, replace(host, caches=host.caches[:1], devices=()))
    assert 'slabmon_folded_moves_total{family="cache"} 0.0' in shown
