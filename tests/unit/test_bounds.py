"""The bound of a scrape: never more series, no counter that falls, nothing lost, little churn."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis.verdicts.finding import Assessment
from slabmon.export.bounds import HOLD_SECONDS, OTHER, RESERVED, Places, divide
from slabmon.export.catalogue import CATALOGUE, Daemon
from slabmon.export.prometheus import Exporter
from slabmon.model import GfpClass, Live, NodeUse, PageOrder, SizeBucket, Snapshot
from slabmon.web.settings import WebSettings
from tests.unit.builders import cache, device, site, snapshot
from tests.unit.snapshots import synthetic

Values = dict[tuple[str, tuple[str, ...]], float]
LIMIT = WebSettings.max_series


def values(exporter: Exporter, now: Snapshot) -> Values:
    """Samples by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in exporter.families(now, Daemon(), Assessment(0, 0, 0, 0, 0, (), ())).collect()
        for sample in family.samples
    }


def at(seconds: float, sites: Iterable[tuple[str, int, int]]) -> Snapshot:
    """So long after tracking began; sites by name, allocations, live bytes."""
    plain = snapshot()
    return replace(
        plain, tracking=replace(plain.tracking, seconds=seconds),
        sites=tuple(site(name, 0, allocs=allocs, live=Live(1, live))
                    for name, allocs, live in sites),
    )  # fmt: skip


KEYS: tuple[tuple[str, ...], ...] = tuple((f"row{i}",) for i in range(8))
STEP = st.tuples(
    st.dictionaries(st.sampled_from((*KEYS, (OTHER,))),
                    st.tuples(st.integers(0, 99), st.integers(0, 1 << 20))),
    st.integers(0, 6), st.sampled_from([1.0, 300.0, 900.0]),
)  # fmt: skip


@given(st.lists(STEP, max_size=25))
def test_no_counter_falls_and_every_step_adds_what_the_rows_grew_by(
    steps: list[tuple[dict[tuple[str, ...], tuple[int, int]], int, float]],
) -> None:
    """Rows come, go, return, grow and change places, and the room changes."""
    places, raw = Places(1), dict.fromkeys((*KEYS, (OTHER,)), 0)
    shown: dict[tuple[str, ...], int] = {}
    now = 0.0
    other = 0
    for rows, room, later in steps:
        now += later
        before = dict(raw)
        for key, (growth, _) in rows.items():
            raw[key] += growth
        keys = list(rows)
        own, counters = places.take(
            keys, np.array([[raw[key]] for key in keys], np.int64).reshape(-1, 1),
            np.array([weight for _, weight in rows.values()], np.int64),
            np.zeros(len(keys), np.int64), room, now)  # fmt: skip
        assert own.sum() <= room
        assert places.folded == len(keys) - own.sum()
        after = {key: int(counters[i, 0]) for i, key in enumerate(keys) if own[i]}
        assert (OTHER,) not in after
        gained = int(places.other[0]) - other
        assert gained >= 0
        for key, value in after.items():
            assert value >= shown.get(key, 0)
            gained += value - shown.get(key, 0)
        assert gained == sum(raw[key] - before[key] for key in keys)
        shown |= after
        other = int(places.other[0])


COUNTS = st.integers(0, 3000)


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=3),
       st.integers(1000, 6000))  # fmt: skip
def test_series_are_divided_equally_and_never_exceeded(
    steps: list[tuple[int, int, int, int]], series: int
) -> None:
    cost = {"cache": 13, "site": 4, "device": 5, "node": 1}
    for counts in steps:
        rows = dict(zip(cost, counts, strict=True))
        room = divide(series, rows, cost)
        used = {k: cost[k] * (room[k] + (rows[k] > room[k])) for k in cost}
        assert sum(used.values()) <= series
        for kind in cost:
            assert room[kind] == rows[kind] or used[kind] > series // len(cost) - cost[kind]
        if sum(cost[kind] * rows[kind] for kind in cost) <= series:
            assert room == rows


def large(caches: int, sites: int, devices: int, nodes: int) -> Snapshot:
    """Every row differs."""
    return snapshot(
        caches=tuple(cache(f"c{i}", allocs=i) for i in range(caches)),
        sites=tuple(site(f"f{i}", i, allocs=i) for i in range(sites)),
        devices=tuple(device(name=f"d{i}", added=i) for i in range(devices)),
        nodes=tuple(NodeUse(i, i, i) for i in range(nodes)),
    )


@given(st.lists(st.tuples(*[st.integers(0, 600)] * 4), min_size=1, max_size=3),
       st.sampled_from([1000, 1500, 2500]))  # fmt: skip
def test_a_scrape_never_exceeds_the_setting(
    hosts: list[tuple[int, int, int, int]], limit: int
) -> None:
    exporter = Exporter(limit)
    for counts in hosts:
        assert len(values(exporter, large(*counts))) <= limit


