# SPDX-License-Identifier: Apache-2.0
"""Rows of the overview: they add up, say what is wrong, and leave out what is not known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slabmon.base.activity import Activity
from slabmon.leaks.finding import Assessment, Exhaustion, Finding, Kind, Strength
from slabmon.model import FeatureState, ProgramCost, Snapshot, State
from slabmon.views.overview.caches import CACHE_DETAILS
from slabmon.views.overview.facts import OverviewRow
from slabmon.views.overview.rows import rows
from slabmon.views.window import Instant, Window
from tests.support.builders import snapshot, window_of
from tests.support.censuses import census, rich
from tests.support.conditions import GIB, MIB, TOTAL, fast_leak, healthy, memory, old_leak
from tests.support.memory import reading, scan

Host = Callable[[float], Snapshot]


def watched(make: Host, seconds: int = 190) -> Window:
    """The window over a host that was read every ten seconds."""
    return window_of(*(make(float(second)) for second in range(10, seconds, 10)))


def named(window: Window) -> dict[str, OverviewRow]:
    return {row.what: row for row in rows(window)}


def states(window: Window) -> dict[str, str | None]:
    return {row.what: row.state for row in rows(window)}


def alone(found: Snapshot, assessment: Assessment | None = None) -> dict[str, OverviewRow]:
    return named(Window(Instant(found, lambda: assessment)))


@pytest.mark.parametrize("make", [healthy, old_leak, fast_leak])
def test_rows_of_the_ledger_add_up_to_all_memory(make: Host) -> None:
    found = [row for row in rows(watched(make)) if row.key[0] == "memory"]
    assert sum(row.bytes or 0 for row in found) == TOTAL
    assert len(found) == 7


def test_a_host_full_of_page_cache_is_fine() -> None:
    found = states(watched(healthy))
    assert found.pop("leaks") is None, "too early"
    assert set(found.values()) == {"ok"}


def test_what_can_be_given_back_may_grow() -> None:
    dentry = named(watched(healthy))["dentry"]
    assert dentry.growth is not None
    assert 10.4 * GIB < dentry.growth < 10.6 * GIB
    assert dentry.finding.startswith("+10.5 GiB/h")
    assert "out of memory" not in dentry.finding


def test_an_old_leak_is_seen_at_the_first_reading() -> None:
    found = alone(old_leak(1.0))
    assert (found["this host"].state, found["this host"].finding) == ("warn", "see kmalloc-256")
    assert found["slab, unreclaimable"].state == "warn"
    assert found["kmalloc-256"].bytes == 14 * GIB


def test_growth_that_uses_up_memory_soon_is_a_warning_and_very_soon_critical() -> None:
    assert states(watched(fast_leak))["kmalloc-1k"] == "warn"

    def faster(seconds: float) -> Snapshot:
        return fast_leak(2 * seconds)

    window = window_of(
        *(
            replace(found, tracking=replace(found.tracking, seconds=found.tracking.seconds / 2))
            for found in map(faster, range(10, 190, 10))
        )
    )
    found = named(window)
    assert found["kmalloc-1k"].state == found["this host"].state == "crit"
    assert "out of memory in 40m" in found["kmalloc-1k"].finding


def test_growth_that_uses_up_memory_late_is_fine() -> None:
    def slow(seconds: float) -> Snapshot:
        tracking = replace(snapshot().tracking, seconds=seconds)
        return replace(fast_leak(seconds / 10), tracking=tracking)

    row = named(watched(slow))["kmalloc-1k"]
    assert row.state == "ok", "not within 6 hours"
    assert row.finding.endswith("; +1.4 GiB/h")


def test_a_burst_is_no_growth() -> None:
    def burst(seconds: float) -> Snapshot:
        moment = 10.0 if seconds < 100 else 170.0
        tracking = replace(snapshot().tracking, seconds=seconds)
        return replace(fast_leak(moment), tracking=tracking)

    found = watched(burst)
    assert states(found)["this host"] == "ok"
    early = named(watched(fast_leak, 40))
    assert (early["this host"].state, early["kmalloc-1k"].state) == (None, "ok")
    assert early["this host"].finding == "nothing wrong so far; growth: watched 20.0s of 30.0s"


def test_growth_of_a_few_seconds_is_not_known() -> None:
    def growth(seconds: int) -> float | None:
        return named(watched(fast_leak, seconds))["slab, unreclaimable"].growth

    assert growth(40) is None, "watched for 20 seconds"
    assert growth(50) is not None, "watched for 30 seconds"


@pytest.mark.parametrize(("interval", "seen"), [(280, True), (700, False)])
def test_growth_is_seen_in_recordings_with_long_intervals(interval: int, seen: bool) -> None:
    window = window_of(*(fast_leak(float(n * interval)) for n in range(1, 6)))
    assert ("GiB/h" in named(window)["kmalloc-1k"].finding) == seen


def test_growth_is_seen_over_readings_at_uneven_times() -> None:
    window = window_of(*map(fast_leak, (10.0, 300.0, 550.0, 560.0)))
    assert "+14.1 GiB/h" in named(window)["kmalloc-1k"].finding


def test_kernel_pages_that_a_census_names_are_no_growth() -> None:
    def counted(seconds: float) -> Snapshot:
        found = replace(snapshot(), memory=reading(1000 + seconds))
        tracking = replace(found.tracking, seconds=seconds)
        named = replace(census(), memory=scan()) if seconds > 100 else None
        return replace(found, tracking=tracking, census=named)

    found = named(watched(counted))
    assert found["other kernel memory"].bytes == 137 * MIB
    assert found["slab, unreclaimable"].growth == 0
    # Struct pages say a little more of page pools and per-CPU memory.
    assert (found["other kernel memory"].growth or 0) < 60 * MIB
    assert abs(found["unaccounted"].growth or 0) < 300 * MIB
    assert found["unaccounted"].finding == "no counter names it"
    assert found["slab, unreclaimable"].finding == "page-backed kmalloc 25.0 MiB"


def taken(found: Snapshot, size: float, amount: str = "") -> Snapshot:
    """Return a host on which something else has taken memory from page cache."""
    assert found.memory is not None
    amounts = dict(found.memory.amounts)
    amounts["Cached"] -= round(size)
    if amount:
        amounts[amount] += round(size)
    return replace(found, memory=replace(found.memory, amounts=amounts))


def test_memory_that_no_counter_names_may_grow() -> None:
    found = named(watched(lambda seconds: taken(healthy(seconds), 4 * MIB * seconds)))
    assert found["unaccounted"].state == "warn"
    assert found["unaccounted"].finding.startswith("out of memory in ")
    counted = replace(census(), memory=scan())
    found = named(
        watched(lambda s: replace(taken(healthy(s), 16 * MIB * s), census=counted), seconds=100)
    )
    assert found["unaccounted"].state == "crit"


def test_other_kernel_memory_may_grow_and_be_large() -> None:
    found = named(watched(lambda s: taken(healthy(s), 4 * MIB * s, "VmallocUsed")))
    assert found["other kernel memory"].state == "warn"
    assert found["other kernel memory"].finding.startswith("out of memory in ")
    found = alone(taken(healthy(1.0), 3 * GIB, "VmallocUsed"))
    assert found["other kernel memory"].state == "warn"
    assert found["other kernel memory"].finding.startswith("more than 10% of memory; vmalloc 3.2")
    found = named(watched(lambda s: taken(healthy(s), 3 * GIB + 16 * MIB * s, "VmallocUsed")))
    assert found["other kernel memory"].state == "crit"


def test_parts_of_other_memory_are_named_the_largest_first() -> None:
    found = alone(healthy(1.0))
    assert found["other kernel memory"].finding == "page tables 300.0 MiB, vmalloc 160.0 MiB"


def test_much_that_is_unaccounted_is_a_warning_only_if_struct_pages_were_read() -> None:
    left = 80 * MIB  # 3.8 %, and 2.3 % that struct pages do not name
    bare = replace(snapshot(), memory=reading(MemFree=1000 * MIB - left))
    assert alone(bare)["unaccounted"].state is None
    assert "a census may" in alone(bare)["unaccounted"].finding
    counted = replace(bare, census=replace(census(), memory=scan()))
    assert alone(counted)["unaccounted"].state == "warn"


@pytest.mark.parametrize(("left", "state"), [(4, "warn"), (1, "crit")])
def test_memory_that_runs_short(left: int, state: str) -> None:
    short = memory(1.0, slab=MIB, reclaimable=0, free=0)
    cached = short.amounts["Cached"]
    amounts = {**short.amounts, "Cached": 200 * MIB + TOTAL * left // 100}
    amounts["AnonPages"] += cached - amounts["Cached"]
    found = alone(replace(healthy(1.0), memory=replace(short, amounts=amounts)))
    assert found["free"].state == found["this host"].state == state


def test_recordings_without_counters_of_memory_have_no_such_rows() -> None:
    bare = replace(old_leak(1.0), memory=None)
    found = alone(bare)
    assert {row.key[0] for row in found.values()} == {"host", "leaks", "cache", "losses", "cost"}
    assert found["kmalloc-256"].state == "warn", "the size of memory is known"
    assert not found["kmalloc-256"].depth
    older = replace(bare, host=replace(bare.host, memory_bytes=0))
    found = alone(older)
    assert (found["kmalloc-256"].state, found["this host"].bytes) == (None, None)
    assert found["kmalloc-256"].finding == "merged with pool_workqueue"
    unread = replace(older, caches=())
    assert alone(unread)["this host"].finding == "memory and slabs could not be read"


def test_memory_that_was_not_read_at_first_did_not_grow() -> None:
    def late(seconds: float) -> Snapshot:
        return healthy(seconds) if seconds > 50 else replace(healthy(seconds), memory=None)

    assert named(watched(late))["page cache"].growth is None


@pytest.mark.parametrize(
    ("activity", "state", "leaks"),
    [
        (Activity.ASLEEP, "ok", "nothing grows: tracking is asleep"),
        (Activity.OFF, None, "not looked for: tracking is off"),
    ],
)
def test_without_tracking(activity: Activity, state: str | None, leaks: str) -> None:
    def quiet(seconds: float) -> Snapshot:
        found = fast_leak(seconds)
        return replace(found, tracking=replace(found.tracking, activity=activity))

    found = named(watched(quiet))
    assert (found["leaks"].state, found["leaks"].finding) == (state, leaks)
    assert found["cost of slabmon"].finding == f"none per event: tracking is {activity}"
    assert found["kmalloc-1k"].state == "warn", "slabs are counted all the same"


def finding(name: str = "fill+0x5c [nic]", **fields: Any) -> Finding:
    plain: dict[str, Any] = {
        "kind": Kind.SITE,
        "key": name,
        "name": name,
        "module": "nic",
        "drivers": ("nic",),
        "devices": ("0000:00:04.0",),
        "caches": ("kmalloc-1k",),
        "sites": (name,),
        "strength": Strength.LIKELY,
        "growth": 2.0 * GIB,
        "low": 1.0 * GIB,
        "high": 3.0 * GIB,
        "window": 1500.0,
        "grown": 0.8 * GIB,
        "live": 1.0 * GIB,
        "p": 1e-6,
        "evidence_for": (),
        "evidence_against": (),
        "callers": ("nic_open [nic] 98%",),
    }
    return Finding(**{**plain, **fields})


def assessed(*verdicts: Finding, observed: float = 3900.0) -> Assessment:
    return Assessment(
        observed=observed, needed=1260.0, series=9, left_out=0, memory=TOTAL, verdicts=verdicts
    )


def test_suspects_have_rows() -> None:
    found = alone(healthy(1.0), assessed(finding()))
    row = found["fill+0x5c [nic]"]
    assert (row.state, row.bytes, row.growth) == ("warn", GIB, 2 * GIB)
    assert row.finding == "likely leak, +2.0 GiB/h by nic_open [nic] 98%; nic, 0000:00:04.0"
    assert "leaks" not in found
    assert found["this host"].finding == "see fill+0x5c [nic]"
    fast = alone(healthy(1.0), assessed(finding(growth=30.0 * GIB)))
    assert fast["this host"].state == "crit"
    row = alone(healthy(1.0), assessed(finding("msg_msg-4k", kind=Kind.CACHE)))["msg_msg-4k"]
    assert (row.cache, row.site, row.details) == ("msg_msg-4k", "", ("verdicts", *CACHE_DETAILS))


def test_what_exhausts_memory_comes_first() -> None:
    end = Exhaustion(available=4 * GIB, seconds=3000.0, earliest=2400.0, latest=4000.0)
    early = finding("msg_msg-4k", kind=Kind.CACHE, strength=Strength.EARLY, exhaustion=end)
    total = finding("slabs", kind=Kind.MEMORY, exhaustion=replace(end, seconds=7200.0))
    found = alone(healthy(1.0), replace(assessed(observed=60.0), exhausting=(early, total)))
    row = found["msg_msg-4k"]
    assert (row.state, row.growth, row.cache) == ("crit", 2 * GIB, "msg_msg-4k")
    assert row.details == ("verdicts", *CACHE_DETAILS)
    assert (found["slabs"].state, found["slabs"].details) == ("warn", ("verdicts",))
    assert row.finding.startswith(
        "out of memory in 50m00s (40m00s to 1h06m), by nic_open [nic] 98%"
    )
    assert found["this host"].state == "crit"
    assert "leaks" not in found, "that it is too early would contradict"


def test_of_many_suspects_some_have_rows() -> None:
    many = [finding(f"site_{i}+0x1") for i in range(5)]
    found = alone(healthy(1.0), assessed(*many))
    assert (found["leaks"].state, found["leaks"].finding) == ("warn", "2 more suspects")
    assert found["this host"].finding == "see site_0+0x1, site_1+0x1, site_2+0x1 +1"


def test_without_suspects_the_row_says_how_long_they_were_looked_for() -> None:
    assert alone(healthy(1.0), assessed())["leaks"].finding == "none suspected in 1h05m"
    early = alone(healthy(1.0), assessed(observed=60.0))["leaks"]
    assert (early.state, early.finding) == (None, "too early: 1m00s of 21m00s")
    assert alone(healthy(1.0))["leaks"].state is None, "a moment of the past"


def test_lost_objects_of_a_census_have_a_row() -> None:
    found = alone(replace(healthy(1.0), census=rich()))
    assert found["orphans"].state == "ok"
    assert "has ops card_ops [card] at +8 in kmalloc-64" in found["orphans"].finding
    lost = replace(rich().orphans[0], bytes=16 * MIB)
    found = alone(replace(healthy(1.0), census=replace(rich(), orphans=(lost,))))
    assert found["orphans"].state == "warn"


def test_removed_cgroups_that_hold_much_are_shown_with_the_one_that_holds_most() -> None:
    def dying(size: int) -> dict[str, OverviewRow]:
        row = replace(rich().cgroups[1], cgroups=41, bytes=size)
        alive = replace(rich().cgroups[0], bytes=TOTAL)
        return alone(replace(healthy(1.0), census=replace(rich(), cgroups=(alive, row))))

    assert "removed cgroups" not in dying(16 * MIB - 1)
    row = dying(16 * MIB)["removed cgroups"]
    assert (row.state, row.bytes, row.details) == ("ok", 16 * MIB, ("charged",))
    assert row.finding == "41 still hold objects; most: backup.service 16.0 MiB"
    assert dying(3 * GIB)["removed cgroups"].state == "warn"


def test_a_few_losses_among_the_first_allocations_need_no_attention() -> None:
    def early(lost: int) -> OverviewRow:
        return alone(replace(healthy(0.01), losses={"samples_full": lost}))["lost events"]

    assert (early(2).state, early(49).state, early(50).state) == ("ok", "ok", "warn")
    assert early(2).finding.startswith("2 (")


def test_losses_count_against_allocations() -> None:
    few = alone(replace(healthy(100.0), losses={"samples_full": 5}))["lost events"]
    assert (few.state, few.finding) == ("ok", "5 (0.00% of allocations): samples_full")
    many = alone(replace(healthy(100.0), losses={"samples_full": 10**6}))["lost events"]
    assert (many.state, many.finding) == ("warn", "1,000,000 (20.00% of allocations): samples_full")


def test_the_cost_of_slabmon() -> None:
    cost = "cost of slabmon"
    assert states(watched(healthy))[cost] == "ok"

    def slow(seconds: float) -> Snapshot:
        return replace(healthy(seconds), programs=(ProgramCost("kmalloc", 0.1, 100),))

    assert states(watched(slow))[cost] == "warn"
    found = alone(replace(healthy(1.0), census=rich()))
    assert found[cost].finding.endswith("; census 500.0ms of CPU time")
    over = FeatureState(State.DEGRADED, "exceeded: sampling interval x4")
    found = alone(replace(healthy(1.0), features={"budget": over}))
    assert found[cost].finding.endswith("; budget exceeded: sampling interval x4")
    unmeasured = alone(replace(healthy(1.0), programs=()))[cost]
    assert (unmeasured.state, unmeasured.finding) == (None, "not measured: BPF statistics are off")
