# SPDX-License-Identifier: Apache-2.0
"""The verdict engine's memory: what it follows, forgets, and says of too little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slabmon.base.activity import Activity, Stage
from slabmon.census.model import Census, OrphanObjects
from slabmon.leaks import series
from slabmon.leaks.finding import Assessment, Dismissal, Finding
from slabmon.leaks.observer import Observer, Patience
from slabmon.leaks.survivors import AgedFlow, AgedObjects
from slabmon.model import Snapshot
from tests.scenarios.host import CacheFacts, Simulation, Stream, World
from tests.support.builders import NOW_NS, Object, device, tracked
from tests.support.censuses import census

END, STEP = 2400.0, 15.0


def leak(count: int = 2000, size: int = 1024, end: float = END) -> Stream:
    births = np.linspace(0.1, end, count)
    return Stream(("leak", 4, "mod"), f"kmalloc-{size}", size, births, np.full(count, np.inf))


def watch(world: World, end: float = END, patience: Patience | None = None) -> Assessment:
    observer = Observer(patience or Patience())
    for shown in Simulation(world, np.random.default_rng(5)).run(end, STEP):
        observer.add(shown)
    return observer.assess()


def names(assessment: Assessment) -> list[tuple[str, str]]:
    return [(finding.kind, finding.name) for finding in assessment.verdicts]


def test_a_leak_is_named_with_what_is_behind_it() -> None:
    world = World([leak()], sample_bytes=0)
    world.devices.append(lambda t: device("pci", "card", driver="drv", module="mod"))
    (found,) = watch(world).verdicts
    assert (found.kind, found.name, found.module) == ("site", "leak+0x4 [mod]", "mod")
    assert (found.drivers, found.devices, found.caches) == (("drv",), ("card",), ("kmalloc-1024",))
    true = 2000 * 1024 / END * 3600
    assert found.low <= true <= found.high
    assert found.growth == pytest.approx(true, rel=0.02)
    assert found.evidence_for
    assert found.evidence_against
    assert found.seconds_to(found.live + found.growth) == pytest.approx(3600)


@pytest.mark.parametrize(
    ("program", "cache", "dismissed"),
    [
        ("kfree", "kmalloc-1024", True),
        ("kmem_cache_free", "kmalloc-1024", False),  # it frees none of these
        ("kmem_cache_free", "names", True),
        ("kmem_cache_alloc", "names", False),
    ],
)
def test_lost_frees_of_its_cache_dismiss_a_growth(
    program: str, cache: str, dismissed: bool
) -> None:
    observer = Observer()
    world = World([replace(leak(), cache=cache)], sample_bytes=0)
    for shown in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        lost = {f"recursion_{program}": round(shown.tracking.seconds)}
        observer.add(replace(shown, losses=lost))
    found = observer.assess()
    assert bool(found.verdicts) is not dismissed
    assert dismissed == (Dismissal.LOSSES in {finding.dismissal for finding in found.dismissed})


def test_nothing_is_said_before_there_was_time() -> None:
    found = watch(World([leak()], sample_bytes=0), 600)
    assert not found.ready
    assert not found.verdicts
    assert not found.dismissed


def test_less_patience_is_quicker() -> None:
    found = watch(World([leak()], sample_bytes=0), 600, Patience(200, 30))
    assert names(found) == [("site", "leak+0x4 [mod]")]


def test_a_new_session_begins_anew() -> None:
    world = World([leak()], sample_bytes=0, reset=1500.0)
    found = watch(world)
    assert found.observed == pytest.approx(END - 1500, abs=STEP)
    assert not found.verdicts


def test_nothing_is_concluded_over_a_sleep() -> None:
    """Frees were missed: what is watched begins again with each wake."""
    observer = Observer(Patience(200, 30))
    shown = list(
        Simulation(World([leak()], sample_bytes=0), np.random.default_rng(5)).run(END, STEP)
    )
    for i, snapshot in enumerate(shown):
        wakes, activity = (1, Activity.AWAKE) if i < 60 else (2, Activity.AWAKE)
        if 60 <= i < 64:
            activity = Activity.ASLEEP
        tracking = replace(snapshot.tracking, wakes=wakes, activity=activity)
        observer.add(replace(snapshot, tracking=tracking))
        if i == 59:
            assert observer.suspicious
        if i in (60, 65):
            assert not observer.suspicious
            assert observer.observed <= 2 * STEP
    assert names(observer.assess()) == [("site", "leak+0x4 [mod]")]


def test_what_is_hardly_sampled_is_not_watched() -> None:
    """In the light stage objects are missing, after which growth would seem to begin."""
    observer = Observer(Patience(200, 30))
    world = World([leak()], sample_bytes=0)
    for i, snapshot in enumerate(Simulation(world, np.random.default_rng(5)).run(END, STEP)):
        stage = Stage.LIGHT if i < 40 else Stage.SAMPLED
        observer.add(replace(snapshot, tracking=replace(snapshot.tracking, stage=stage)))
        if i < 40:
            assert observer.observed == 0
            assert observer.assess().activity == Activity.AWAKE
    assert observer.observed == pytest.approx(END - 40 * STEP, abs=2 * STEP)


def test_frees_that_cannot_be_seen_are_no_evidence() -> None:
    hidden = leak()
    hidden.unseen, hidden.deaths = np.ones(2000, bool), hidden.births + 5
    world = World([hidden], caches={"kmalloc-1024": CacheFacts(observable=False)}, sample_bytes=0)
    found = watch(world)
    assert not found.verdicts


def test_reclaimable_growth_is_dismissed_and_says_so() -> None:
    world = World([leak()], caches={"kmalloc-1024": CacheFacts(reclaimable=True)}, sample_bytes=0)
    found = watch(world)
    assert not found.verdicts
    assert "reclaimable" in found.dismissed[0].dismissed
    assert {finding.dismissal for finding in found.dismissed} == {
        Dismissal.RECLAIMABLE,
    }


def test_growth_of_a_device_is_exact() -> None:
    world = World([leak(1)], sample_bytes=0)
    world.devices.append(lambda t: device("pci", "hub", managed_bytes=256 * int(t / 60)))
    assert ("device", "pci:hub") in names(watch(world))


def test_a_snapshot_that_was_seen_changes_nothing() -> None:
    shown = list(Simulation(World([leak()]), np.random.default_rng(5)).run(300, STEP))
    observer = Observer()
    for snapshot in shown:
        observer.add(snapshot)
    before = observer.assess()
    observer.add(shown[-1])
    assert observer.assess() == before


def test_series_are_bounded_and_the_largest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("series", "observer"):
        monkeypatch.setattr(f"slabmon.leaks.{module}.MAX_SERIES", 16)
    monkeypatch.setattr("slabmon.leaks.observer._ROOM", 4)
    world = World([leak()], sample_bytes=0)
    for i in range(40):
        births = np.linspace(0, END, 30)
        world.streams.append(Stream((f"site_{i}", i, None), "kmalloc-64", 64, births, births + 300))
    observer = Observer()
    for snapshot in Simulation(world, np.random.default_rng(5)).run(END, STEP):
        observer.add(snapshot)
        observer.assess()
        assert len(observer._subjects.number) <= 16
    assert ("site", "leak+0x4 [mod]") in names(observer.assess())
    assert observer.assess().left_out


def empty(seconds: float) -> Snapshot:
    world = World([leak()])
    return replace(
        Simulation(world, np.random.default_rng(5)).at(seconds),
        sites=(),
        caches=(),
        devices=(),
        tracked=tracked(),
    )


def test_a_host_without_anything() -> None:
    observer = Observer(Patience(100, 0))
    for number in range(1, 60):
        observer.add(empty(number * STEP))
        assert not observer.assess().verdicts


def test_points_are_bounded() -> None:
    scale = series.Scale(1.0, AgedObjects(0.0))
    for number in range(3 * series.POINTS):
        scale.add(float(number), np.zeros(0), np.zeros(0), 0.0)
    assert len(scale.points) == len(scale.moments) == series.POINTS


def test_old_objects_come_and_go() -> None:
    aged, flow = AgedObjects(60.0), AgedFlow()
    flow.grow(1)
    objects = [Object(bytes=100, age=61), Object(bytes=50, age=70), Object(bytes=9, age=5)]
    for listed in (objects, objects[:1], objects[:1]):
        found = tracked(listed)
        chosen = aged.select(found)
        assert (found.born_ns[chosen] <= NOW_NS - 60e9).all()
        aged.advance(found, chosen, np.zeros((1, len(chosen)), int), flow)
    assert (flow.come[0], flow.gone[0], flow.variance[0]) == (150, 50, 100**2 + 50**2 + 50**2)


STOPPED, CONTINUED = 1800.0, 5400.0  # nobody looks in between


def watch_with_a_pause(stream: Stream, end: float) -> list[tuple[float, Assessment]]:
    """Return the assessment at each snapshot. One observer sees them all."""
    observer, assessments = Observer(), []
    world = World([stream], sample_bytes=0)
    for shown in Simulation(world, np.random.default_rng(5)).run(end, STEP):
        seconds = shown.tracking.seconds
        if not STOPPED < seconds < CONTINUED:
            observer.add(shown)
            assessments.append((seconds, observer.assess()))
    return assessments


def births(*parts: tuple[float, float, int]) -> Stream:
    """Return objects that stay: begin, end and number of each part."""
    times = np.concatenate([np.linspace(begin + 0.1, end, count) for begin, end, count in parts])
    return Stream(("leak", 4, "mod"), "kmalloc-1024", 1024, times, np.full(len(times), np.inf))


def test_a_verdict_stands_over_a_pause_with_the_same_rate() -> None:
    end = CONTINUED + 1800
    count = 7200
    true = count * 1024 / end * 3600
    after = [
        assessment
        for seconds, assessment in watch_with_a_pause(births((0, end, count)), end)
        if seconds >= STOPPED
    ]
    for assessment in after:
        (found,) = assessment.verdicts
        assert found.name == "leak+0x4 [mod]"
        assert found.growth == pytest.approx(true, rel=0.1)
        assert found.window <= assessment.observed
    assert after[-1].observed == pytest.approx(end - (CONTINUED - STOPPED), abs=2 * STEP)


def test_growth_that_begins_after_a_pause_takes_as_long_as_any() -> None:
    """However long the pause was, it is not time in which growth was watched."""

    stream = births((0, 1, 1), (STOPPED, STOPPED + 900, 900))
    observer, expected = Observer(), 0.0
    for shown in Simulation(World([stream], sample_bytes=0), np.random.default_rng(5)).run(
        STOPPED + 900, STEP
    ):
        observer.add(shown)
        if observer.assess().verdicts:
            expected = shown.tracking.seconds - STOPPED
            break
    assert expected > 600
    stream = births((0, 1, 1), (CONTINUED, CONTINUED + 900, 900))
    for seconds, assessment in watch_with_a_pause(stream, CONTINUED + 900):
        assert bool(assessment.verdicts) == (seconds - CONTINUED >= expected)


def test_growth_during_a_pause_alone_is_no_verdict() -> None:
    end = CONTINUED + 1800
    stream = births((0, 1, 1), (STOPPED + 60, CONTINUED - 60, 3000))
    for _, assessment in watch_with_a_pause(stream, end):
        assert not assessment.verdicts


def test_a_leak_that_was_freed_during_a_pause_is_none() -> None:
    end = CONTINUED + 300
    stream = births((0, STOPPED, 1800))
    stream.deaths = np.full(1800, STOPPED + 600)
    assessments = dict(watch_with_a_pause(stream, end))
    assert names(assessments[STOPPED])
    assert not assessments[end].verdicts


def test_too_short_a_watch_is_not_ready_after_a_pause() -> None:
    observer = Observer()
    for shown in Simulation(World([leak()]), np.random.default_rng(5)).run(CONTINUED, STEP):
        if shown.tracking.seconds <= 600 or shown.tracking.seconds >= CONTINUED:
            observer.add(shown)
    assert observer.assess().observed == pytest.approx(600, abs=2 * STEP)
    assert not observer.assess().ready


def test_long_intervals_that_stay_are_no_pauses() -> None:
    observer = Observer()
    for shown in Simulation(World([leak()]), np.random.default_rng(5)).run(4800, 120):
        observer.add(shown)
    assert observer.assess().observed == pytest.approx(4800, abs=240)


def judged(last: Census | None, sample_bytes: int = 0) -> Finding:
    """The verdict on the leak with this census in the last snapshot."""
    observer = Observer(Patience())
    world = World([leak()], sample_bytes=sample_bytes)
    shown = list(Simulation(world, np.random.default_rng(5)).run(END, STEP))
    for each in shown[:-1]:
        observer.add(each)
    observer.add(replace(shown[-1], census=last))
    return observer.assess().verdicts[0]


def orphaned(objects: int, module: str | None = "mod", passes: int = 3, **fields: Any) -> Census:
    row = OrphanObjects(
        cache="kmalloc-1024", module=module, signature="x", objects=objects, bytes=1024 * objects
    )
    snapshot = next(iter(Simulation(World([leak()]), np.random.default_rng(5)).run(STEP, STEP)))
    taken = snapshot.tracking.since + fields.pop("at", END)
    return census(passes=passes, taken=taken, orphans=(row,) if objects else (), **fields)


@pytest.mark.parametrize("module", ["mod", None])
def test_orphans_are_evidence_for_a_leak(module: str | None) -> None:
    found = judged(orphaned(1990, module))
    (text,) = [text for text in found.evidence_for if "refers to" in text]
    assert "refers to 1,990 objects (1.9 MiB) of kmalloc-1024" in text
    assert not any("referred to" in text for text in found.evidence_against)


def test_orphans_of_a_growth_are_at_most_as_much_as_it_grew_by() -> None:
    """There may be older ones in its cache, and others'."""
    assert judged(orphaned(100)).orphans == 100 * 1024
    found = judged(orphaned(9000))
    assert found.orphans == found.grown
    assert any("any from before this growth included" in text for text in found.evidence_for)


@pytest.mark.parametrize(
    ("found", "sample_bytes", "told"),
    [
        (orphaned(0), 512, True),
        (orphaned(1990, "other"), 512, True),
        (orphaned(0), 0, False),  # slabmon's own table refers to all of them
        (orphaned(0, at=END / 10), 512, False),  # an old census
        (orphaned(0, passes=1), 512, False),  # that did not look
        (None, 512, False),
    ],
)
def test_no_orphans_are_evidence_against_a_lost_pointer(
    found: Census | None, sample_bytes: int, told: bool
) -> None:
    verdict = judged(found, sample_bytes)
    assert told == any("were still referred to" in text for text in verdict.evidence_against)
    assert not any("refers to" in text for text in verdict.evidence_for)
