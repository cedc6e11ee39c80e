# SPDX-License-Identifier: Apache-2.0
"""The planted module knows the answer: check that answer itself, without slabmon."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.vm.guest import planted as module
from tests.vm.guest.planted import Ftrace, Site

# Every scenario that allocates by itself; devices, files and typed objects have tests of their own.
SCENARIOS = (
    *("sizes", "dynamic", "large", "failed", "krealloc", "gfp", "node", "pages"),
    *("caches", "cache_kfree", "bulk", "churn", "rcu", "cache_rcu"),
    *("hardirq", "ipi", "softirq", "storm"),
    *("charged", "marked"),
)
ORPHAN_STEPS = ("orphans_lose", "orphans_keep")  # places of kept objects are not published
HELD_STEPS = ("held_add", "held_more", "held_remove")  # nor what devices hold
DEVICE_STEPS = ("devices_add", "drivers_add", "drivers_remove", "devices_remove")
USE_STEPS = ("device_use", "devices_use")  # of devices that are there
TYPED_STEPS = ("typed_add", "typed_remove")
BUG_STEPS = ("error_path", "netns_add")  # of test_leaks
TRACED = {"kmalloc": "kmalloc", "devm": "kmalloc", "kmem_cache_alloc": "kmem_cache_alloc"}

pytestmark = pytest.mark.usefixtures("planted")


def run_if_there(scenario: str) -> None:
    """Run a scenario, or skip the test where this kernel's build does not have it."""
    if scenario not in module.scenarios():
        pytest.skip(f"{scenario} is not possible on {os.uname().release}")
    module.run(scenario)


def prime(number: int) -> bool:
    """Trial division: the numbers are small."""
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))


def traced_events(sites: list[Site]) -> Counter[tuple[str, str]]:
    """What ftrace must have counted for these sites, failures included."""
    events: Counter[tuple[str, str]] = Counter()
    for site in sites:
        if site.alloc_path in TRACED:
            events[TRACED[site.alloc_path], site.symbol] += site.allocs + site.failed
    return +events


def test_every_scenario_is_tested() -> None:
    """A scenario added to the module must appear above."""
    assert set(module.scenarios()) <= {
        *SCENARIOS,
        *ORPHAN_STEPS,
        *HELD_STEPS,
        *DEVICE_STEPS,
        *USE_STEPS,
        *TYPED_STEPS,
        *BUG_STEPS,
    }


@pytest.mark.parametrize("scenario", [*SCENARIOS, *ORPHAN_STEPS])
def test_published_figures_are_consistent(scenario: str) -> None:
    """Sums agree within each record, and "release" brings everything back."""
    run_if_there(scenario)
    sites = [site for site in module.expected().sites if site.allocs or site.failed]
    assert sites
    for site in sites:
        assert site.live_objects == site.allocs - site.frees
        assert site.live_bytes == site.allocated_bytes - site.freed_bytes
        assert site.allocated_bytes >= site.requested_bytes
        assert site.failed or site.allocs >= site.frees
        if site.allocs:
            # Objects of one record are all of one size.
            assert site.allocated_bytes % site.allocs == 0
            assert site.freed_bytes == site.frees * (site.allocated_bytes // site.allocs)
    module.run("release")
    for site in module.expected().sites:
        assert site.live_objects == site.before_objects
        assert site.live_bytes == site.before_bytes


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ftrace_counts_the_same(scenario: str) -> None:
    """The kernel's tracer saw as many events at each site as the module published."""
    with Ftrace() as tracer:
        run_if_there(scenario)
        sites = [site for site in module.expected().sites if site.allocs or site.failed]
    assert tracer.counts == traced_events(sites)


@pytest.mark.parametrize("scenario", ["sizes", "gfp", "caches", "rcu", "bulk", "failed"])
def test_counts_are_prime(scenario: str) -> None:
    """Primes leave no room for a wrong factor or for rounding."""
    module.run(scenario)
    for site in module.expected().sites:
        assert not site.allocs or (prime(site.allocs) and prime(site.frees)), site
        assert not site.failed or prime(site.failed)


def test_size_classes_land_in_their_caches() -> None:
    """One site per class: the cache read from the object's slab has the class's size."""
    module.run("sizes")
    sites = [site for site in module.expected().sites if site.symbol.startswith("planted_kmalloc_")]
    assert len(sites) == 13
    for site in sites:
        size = int(site.symbol.rpartition("_")[2])
        label = f"{size // 1024}k" if size >= 1024 else str(size)
        assert site.cache == f"kmalloc-{label}"
        assert site.allocated_bytes == size * site.allocs


def test_merged_caches_are_one() -> None:
    """Two mergeable caches of one size share a slab cache; the one with a constructor does not."""
    module.run("caches")
    caches = {site.symbol: site.cache for site in module.expected().sites}
    assert caches["planted_cache_merge_a"] == caches["planted_cache_merge_b"]
    assert caches["planted_cache_ctor"] == "slabmon_planted_ctor"


def test_open_allocates_and_release_frees() -> None:
    """A well-behaved file holds as many objects as it is open; the leaky one keeps them."""
    files = [Path("/dev/slabmon_planted_open").open("rb") for _ in range(17)]  # noqa: SIM115
    [site] = module.expected().by_symbol()["planted_open_alloc"]
    assert (site.allocs, site.frees, site.live_objects) == (17, 0, 17)
    for file in files:
        file.close()
    for _ in range(19):
        Path("/dev/slabmon_planted_leak").open("rb").close()
    by_symbol = module.expected().by_symbol()
    [site] = by_symbol["planted_open_alloc"]
    assert (site.frees, site.live_objects) == (17, 0)
    [leak] = by_symbol["planted_leak_alloc"]
    assert (leak.allocs, leak.frees, leak.live_objects) == (19, 0, 19)


def test_chardev_holds_memory_for_life() -> None:
    """Allocated when the module came in: before the reset, and still there."""
    [site] = module.expected().by_symbol()["planted_chardev_alloc"]
    assert (site.allocs, site.before_objects, site.live_objects) == (0, 5, 5)


def test_the_module_reloads() -> None:
    """Loading and unloading with objects held leaves nothing that the next load trips on."""
    for _ in range(3):
        module.run("caches")
        module.run("devices_add")
        module.run("drivers_add")
        module.unload()
        module.load()
    assert module.loaded()
