"""slabmon against the planted module's own figures: every site, cache and device, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Filter, Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Live, Snapshot
from tests.vm.guest import planted as module
from tests.vm.guest.planted import Site
from tests.vm.guest.test_planted import DEVICE_STEPS, SCENARIOS, TRACED, run_if_there

# Freed one by one, each with an event of its own.
OBSERVABLE = {"kfree", "kmem_cache_free"}


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """The planted module, for all tests of this file."""
    module.load()
    yield
    module.unload()


@pytest.fixture(scope="module")
def sampled(loaded: None) -> Iterator[Tracker]:
    """One session for all scenarios: starting one takes seconds under emulation."""
    with open_tracker(Settings()) as tracker:
        yield tracker


@pytest.fixture(scope="module")
def exact(loaded: None) -> Iterator[Tracker]:
    """The same, tracking every allocation of the module."""
    with open_tracker(Settings(exact=Filter.parse(f"module={module.NAME}"))) as tracker:
        yield tracker


@pytest.fixture(autouse=True)
def nothing_planted() -> None:
    """Releases what the last scenario held, and forgets its figures."""
    module.run("release")
    module.run("reset")


def planted_sites(snapshot: Snapshot) -> dict[str, Counter[str]]:
    """What slabmon counted at the module's call sites, by function, since it started."""
    found: dict[str, Counter[str]] = {}
    for site in snapshot.sites:
        if site.module == module.NAME:
            row = found.setdefault(site.symbol, Counter())
            row.update(allocs=site.allocs, failed=site.failed,
                       requested=site.requested_bytes, allocated=site.allocated_bytes)  # fmt: skip
    return found


def traced_sites() -> dict[str, list[Site]]:
    """Sites of the last scenario whose allocations have events."""
    return {
        symbol: sites
        for symbol, sites in module.expected().by_symbol().items()
        if any(site.allocs or site.failed for site in sites)
        and all(site.alloc_path in TRACED for site in sites)
    }


