# SPDX-License-Identifier: Apache-2.0
"""A snapshot of slabmon beside what the planted module published."""

from __future__ import annotations

from collections import Counter

from slabmon.model import Snapshot
from tests.vm.guest import planted as module
from tests.vm.guest.planted import Node, Site
from tests.vm.guest.test_planted import TRACED


def planted_sites(snapshot: Snapshot) -> dict[str, Counter[str]]:
    """What slabmon counted at the module's call sites, by function, since it started."""
    found: dict[str, Counter[str]] = {}
    for site in snapshot.sites:
        if site.module == module.NAME:
            row = found.setdefault(site.symbol, Counter())
            row.update(
                allocs=site.allocs,
                failed=site.failed,
                requested=site.requested_bytes,
                allocated=site.allocated_bytes,
            )
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


def assert_ledger_is_the_modules_walk(snapshot: Snapshot, walked: list[Node] | None = None) -> None:
    """Resources per device and release function, drivers, and where known the bytes of resources
    and of the slab objects they lie in. `walked`: the module's walk of the same moment; without it
    the devices are at rest."""
    walked = module.walk() if walked is None else walked
    named = snapshot.features["device_inventory"].state == "on"
    resources = Counter[tuple[str, str, str]]()
    size = Counter[tuple[str, str, str]]()
    for node in walked:
        resources[node.bus, node.device, node.release] += 1
        size[node.bus, node.device, node.release] += node.size or 0
    mine = Counter[tuple[str, str, str]]()
    mine_bytes = Counter[tuple[str, str, str]]()
    for row in snapshot.devices:
        for entry in row.by_release:
            mine[row.bus, row.name, entry.name] += entry.resources
            mine_bytes[row.bus, row.name, entry.name] += entry.bytes
    assert (mine - resources, resources - mine) == ({}, {})
    drivers = {(node.bus, node.device): node.driver for node in walked}
    holding = [row for row in snapshot.devices if row.resources]
    assert {(row.bus, row.name): row.driver or "-" for row in holding} == drivers
    if named:
        assert mine_bytes == size
        slab = Counter[tuple[str, str]]()
        for node in walked:
            slab[node.bus, node.device] += node.slab or 0
        assert {(row.bus, row.name): row.slab_bytes for row in holding} == slab
