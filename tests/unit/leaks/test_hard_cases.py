# SPDX-License-Identifier: Apache-2.0
"""Leaks in lockstep and in batches, demand, memory that only seems reclaimable, who holds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slabmon.census.model import OrphanObjects
from slabmon.leaks.attribution import attribute_growth
from slabmon.leaks.batches import MIN_BATCHES, find_batches
from slabmon.leaks.finding import Assessment, Dismissal, Finding, Kind
from slabmon.leaks.holders import find_holders, held_by_running
from slabmon.leaks.observer import Observer
from slabmon.leaks.series import POINTS, SCALES, SPARSE, Scale, Stretch
from slabmon.leaks.subjects import objects_of
from slabmon.leaks.survivors import AgedObjects
from slabmon.model import Process, Snapshot
from tests.scenarios.host import CacheFacts, Simulation, Stream, World
from tests.support.builders import NOW_NS, Object, cache, site, snapshot, tracked
from tests.support.censuses import census

END, STEP = 2400.0, 15.0
DOCKER = "/system.slice/docker-" + "0123456789ab" * 5 + "0123.scope"


def forgotten(
    symbol: str, cache: str, births: np.ndarray, size: int = 1024, **who: object
) -> Stream:
    stream = Stream((symbol, 4, None), cache, size, births, np.full(len(births), np.inf))
    for name, value in who.items():
        setattr(stream, name, value)
    return stream


def watch(world: World, end: float = END) -> Assessment:
    observer = Observer()
    for shown in Simulation(world, np.random.default_rng(5)).run(end, STEP):
        observer.add(shown)
    return observer.assess()


def names(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(finding.kind, finding.name) for finding in findings}


def irregular(count: int, seed: int = 3) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(0.1, END, count))


def test_caches_that_grow_in_lockstep_are_one_finding_with_its_parts() -> None:
    births = irregular(797)
    world = World(
        [
            forgotten("sk_new", "TCP", births, 2304),
            forgotten("file_new", "filp", births, 256),
            forgotten("other", "kmalloc-512", irregular(811, seed=4), 512),
        ],
        sample_bytes=0,
    )
    together, alone = watch(world).verdicts
    assert [part.name for part in together.parts] == ["sk_new+0x4", "file_new+0x4"]
    assert together.growth == sum(part.growth for part in together.parts)
    assert together.caches == ("TCP", "filp")
    assert "in lockstep with site file_new+0x4" in together.evidence_for[-1]
    assert together.part_text == "site file_new+0x4"
    assert (alone.name, alone.parts) == ("other+0x4", ())


def test_orphans_of_a_cache_that_several_parts_share_count_once() -> None:
    births = irregular(797)
    world = World(
        [
            forgotten("sk_new", "TCP", births, 2304),
            forgotten("one_new", "kmalloc-256", births, 256),
            forgotten("other_new", "kmalloc-256", births, 256),
        ],
        sample_bytes=0,
    )
    lost = [
        OrphanObjects(cache=name, signature="", objects=size // 256, bytes=size)
        for name, size in (("TCP", 9 << 20), ("kmalloc-256", 51200))
    ]
    observer = Observer()
    for shown in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        taken = replace(census(), passes=3, orphans=tuple(lost), taken=shown.taken - 60)
        observer.add(replace(shown, census=taken))
    (together,) = observer.assess().verdicts
    assert len(together.parts) == 3
    grown_there = together.grown * 2304 / (2304 + 2 * 256)
    assert together.orphans == pytest.approx(grown_there + 51200, rel=1e-6)


def connected(opened: np.ndarray, closed: np.ndarray) -> World:
    world = World([forgotten("sk_new", "TCP", opened, 2304, tgid=77)], sample_bytes=0)
    world.descriptors[77] = lambda t: float(
        3 + np.searchsorted(opened, t) - np.searchsorted(closed, t)
    )
    return world


def test_what_a_process_has_opened_and_holds_is_demand() -> None:
    opened = irregular(503)
    found = watch(connected(opened, np.zeros(0)))
    assert not found.verdicts
    reasons = {finding.dismissal: finding.dismissed for finding in found.dismissed}
    assert "load, which runs, opened" in reasons[Dismissal.DEMAND]


@pytest.mark.parametrize("seed", [0, 5])  # by chance these samples stand for too many objects
def test_samples_that_stand_for_more_objects_than_were_opened_are_demand(seed: int) -> None:
    world = replace(connected(irregular(1499), np.zeros(0)), sample_bytes=131072)
    observer = Observer()
    for shown in Simulation(world, np.random.default_rng(seed)).run(END, STEP):
        observer.add(shown)
        assert not observer.assess().verdicts


def test_what_is_left_of_descriptors_that_were_closed_is_a_leak() -> None:
    opened = irregular(503)
    assert names(watch(connected(opened, opened + 20)).verdicts) == {("site", "sk_new+0x4")}


def test_what_nothing_refers_to_is_not_demand() -> None:
    world, observer = connected(irregular(503), np.zeros(0)), Observer()
    lost = OrphanObjects(cache="TCP", signature="", objects=100, bytes=100 * 2304)
    for shown in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        taken = replace(census(), passes=3, orphans=(lost,), taken=shown.taken - 60)
        observer.add(replace(shown, census=taken))
    (found,) = observer.assess().verdicts
    assert found.orphans == 100 * 2304
    assert "refers to 100 objects" in found.reason


def test_growth_of_which_frees_are_no_longer_seen_does_not_level_off() -> None:
    world = World([forgotten("netns_new", "kmalloc-2k", irregular(797), 2048)], sample_bytes=0)
    observer = Observer()
    for shown in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        hidden = shown.tracking.seconds > 0.7 * END
        caches = tuple(replace(each, frees_observable=not hidden) for each in shown.caches)
        observer.add(replace(shown, caches=caches))
    reasons = {finding.name: finding.dismissed for finding in observer.assess().dismissed}
    assert "what is freed from kmalloc-2k is not seen" in reasons["netns_new+0x4"]


@pytest.mark.parametrize(("killed", "verdict"), [("/pod", True), ("/other", False), ("", False)])
def test_reclaimable_memory_of_killed_processes_is_not_dismissed(
    killed: str, verdict: bool
) -> None:
    world = World(
        [forgotten("d_new", "dentry", irregular(2003), 192, cgroup="/pod/web")],
        caches={"dentry": CacheFacts(reclaimable=True)},
        sample_bytes=0,
    )
    world.killed[killed] = lambda t: float(t // 300)
    found = watch(world)
    assert bool(found.verdicts) == verdict
    if verdict:
        (dentries,) = found.verdicts
        assert any("5 processes of /pod" in text for text in dentries.evidence_for)
    else:
        assert Dismissal.RECLAIMABLE in {finding.dismissal for finding in found.dismissed}


def helped() -> World:
    """A helper with a caller whose objects live for 200 seconds, and one that forgets them."""
    helper = "__alloc_skb"
    busy = forgotten(helper, "skbuff", irregular(4001), 512, stack=(helper, "send"))
    busy.deaths = busy.births + 200
    lost = forgotten(helper, "skbuff", irregular(997, 4), 512, stack=(helper, "lose"))
    return World([busy, lost], sample_bytes=0)


def test_a_caller_of_a_busy_helper_is_found_and_its_other_callers_are_not() -> None:
    assert names(watch(helped(), 1800).verdicts) == {("caller", "lose")}


def test_a_verdict_that_explains_another_has_stood_as_long() -> None:
    """Of objects older than ten minutes all are of the leak: the site is named for its caller."""
    observer = Observer()
    for shown in Simulation(helped(), np.random.default_rng(5)).run(2460, STEP):
        observer.add(shown)
        if shown.tracking.seconds > 1800:
            (verdict,) = observer.assess().verdicts
            assert verdict.callers[0].startswith("lose")
    assert verdict.kind == "site"


def spread(**who: object) -> list[Stream]:
    return [
        forgotten(f"part_{i}", f"kmalloc-rnd-{i:02}-64", irregular(13, i), 64, **who)
        for i in range(1, 16)
    ]


def test_sites_that_leak_little_are_found_as_a_family_or_a_cgroup() -> None:
    found = watch(World(spread(cgroup=DOCKER), sample_bytes=0))
    assert ("family", "kmalloc-64") in names(found.verdicts)
    apart = [replace(part, cache=f"cache_{i}") for i, part in enumerate(spread(cgroup=DOCKER))]
    apart.append(forgotten("once", "once", np.array([1.0]), 64))
    (container,) = watch(World(apart, sample_bytes=0)).verdicts
    assert (container.kind, container.name) == ("cgroup", DOCKER)
    assert container.holders.containers == ("0123456789ab 100%",)
    assert container.cgroup_text == "0123456789ab 100%"


def test_orphans_of_any_module_of_a_growth_count() -> None:
    parts = [replace(part, site=(*part.site[:2], f"mod_{i}")) for i, part in enumerate(spread())]
    lost = OrphanObjects(cache=parts[0].cache, module="mod_0", signature="", objects=2, bytes=128)
    observer = Observer()
    world = World(parts, sample_bytes=0)
    for shown in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        taken = replace(census(), passes=3, orphans=(lost,), taken=shown.taken - 60)
        observer.add(replace(shown, census=taken))
    (family,) = observer.assess().verdicts
    assert (family.kind, family.module, family.orphans) == ("family", "", 128)


def batched(sizes: list[float], every: int = 8, samples: float = 10.0) -> Stretch:
    """One series that grows by these bytes, `every` points apart."""
    steps = np.zeros((len(sizes) + 1) * every)
    steps[every::every][: len(sizes)] = sizes
    level = np.append(0.0, np.cumsum(steps))[:, None]
    moments = np.arange(len(level), dtype=float) * 1800.0
    variance = np.append(0.0, np.cumsum(np.square(steps) / samples))[:, None]
    none = np.zeros_like(level)
    return Stretch(
        age=60,
        taken=moments,
        moments=moments,
        level=level,
        variance=variance,
        gone=none,
        allocated=none,
        lost=none[:, 0],
    )


def test_batches_are_found_with_their_pace() -> None:
    (found,) = find_batches(batched([1e6, 1.2e6, 0.9e6, 1.1e6, 1e6, 1e6])).values()
    assert (found.count, found.every) == (6, 8 * 1800)
    assert found.low < 1e6 / (8 * 1800) < found.high
    assert found.p == 0.5**6


@pytest.mark.parametrize(
    "stretch",
    [
        batched([1e6] * (MIN_BATCHES - 1)),
        batched([1e6] * 5 + [1e8]),
        batched([1e6] * 6, samples=1),
        batched([1e6, 1e6, 1e6, -3e6, 1e6, 1e6, 1e6, 1e6]),
        batched([1e6] * 6 + [0.0] * 4),
        batched([1e6] * 20, every=2),
    ],
    ids=["few", "unequal", "single samples", "taken back", "over", "not rare"],
)
def test_what_are_no_rare_batches(stretch: Stretch) -> None:
    assert find_batches(stretch) == {}


def test_the_last_scale_keeps_some_of_its_earlier_points_evenly_spaced() -> None:
    step, age = SCALES[-1]
    scale = Scale(step, AgedObjects(age))
    scale.flow.grow(1)
    for number in range(1, POINTS + 10 * SPARSE + 5):
        scale.add(number * step, np.full(1, float(number)), np.zeros(1), 0.0)
        *_, sparse = scale.stretches(1)
        if number > POINTS:
            assert set(np.diff(sparse.moments)) == {SPARSE * step}
    recent, sparse = scale.stretches(1)
    assert len(recent.moments) == POINTS
    assert sparse.moments[0] == (SPARSE + 1) * step or sparse.moments[0] == step
    assert (sparse.level[:, 0] * step == sparse.moments).all()


def held(*objects: Object, processes: tuple[Process, ...] | None = None) -> Snapshot:
    columns = tracked(objects)
    columns = replace(columns, cgroups={1: "/a", 2: DOCKER}, stacks={7: ("f", "g")})
    return snapshot(
        caches=(cache(),), sites=(site("__alloc_skb"),), tracked=columns, processes=processes
    )


def test_holders_are_named_with_shares_and_those_that_are_gone() -> None:
    old = Process(tgid=100, started_ns=NOW_NS - 10**12)
    now = held(
        Object(comm=b"cat", tgid=100),
        Object(comm=b"cat", tgid=101),
        Object(comm=b"dog", tgid=102, cgroup=2, stack=7),
        Object(comm=b"dog", tgid=103, cgroup=2, stack=7),
        processes=(old, Process(tgid=101), Process(tgid=102, started_ns=NOW_NS)),
    )
    rows = np.arange(4)
    holders = find_holders(now, rows, np.array([10.0, 20.0, 30.0, 40.0]))
    # 102 is the number of a later process now, 103 was not looked for.
    assert holders.processes == ("dog 40%", "dog (gone) 30%", "cat (gone) 20%")
    assert holders.cgroups == (f"{DOCKER} 70%", "/a 30%")
    assert holders.stack == ("f", "g")
    assert holders.stack_share == pytest.approx(0.7)
    (mine,) = held_by_running(now, rows, np.ones(4))
    assert (mine.process, mine.name, mine.objects) == (old, "cat", 1.0)


def test_nothing_is_said_of_processes_where_nothing_is_known() -> None:
    now = held(Object(comm=b"cat"))
    assert find_holders(now, np.arange(1), np.ones(1)).processes == ("cat 100%",)
    assert held_by_running(now, np.arange(1), np.ones(1)) == []


def test_the_objects_of_a_caller_are_those_with_it_on_their_stack() -> None:
    now = held(Object(stack=7), Object())
    now = replace(now, tracked=replace(now.tracked, stacks={7: ("__alloc_skb", "send")}))
    assert objects_of(now, Kind.CALLER, "send").tolist() == [True, False]
    assert objects_of(now, Kind.CALLER, "gone").tolist() == [False, False]
    assert objects_of(now, Kind.CGROUP, "/a").tolist() == [True, True]


@pytest.mark.parametrize(("kind", "key"), [(Kind.CALLER, "send"), (Kind.CGROUP, "/a")])
def test_a_caller_and_a_cgroup_hold_more_than_what_survived(kind: Kind, key: str) -> None:
    now = held(*(Object(stack=7, age=age) for age in (1, 6, 100)), Object(cgroup=2, age=6))
    now = replace(now, tracked=replace(now.tracked, stacks={7: ("__alloc_skb", "send")}))
    found = attribute_growth(now, kind, key, now.tracking.seconds - 7, 5)
    assert found is not None
    assert (found.bytes, found.live) == (64, 3 * 64)


@pytest.mark.parametrize("object_size", [64, 8], ids=["plain", "slub_debug"])
def test_a_cache_too_slow_for_samples_that_grows_with_descriptors_is_demand(
    object_size: int,
) -> None:
    """Sampled, none of its objects is tracked: its exact count is compared with the process's. With
    slub_debug an object occupies several times its size."""
    opened = np.sort(np.random.default_rng(7).uniform(0.1, 5400, 241))
    world = connected(opened, np.zeros(0))
    world.streams[0] = forgotten("state_new", "conn", opened, 64, tgid=77)
    world.sample_bytes = 1 << 24
    observer = Observer()
    for shown in Simulation(world, np.random.default_rng(5)).run(5400, 60):
        caches = (
            replace(cache, object_size=object_size) if cache.name == "conn" else cache
            for cache in shown.caches
        )
        observer.add(replace(shown, caches=tuple(caches)))
    found = observer.assess()
    assert not found.verdicts
    (finding,) = found.dismissed
    assert (finding.name, finding.dismissal) == ("conn", Dismissal.DEMAND)
    assert "demand: process 77, which runs, opened" in finding.dismissed