def test_a_host_of_ten_thousand_sites_stays_below_five_thousand_series() -> None:
    now = synthetic(1_000, 10_000, 5_000, 10)
    found = values(Exporter(), now)
    assert LIMIT - RESERVED < len(found) <= LIMIT == 5000
    for name, rows in (("cache", now.caches), ("site", now.sites), ("device", now.devices)):
        metric = f"slabmon_{name}_" + ("managed_bytes" if name == "device" else "live_bytes")
        count = sum(key == metric for key, _ in found)
        assert found["slabmon_folded_series", (name,)] == len(rows) - (count - 1)
    folded = found["slabmon_site_allocations_total", (OTHER, OTHER)]
    own = sum(value for (name, labels), value in found.items()
              if name == "slabmon_site_allocations_total" and labels[0] != OTHER)  # fmt: skip
    assert folded + own == sum(row.allocs for row in now.sites)


def test_a_small_host_loses_nothing() -> None:
    """235 caches and what else such a host has."""
    found = values(Exporter(), large(235, 200, 60, 1))
    assert {v for (name, _), v in found.items() if name == "slabmon_folded_series"} == {0}
    bounded = {metric.exposed for metric in CATALOGUE if metric.bound}
    assert not [name for name, labels in found if name in bounded and OTHER in labels]


def test_families_without_a_bound_stay_within_what_is_kept_for_them() -> None:
    """120 more are above what losses, programs, features and suspects of a host can be."""
    full = snapshot(
        caches=(), sites=(), devices=(), nodes=(),
        gfp=tuple(GfpClass(f"g{i}", 0, 0, 0) for i in range(10)),
        sizes=tuple(SizeBucket(1 << i, 0) for i in range(24)),
        pages=tuple(PageOrder(order, name, 0, 0, 0) for order in range(11)
                    for name in (None, *(f"g{i}" for i in range(10)))),
    )  # fmt: skip
    assert len(values(Exporter(), full)) + 120 <= RESERVED


def members(exporter: Exporter, now: Snapshot) -> set[tuple[str, ...]]:
    return {labels for name, labels in values(exporter, now)
            if name == "slabmon_site_live_bytes" and labels[0] != OTHER}  # fmt: skip


def test_noise_moves_no_row() -> None:
    """Two hours of scrapes every 30 s, live bytes of equal sites off by a third (one sigma)."""
    rng = random.Random(7)
    exporter, places = Exporter(1000), set[frozenset[tuple[str, ...]]]()
    for scrape in range(240):
        now = at(30.0 * scrape, ((f"f{i}", scrape, int(1e6 * max(0.0, rng.gauss(1, 0.33))))
                                 for i in range(200)))  # fmt: skip
        places.add(frozenset(members(exporter, now)))
    assert len(places) == 1


def test_who_is_clearly_larger_for_long_enough_takes_a_place() -> None:
    exporter = Exporter(1000)
    many = [(f"f{i}", 10, 1_000_000) for i in range(300)]
    first = members(exporter, at(0, many))
    late = next(name for name, _, _ in many if (f"{name}+0x0", "") not in first)

    def now(seconds: float, live: int) -> set[tuple[str, ...]]:
        rows = [(name, 10, live if name == late else size) for name, _, size in many]
        return members(exporter, at(seconds, rows))

    assert now(10, 3_000_000) == first
    assert now(HOLD_SECONDS, 3_000_000) == first, "not for long enough"
    assert now(HOLD_SECONDS + 5, 1_900_000) == first, "a break begins it anew"
    assert now(HOLD_SECONDS + 15, 3_000_000) == first
    moved = now(2 * HOLD_SECONDS + 15, 3_000_000)
    assert (f"{late}+0x0", "") in moved
    assert len(moved) == len(first) == len(moved & first) + 1


def test_a_daemon_that_starts_anew_chooses_the_same_of_equals() -> None:
    rows = [(f"f{i}", 10, 1_000_000) for i in range(300)]
    assert members(Exporter(1000), at(0, rows)) == members(Exporter(1000), at(9, rows[::-1]))


def test_tracking_that_begins_anew_begins_all_counters_anew() -> None:
    exporter = Exporter(1000)
    values(exporter, at(0, [(f"f{i}", 1000, i) for i in range(300)]))
    now = at(0, [(f"f{i}", 1, i) for i in range(300)])
    now = replace(now, tracking=replace(now.tracking, since=now.tracking.since + 60))
    found = values(exporter, now)
    assert sum(value for (name, _), value in found.items()
               if name == "slabmon_site_allocations_total") == 300  # fmt: skip


def test_those_that_are_gone_are_forgotten_in_the_end() -> None:
    places = Places(1)
    for step in range(100):
        keys = [(f"{step}.{i}",) for i in range(100)]
        column = np.arange(100)
        places.take(keys, column[:, None], column, column, 10, float(step))
    assert len(places._last) <= 3 * 100 + 1000 + 100
