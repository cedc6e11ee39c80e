# SPDX-License-Identifier: Apache-2.0
"""Bulk and RCU frees, which have no tracepoint: exact where programs watch the functions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.probe import facts
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Live
from tests.vm.guest import planted as module

FREES = {"bulk": "bulk_free", "rcu": "rcu_free", "cache_rcu": "rcu_free"}
CLOSERS = ("bulk_alloc", "bulk_free", "rcu_free")
CACHE = "slabmon_planted_ctor"
SHEAF = "__kfree_rcu_sheaf"
ROUNDS = 3
SECONDS = 60  # kfree_rcu() gathers for up to five, emulated, and then waits for a grace period


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    """Tracks all objects of the module."""
    module.load()
    with open_tracker(Settings(exact=Filter.parse(f"module={module.NAME}"))) as tracker:
        yield tracker
    module.unload()


def run(tracker: Tracker, scenario: str) -> None:
    """Runs it, or skips what this kernel does not have."""
    module.run("release")
    if scenario not in module.scenarios():
        pytest.skip(f"the module cannot do {scenario} on this kernel")
    module.run("reset")
    module.run(scenario)


def live_objects(tracker: Tracker) -> dict[tuple[str, str], Live]:
    """Live objects of the module by function and cache."""
    return {
        (group.labels[0].partition("+")[0], group.labels[1]): group.live
        for group in group_live(tracker.snapshot(), ("site", "cache"))
    }


def test_what_cannot_be_seen_is_named(tracker: Tracker) -> None:
    snapshot = tracker.snapshot()
    for name in CLOSERS:
        feature = snapshot.features[name]
        assert feature.state == "on" or feature.reason
    if SHEAF in Path("/proc/kallsyms").read_text():  # 7.x: most kfree_rcu() goes there
        assert SHEAF in snapshot.features["rcu_free"].reason
    if not tracker.facts.recursion_guard:
        assert {snapshot.features[name].state for name in CLOSERS} == {"off"}
    caches = {cache.name: cache for cache in snapshot.caches}
    if snapshot.features["bulk_free"].state == "off":
        assert not caches["skbuff_head_cache"].frees_observable


@pytest.mark.parametrize("scenario", FREES)
def test_live_objects_are_exact(tracker: Tracker, scenario: str) -> None:
    if tracker.features[FREES[scenario]].state != "on":
        pytest.skip(tracker.features[FREES[scenario]].reason)
    run(tracker, scenario)
    expected = {
        (site.symbol, site.cache): (site.live_objects, site.live_bytes)
        for site in module.expected().sites
        if site.allocs
    }
    assert any(objects for objects, _ in expected.values())
    deadline = time.monotonic() + SECONDS
    while True:
        live = live_objects(tracker)
        found = {key: (row.objects, row.bytes) for key, row in live.items() if key in expected}
        if found == expected or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert found == expected
    losses = tracker.snapshot().losses
    assert losses["bulk_too_long"] == losses["unobserved_frees_full"] == 0


@pytest.mark.parametrize("scenario", ["bulk", "cache_rcu"])
def test_counters_of_the_modules_own_cache_are_exact(tracker: Tracker, scenario: str) -> None:
    if any(tracker.features[name].state != "on" for name in CLOSERS):
        pytest.skip(tracker.features["bulk_free"].reason)
    before = tracker.snapshot()
    run(tracker, scenario)
    sites = [site for site in module.expected().sites if site.cache == CACHE]
    held = sum(site.live_objects for site in sites)  # the cache came with the module
    deadline = time.monotonic() + SECONDS
    while True:
        cache = next(c for c in tracker.snapshot().caches if c.name == CACHE)
        if cache.allocs - cache.frees == held or time.monotonic() > deadline:
            break
        time.sleep(1)
    old = sum(c.allocs for c in before.caches if c.name == CACHE)
    assert cache.allocs - old == sum(site.allocs for site in sites)
    assert cache.allocs - cache.frees == held
    assert cache.frees_observable


def still_observable(tracker: Tracker) -> bool:
    """Return the cache of the objects that kfree_rcu() frees, after some of them were reused."""
    seen = tracker.features["rcu_free"].state == "on"
    deadline = time.monotonic() + SECONDS
    rounds, observable = 0, True
    while observable and (rounds < ROUNDS or (not seen and time.monotonic() < deadline)):
        run(tracker, "rcu")
        [name] = {
            site.cache
            for site in module.expected().sites
            if site.alloc_path == "kmalloc" and site.allocs
        }
        module.run("release")
        time.sleep(1)
        observable = next(c for c in tracker.snapshot().caches if c.name == name).frees_observable
        rounds += 1
    return observable


def test_frees_that_no_program_sees_are_found_out(tracker: Tracker) -> None:
    """An address that is allocated again was freed: where no program sees kfree_rcu(), the cache
    says so as soon as one is; where something does, it never has to."""
    assert still_observable(tracker) == (tracker.features["rcu_free"].state == "on")


def test_where_the_kernel_refuses_the_programs_frees_are_found_out(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel that has the functions, and attaches nothing to them."""
    if any(tracker.features[name].state != "on" for name in CLOSERS):
        pytest.skip(tracker.features["bulk_free"].reason)
    monkeypatch.setattr(facts, "_fentry_refused", lambda _: "a test says so")
    with open_tracker(tracker.plan.settings) as blind:
        for name in CLOSERS:
            assert blind.features[name].state == "off"
            assert "a test says so" in blind.features[name].reason
        assert not still_observable(blind)
        observable = {c.name: c.frees_observable for c in blind.snapshot().caches}
        assert not observable["skbuff_head_cache"]
        assert any(observable.values())