def missed(snapshot: Snapshot) -> int:
    """Events the kernel says it dropped."""
    return sum(count for reason, count in snapshot.losses.items() if reason.startswith("recursion"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_call_sites_equal_what_was_planted(sampled: Tracker, scenario: str) -> None:
    before = sampled.snapshot()
    run_if_there(scenario)
    after = sampled.snapshot()
    old, new = planted_sites(before), planted_sites(after)
    lost = missed(after) - missed(before)
    for symbol, sites in traced_sites().items():
        mine = new[symbol] - old.get(symbol, Counter())
        short = sum(site.allocs for site in sites) - mine["allocs"]
        assert 0 <= short <= lost, symbol
        if short:
            continue
        assert mine["failed"] == sum(site.failed for site in sites), symbol
        if all(site.alloc_path != "devm" for site in sites):
            assert mine["requested"] == sum(site.requested_bytes for site in sites), symbol
            assert mine["allocated"] == sum(site.allocated_bytes for site in sites), symbol
    assert after.losses["site_slots_full"] == 0
    if after.features["kmem_cache_free"].state == "on":
        assert after.losses["cache_unresolved"] == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_live_objects_by_site_and_cache_are_exact(exact: Tracker, scenario: str) -> None:
    before = exact.snapshot()
    run_if_there(scenario)
    snapshot = exact.snapshot()
    live = {
        (group.labels[0].partition("+")[0], group.labels[1]): group.live
        for group in group_live(snapshot, ("site", "cache"))
    }
    lost = missed(snapshot) - missed(before)
    for symbol, sites in traced_sites().items():
        for site in sites:
            found = live.get((symbol, site.cache), Live())
            if site.free_path not in OBSERVABLE:
                continue
            assert abs(found.objects - (site.allocs - site.frees)) <= lost, (symbol, site.cache)
            if not lost:
                assert found.bytes == site.allocated_bytes - site.freed_bytes
            assert found.stderr_bytes == 0


def test_caches_of_the_module_are_exact(sampled: Tracker) -> None:
    before = {cache.name: cache for cache in sampled.snapshot().caches}
    module.run("caches")
    caches = {cache.name: cache for cache in sampled.snapshot().caches}
    planted = module.expected().sites
    names = {site.cache for site in planted if site.allocs and "planted" in site.cache}
    assert names
    for name in names:
        sites = [site for site in planted if site.cache == name]
        cache, old = caches[name], before[name]
        assert cache.allocs - old.allocs == sum(site.allocs for site in sites)
        assert cache.frees - old.frees == sum(site.frees for site in sites)
        assert cache.freed_bytes - old.freed_bytes == sum(site.freed_bytes for site in sites)


def test_gfp_classes_are_those_planted(exact: Tracker) -> None:
    module.run("gfp")
    live = Counter[str]()
    for group in group_live(exact.snapshot(), ("gfp", "module")):
        if group.labels[1] == module.NAME:
            live[group.labels[0]] += group.live.objects
    expected = Counter[str]()
    for site in module.expected().sites:
        if site.alloc_path == "kmalloc" and not site.before_objects:
            expected[site.gfp] += site.allocs - site.frees
    assert live >= expected


def reload_and_allocate() -> dict[str, int]:
    """Loads the module anew and has it allocate; expected allocations by function."""
    module.unload()
    module.load()
    module.run("reset")
    module.run("sizes")
    return {symbol: sum(s.allocs for s in sites) for symbol, sites in traced_sites().items()}


def module_allocs(snapshot: Snapshot) -> int:
    return sum(site.allocs for site in snapshot.sites if site.module == module.NAME)


def test_reloading_credits_each_site_to_the_module(sampled: Tracker) -> None:
    """Its text comes and goes, often at the same address. Where its symbols are read while it is
    there, as the daemon does each second, functions are known; else at least the module is."""
    start = sampled.snapshot()
    rounds = 7
    for _ in range(rounds):
        expected = reload_and_allocate()
        sampled.drain()
        module.run("release")
    middle = sampled.snapshot()
    before, after = planted_sites(start), planted_sites(middle)
    for symbol, allocs in expected.items():
        grown = after[symbol]["allocs"] - before.get(symbol, Counter())["allocs"]
        assert grown == rounds * allocs, symbol
    for _ in range(rounds):
        reload_and_allocate()
        module.run("release")
    end = sampled.snapshot()
    assert module_allocs(end) - module_allocs(middle) >= rounds * sum(expected.values())
    assert not [s for s in end.sites if s.module is None and s.symbol == "[unknown]"]


def module_walk(named: bool) -> Counter[tuple[str, str, str, int]]:
    return Counter(
        (node.bus, node.device, node.release, node.size if named and node.size is not None else -1)
        for node in module.walk()
    )


def assert_ledger_is_the_modules_walk(snapshot: Snapshot) -> None:
    """Resources per device and release function, and where known their bytes."""
    named = snapshot.features["device_inventory"].state == "on"
    nodes = module_walk(named)
    resources = Counter[tuple[str, str, str]]()
    size = Counter[tuple[str, str, str]]()
    for (bus, device, release, number), count in nodes.items():
        resources[bus, device, release] += count
        size[bus, device, release] += number * count
    mine = Counter[tuple[str, str, str]]()
    mine_bytes = Counter[tuple[str, str, str]]()
    for row in snapshot.devices:
        for entry in row.by_release:
            mine[row.bus, row.name, entry.name] += entry.resources
            mine_bytes[row.bus, row.name, entry.name] += entry.bytes
    assert mine == resources
    if named:
        assert mine_bytes == size


def test_the_device_ledger_is_the_modules_locked_walk_after_each_step(sampled: Tracker) -> None:
    assert_ledger_is_the_modules_walk(sampled.snapshot())
    for step in DEVICE_STEPS:
        module.run(step)
        assert_ledger_is_the_modules_walk(sampled.snapshot())
    sampled.reconcile_devices()
    assert sampled.snapshot().losses["device_ledger_disagreement"] == 0


def test_devices_bound_before_tracking_are_complete() -> None:
    module.run("devices_add")
    module.run("drivers_add")
    with open_tracker(Settings()) as tracker:
        assert_ledger_is_the_modules_walk(tracker.snapshot())
    module.run("drivers_remove")
    module.run("devices_remove")
