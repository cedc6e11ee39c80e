# SPDX-License-Identifier: Apache-2.0
"""Managed resources: the drivers' own count, the module's walk and sysfs must agree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.vm.guest import planted as module
from tests.vm.guest.planted import Ftrace
from tests.vm.guest.test_planted import traced_events

DRIVER = Path("/sys/bus/platform/drivers/slabmon_good")
GOOD = ("slabmon_good.0", "slabmon_good.1", "slabmon_good.2")
BAD = "slabmon_bad.0"

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture
def bound(planted: None) -> None:
    """Three bound devices and one whose probe failed."""
    module.run("devices_add")
    module.run("drivers_add")


def names_before_5_14(release: str) -> str:
    """The release function behind a name that older kernels do not store."""
    return {
        "devm_kzalloc_release": "devm_kmalloc_release",
        "devm_krealloc_release": "devm_kmalloc_release",
        "grp<": "group_open_release",
        "grp>": "group_close_release",
    }.get(release, release)


def check_walk_equals_published(holding: set[str]) -> None:
    """For each planted device: same names, numbers and bytes on both sides."""
    nodes = [node for node in module.walk() if node.device.startswith("slabmon_")]
    named = all(node.size is not None for node in nodes)
    walked: Counter[tuple[str, str]] = Counter()
    published: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        assert (node.bus, node.driver) == ("platform", "slabmon_good")
        walked[node.device, node.release] += 1
        sizes[node.device, node.release] += node.size or 0
    managed = [entry for entry in module.expected().managed if entry.resources]
    for entry in managed:
        name = entry.release if named else names_before_5_14(entry.release)
        published[entry.device, name] += entry.resources
    assert walked == published
    assert {device for device, _ in walked} == holding
    if named:
        assert sizes == Counter({(e.device, e.release): e.bytes for e in managed})


@pytest.mark.usefixtures("bound")
def test_bind_unbind_rebind_remove() -> None:
    """After each step both sides hold the same."""
    check_walk_equals_published({*GOOD})
    (DRIVER / "unbind").write_text(GOOD[1])
    check_walk_equals_published({GOOD[0], GOOD[2]})
    (DRIVER / "bind").write_text(GOOD[1])
    check_walk_equals_published({*GOOD})
    module.run("drivers_remove")
    check_walk_equals_published(set())
    module.run("drivers_add")
    check_walk_equals_published({*GOOD})
    module.run("devices_remove")
    check_walk_equals_published(set())


@pytest.mark.usefixtures("bound")
def test_a_failed_probe_leaves_nothing() -> None:
    """Thirteen resources came and went; arithmetic closes for every entry."""
    managed = module.expected().managed
    [bad] = [entry for entry in managed if entry.device == BAD]
    assert (bad.resources, bad.bytes, bad.added, bad.removed) == (0, 0, 13, 13)
    for entry in managed:
        assert entry.resources == entry.added - entry.removed
    assert not [node for node in module.walk() if node.device == BAD]


def test_managed_memory_is_traced_at_the_drivers_sites() -> None:
    """devm_* memory is a kmalloc whose call site is the function that called devm_*.

    Of the helpers that end in another devm_* function the module publishes no
    site, so only published symbols are compared.
    """
    with Ftrace() as tracer:
        module.run("devices_add")
        module.run("drivers_add")
        sites = list(module.expected().sites)
    symbols = {site.symbol for site in sites}
    counts = Counter({key: n for key, n in tracer.counts.items() if key[1] in symbols})
    assert counts == traced_events(sites)
    assert {site.symbol for site in sites if site.allocs} == {
        "planted_devm_kzalloc",
        "planted_devm_kmalloc",
        "planted_devm_krealloc",
        "planted_devres_alloc",
        "planted_probe_kmalloc",
    }


def test_unbinding_frees_the_memory() -> None:
    """Objects of managed memory leave the books with the driver."""
    module.run("devices_add")
    module.run("drivers_add")
    module.run("drivers_remove")
    sites = [site for site in module.expected().sites if site.alloc_path == "devm"]
    assert sites
    assert all(site.live_objects == 0 and site.allocs == site.frees for site in sites)


def test_the_walk_agrees_with_sysfs() -> None:
    """Each device of the walk is where sysfs shows it, with the same driver."""
    nodes = module.walk()
    assert nodes
    for bus, name, driver in {(node.bus, node.device, node.driver) for node in nodes}:
        file_name = name.replace("/", "!")
        places = [
            Path("/sys") / kind / bus / sub / file_name
            for kind, sub in (("bus", "devices"), ("class", "."))
        ]
        found = [place for place in places if place.exists()]
        if bus == "-":
            continue
        assert found, (bus, name)
        link = found[0] / "driver"
        assert (link.resolve().name if link.exists() else "-") == driver
