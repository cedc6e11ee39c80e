# SPDX-License-Identifier: Apache-2.0
"""Caches in the overview: the largest, those that grow, and their owners."""

from __future__ import annotations

from dataclasses import replace

from slabmon.model import LARGE_CACHE, Live, Snapshot
from slabmon.views.overview.rows import rows
from tests.support.builders import cache
from tests.support.censuses import census, census_cache
from tests.support.conditions import GIB, MIB, fast_leak, healthy, listed, old_leak
from tests.unit.views.overview.test_rows import alone, named, watched


def test_the_largest_are_below_their_row_of_the_ledger() -> None:
    found = [(row.depth, row.what) for row in rows(watched(old_leak))]
    at = found.index((0, "slab, unreclaimable"))
    assert found[at + 1 : at + 6] == [
        (1, "kmalloc-256"),
        (1, "task_struct"),
        (1, "kmalloc-512"),
        (0, "slab, reclaimable"),
        (1, "ext4_inode_cache"),
    ]


def test_old_memory_is_said_to_be_old_and_a_census_has_its_owner() -> None:
    finding = alone(old_leak(1.0))["kmalloc-256"].finding
    assert finding == "take a census to see the owner; older than tracking; also pool_workqueue"
    finding = alone(old_leak(1.0, counted=True))["kmalloc-256"].finding
    assert finding.startswith("98% of it: has ops ring_ops [nic] at +8; older than tracking")


def test_growth_has_the_caller_and_the_cgroup_of_what_is_new() -> None:
    finding = named(watched(fast_leak))["kmalloc-1k"].finding
    assert finding.startswith("by nic_ring_fill [nic] in backup.service; out of memory in ")
    bare = fast_leak(180.0)
    assert "by " not in alone(replace(bare, tracked=healthy(1.0).tracked))["kmalloc-1k"].finding


def test_caches_that_grow_are_shown_however_small() -> None:
    def many(seconds: float) -> Snapshot:
        found = fast_leak(seconds)
        larger = tuple(listed(f"big-{i}", 64, (2 + i) * GIB) for i in range(5))
        return replace(found, caches=(*larger, *found.caches), tracked=healthy(1.0).tracked)

    found = [row.what for row in rows(watched(many)) if row.key[0] == "cache"]
    assert found == ["big-4", "big-3", "big-2", "kmalloc-1k", "ext4_inode_cache"]


def test_page_backed_memory_from_before_tracking_is_known_from_a_census() -> None:
    large = cache(LARGE_CACHE, live=Live(1, MIB, 0, MIB, MIB))
    found = healthy(1.0)
    found = replace(found, caches=(*found.caches, large))
    assert LARGE_CACHE not in alone(found)
    counted = replace(found, census=census(caches=(census_cache(LARGE_CACHE, slab_bytes=GIB),)))
    assert alone(counted)[LARGE_CACHE].bytes == GIB


def test_a_large_cache_of_a_small_host_is_fine() -> None:
    found = healthy(1.0)
    tiny = replace(found, memory=None, host=replace(found.host, memory_bytes=512 * MIB))
    caches = (*found.caches, listed("kmalloc-2k", 2048, 60 * MIB))
    assert alone(replace(tiny, caches=caches))["kmalloc-2k"].state == "ok"
