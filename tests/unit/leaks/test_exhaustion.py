# SPDX-License-Identifier: Apache-2.0
"""Early findings: what is named, when, and what is not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slabmon.base.activity import Activity
from slabmon.base.fields import Host
from slabmon.export import leaks
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.leaks.exhaustion import ExhaustionWatch
from slabmon.leaks.finding import Finding, Strength
from slabmon.leaks.observer import Observer
from slabmon.memory.reading import MemoryReading
from slabmon.model import Mode, Slabinfo, Snapshot, Tracking
from slabmon.report.leaks import suspicions
from slabmon.views.catalogue import VIEWS
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window
from tests.support import scraping
from tests.support.builders import Object, cache, site, snapshot, tracked

MIB, GIB = 1 << 20, 1 << 30
STARTS = 200.0  # seconds at which something begins to grow
Level = Callable[[float], float]


def seen(
    now: float,
    levels: dict[str, float],
    *,
    memory: int = 8 * GIB,
    available: float = 4 * GIB,
    reclaimable: bool = False,
    boot: str = "boot",
    uptime: float = 1e5,
    activity: Activity = Activity.AWAKE,
    since: float = 1e9,
) -> Snapshot:
    """A host whose caches occupy so many bytes after `now` seconds."""
    return snapshot(
        host=Host("6.12.0", "x86_64", 2, boot, memory),
        tracking=Tracking(since, 1e9 + now - since, Mode.SAMPLED, 131072, activity=activity),
        caches=tuple(
            cache(name, slabinfo=Slabinfo(1, 1, 64, round(size)), reclaimable=reclaimable)
            for name, size in levels.items()
        ),
        sites=(),
        tracked=replace(tracked(), now_ns=round((uptime + now) * 1e9)),
        memory=MemoryReading(
            taken=1e9 + now,
            amounts={
                "MemAvailable": round(available),
                "SUnreclaim": 0 if reclaimable else round(sum(levels.values())),
            },
        ),
    )


def growing(per_second: float, lasts: float = np.inf) -> Level:
    return lambda now: 50 * MIB + per_second * min(lasts, max(0.0, now - STARTS))


def watched(
    level: Level, end: float = 600, step: float = 10, **host: Any
) -> list[tuple[float, Finding]]:
    """All early findings about a cache with these levels, with the seconds since STARTS."""
    watch, named = ExhaustionWatch(), []
    for now in np.arange(step, end, step).tolist():
        watch.add(seen(now, {"msg": level(now)}, **host))
        named += [(now - STARTS, finding) for finding in watch.findings]
    return named


def test_four_mebibytes_a_second_are_named_within_two_minutes() -> None:
    (after, first), *_ = watched(growing(4 * MIB))
    assert after <= 120
    assert (first.kind, first.name, first.strength) == ("cache", "msg", Strength.EARLY)
    assert first.bytes_per_second == pytest.approx(4 * MIB)
    assert first.exhaustion is not None
    assert first.exhaustion.seconds == pytest.approx(1024)
    assert "it grew by 360.0 MiB in 1m30s, in 9 of 9 readings" in first.evidence_for
    assert "no call site is known: none of its growth has been tracked yet" in (
        first.evidence_against
    )


def test_the_interval_of_the_projection_follows_from_that_of_the_pace(
    rng: random.Random,
) -> None:
    noise = np.cumsum([rng.gauss(0, 4 * MIB) for _ in range(100)])
    finding = watched(lambda now: growing(4 * MIB)(now) + noise[int(now // 10)])[-1][1]
    assert finding.exhaustion is not None
    assert finding.low < finding.growth < finding.high
    bounds = finding.exhaustion
    assert bounds.earliest == pytest.approx(bounds.available / finding.high * 3600)
    assert bounds.latest == pytest.approx(bounds.available / finding.low * 3600)


def test_growth_that_takes_more_than_a_day_is_not_named() -> None:
    assert not watched(growing(4 * GIB / 90_000), end=4000)


def test_growth_within_a_day_is_named_once_it_has_taken_its_share_of_what_is_available() -> None:
    (after, _), *_ = watched(growing(4 * GIB / 30_000), end=1500)
    assert 30_000 / 64 <= after <= 30_000 / 64 + 60


def test_growth_of_nearly_a_day_is_named() -> None:
    (after, _), *_ = watched(growing(4 * GIB / 80_000), end=2000)
    assert 80_000 / 64 <= after <= 1500


def test_thresholds_scale_with_memory() -> None:
    small = growing(64 * 1024)
    assert watched(small, memory=512 * MIB, available=300 * MIB)[0][0] <= 120
    assert not watched(small)


def test_a_percent_a_minute_is_named_within_two_minutes_on_an_idle_host() -> None:
    watch, others = ExhaustionWatch(), {f"cache_{i}": float(MIB) for i in range(100)}
    for now in np.arange(10, STARTS + 130, 10).tolist():
        level = growing(8 * GIB / 6000)(now)
        watch.add(seen(now, {"msg": level, **others}, available=0.97 * 8 * GIB))
    assert [finding.name for finding in watch.findings] == ["msg"]


def test_the_pace_is_that_since_growth_began() -> None:
    """Half a minute of each two grows faster: what was before it began counts in no window."""
    per_second = 4 * GIB / 30_000

    def level(now: float) -> float:
        passed = max(0.0, now - STARTS)
        return 50 * MIB + per_second * (passed + 8 * math.sin(passed / 19))

    _, first = watched(level, end=1500)[0]
    assert first.window >= 300
    assert first.low < per_second * 3600 < first.high


def test_a_short_slowdown_is_no_warm_up() -> None:
    """An increment that is 2 % smaller than the others, after nine of ten windows."""
    named = watched(lambda now: growing(4 * MIB)(now) - MIB * (now > STARTS + 90), end=STARTS + 120)
    assert named[0][0] <= 120


@pytest.mark.parametrize("tau", [60, 100, 200, 300])
@pytest.mark.parametrize("memory", [512 * MIB, 64 * GIB])
def test_a_cache_that_fills_is_not_named_however_long_it_is_watched(tau: int, memory: int) -> None:
    fill = 0.03 * memory
    assert not watched(
        lambda now: 50 * MIB + fill * (1 - np.exp(-max(0.0, now - STARTS) / tau)),
        end=2400,
        memory=memory,
        available=memory / 2,
    )


@pytest.mark.parametrize(
    "level",
    [
        growing(16 * MIB, lasts=75),
        lambda now: 50 * MIB + GIB * (1 - np.exp(-max(0.0, now - STARTS) / 100)),
        lambda now: 50 * MIB + 400 * MIB * min(1.0, (now % 150) / 70),
        lambda now: 50 * MIB + (GIB if now > STARTS else 0),
    ],
    ids=["a burst of a minute", "a warm-up", "a job every two minutes", "one step"],
)
def test_what_ends_is_not_named(level: Level) -> None:
    assert not watched(level, end=900)


def test_reclaimable_memory_is_not_named() -> None:
    assert not watched(growing(16 * MIB), reclaimable=True)


def walked(per_inode: float) -> tuple[Finding, ...]:
    """Return what is found while 100,000 inodes a second are read, with so many objects each."""
    watch = ExhaustionWatch()
    for now in np.arange(10, STARTS + 150, 10).tolist():
        inodes = 5000 + round(100_000 * max(0.0, now - STARTS))
        objects = round(inodes * per_inode)
        shown = seen(now, {"kmalloc-64": 64.0 * objects})
        of_inodes = cache(
            "ext4_inode_cache",
            slabinfo=Slabinfo(inodes, inodes, 64, 64 * inodes),
            reclaimable=True,
        )
        blobs = replace(shown.caches[0], slabinfo=Slabinfo(objects, objects, 64, 64 * objects))
        watch.add(replace(shown, caches=(of_inodes, blobs)))
    return watch.findings


def test_what_goes_with_inodes_is_not_named() -> None:
    assert not walked(per_inode=1.02)
    assert walked(per_inode=1.2)


def test_the_start_of_a_host_is_not_judged() -> None:
    assert watched(growing(16 * MIB), uptime=0.0, end=700)[0][0] >= 600 - STARTS


def test_it_is_withdrawn_when_growth_ends() -> None:
    named = watched(growing(4 * MIB, lasts=180), end=1200)
    assert 180 <= max(after for after, _ in named) <= 180 + 30 + 60


def test_it_is_withdrawn_at_once_when_its_memory_is_freed() -> None:
    freed = STARTS + 180
    named = watched(lambda now: growing(4 * MIB)(now if now < freed else 0), end=1200)
    assert max(after for after, _ in named) == 170


def test_a_short_rest_does_not_withdraw_it() -> None:
    def level(now: float) -> float:
        return growing(4 * MIB)(now - min(40.0, max(0.0, now - STARTS - 200)))

    moments = [after for after, _ in watched(level, end=STARTS + 400)]
    assert moments == list(np.arange(moments[0], STARTS + 200, 10)[: len(moments)])


def test_what_grows_while_tracking_sleeps_is_named() -> None:
    assert watched(growing(4 * MIB), activity=Activity.ASLEEP, step=20)[0][0] <= 180


def test_what_wakes_tracking_is_named_within_two_minutes() -> None:
    """Readings come every 20 s until tracking wakes, here after a minute, and every 10 s then."""
    watch, named = ExhaustionWatch(), []
    moments = [*range(20, int(STARTS) + 60, 20), *range(int(STARTS) + 60, 400, 10)]
    for now in moments:
        activity = Activity.AWAKE if now > STARTS + 60 else Activity.ASLEEP
        watch.add(seen(now, {"msg": growing(4 * MIB)(now)}, activity=activity))
        named += [now - STARTS for _ in watch.findings]
    assert named[0] <= 120


def test_a_new_session_does_not_begin_anew() -> None:
    watch = ExhaustionWatch()
    for now in np.arange(10, STARTS + 120, 10).tolist():
        begun = 1e9 + (now // 60) * 60  # restarted every minute
        watch.add(seen(now, {"msg": growing(4 * MIB)(now)}, since=begun))
    assert watch.findings


@pytest.mark.parametrize("boot", ["boot", "another"])
def test_a_pause_and_another_boot_begin_anew(boot: str) -> None:
    watch = ExhaustionWatch()
    for now in np.arange(10, STARTS + 150, 10).tolist():
        watch.add(seen(now, {"msg": growing(4 * MIB)(now)}))
    assert watch.findings
    later = STARTS + (160 if boot == "another" else 400)
    watch.add(seen(later, {"msg": growing(4 * MIB)(later)}, boot=boot))
    assert not watch.findings
    assert not watch.suspicious


def test_growth_over_many_caches_is_a_total() -> None:
    watch = ExhaustionWatch()
    for now in np.arange(10, STARTS + 150, 10).tolist():
        part = growing(4 * MIB / 40)(now)
        watch.add(seen(now, {f"cache_{i}": part for i in range(40)}))
    assert [(f.kind, f.name) for f in watch.findings] == [("memory", "unreclaimable slab")]


def test_what_is_gone_is_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slabmon.leaks.exhaustion._MOST_AMOUNTS", 10)
    watch = ExhaustionWatch()
    for now in np.arange(10, STARTS + 150, 10).tolist():
        watch.add(seen(now, {f"gone_{now}": MIB, "msg": growing(4 * MIB)(now)}))
        assert len(watch.state().names) <= 10 + 3
    (finding,) = watch.findings
    assert finding.name == "msg"
    assert finding.bytes_per_second == pytest.approx(4 * MIB)


def test_a_host_of_unknown_memory_is_not_judged() -> None:
    assert not watched(growing(4 * MIB), memory=0)


def test_readings_without_slabinfo_and_meminfo_are_taken() -> None:
    watch = ExhaustionWatch()
    for now in range(10, 400, 10):
        watch.add(replace(seen(now, {}), memory=None))
    assert not watch.findings


@pytest.fixture(scope="module")
def judged() -> Observer:
    observer = Observer()
    for now in np.arange(10, STARTS + 150, 10).tolist():
        level = growing(4 * MIB)(now)
        shown = seen(now, {"msg": level})
        objects = [
            Object(bytes=4096, interval=131072, age=age + 11, comm=b"stress", stack=-1)
            for age in range(int(max(0, now - STARTS)))
        ]
        live = replace(tracked(objects), now_ns=10**18)
        observer.add(replace(shown, sites=(site("load_msg", 0x41),), tracked=live))
    return observer


def test_it_names_site_and_process(judged: Observer) -> None:
    assert judged.suspicious
    (finding,) = judged.assess().exhausting
    assert finding.sites == ("load_msg+0x41",)
    assert "most of it was allocated by stress 100%" in finding.evidence_for


def test_it_survives_the_document(judged: Observer) -> None:
    document = json.loads(json.dumps(leaks.to_dict(judged.assess())))
    (finding,) = leaks.from_dict(document).exhausting
    assert finding.strength == Strength.EARLY
    assert finding.exhaustion is not None
    assert finding.exhaustion.seconds == 1024


def test_people_read_it_first(judged: Observer) -> None:
    text = leaks.to_text(leaks.to_dict(judged.assess()))
    assert text.startswith("Memory is being exhausted by cache msg:\n  grows by 240.0 MiB a minute")
    assert "4.0 GiB of available memory last for 17m04s at this pace" in text
    assert "load_msg+0x41" in text
    assert "Too early to tell" in text


def test_a_report_says_it(judged: Observer) -> None:
    first = next(iter(suspicions(leaks.to_dict(judged.assess()))))
    assert first.text.startswith("cache msg exhausts memory, an early finding: 4.0 GiB of avail")
    assert "It is allocated by load_msg+0x41." in first.text


def test_its_metrics(judged: Observer) -> None:
    families = Exporter().families(None, Daemon(), judged.assess())
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in scraping.parse_text(scraping.text(families))
        for sample in family.samples
    }
    for metric in ("", "_earliest", "_latest"):
        assert samples[f"slabmon_exhaustion{metric}_seconds", "cache", "", "msg"] == 1024
    assert samples["slabmon_exhaustion_bytes_per_second", "cache", "", "msg"] == 4 * MIB
    assert not any(name == "slabmon_leak_suspect_bytes_per_second" for name, *_ in samples)


def test_the_view_of_verdicts_begins_with_it(judged: Observer) -> None:
    table = Table(VIEWS["verdicts"], Window(Instant(snapshot(), judged.assess)))
    names = ("suspect", "verdict", "exhaustion_seconds")
    (row,) = table.cells(table.order(), [VIEWS["verdicts"].column(name) for name in names])
    assert row == ("msg", "early", 1024)
