# SPDX-License-Identifier: Apache-2.0
"""Caches by family."""

from __future__ import annotations

from slabmon.analysis.families import Family, families
from slabmon.model import LARGE_CACHE, Live, Slabinfo
from tests.support.builders import Object, cache, snapshot, tracked

KINDS = (
    cache("dentry", live=Live(2, 384), slabinfo=Slabinfo(9, 10, 192, 4096)),
    cache(
        "kmalloc-64",
        allocs=10,
        frees=4,
        failed=1,
        allocated_bytes=640,
        requested_bytes=600,
        slabinfo=Slabinfo(5, 6, 64, 4096),
    ),
    cache(
        "kmalloc-rnd-03-64",
        allocs=5,
        allocated_bytes=320,
        requested_bytes=300,
        slabinfo=Slabinfo(3, 6, 64, 8192),
    ),
    cache("kmalloc-cg-128", slabinfo=Slabinfo(1, 2, 128, 4096)),
    cache("kmalloc-128"),
    cache(LARGE_CACHE, live=Live(1, 70_000)),
)
OBJECTS = [Object(cache=1), Object(cache=2), Object(cache=2), Object(cache=0, bytes=192)]


def test_counters_and_live_memory_of_all_kinds_are_added_up() -> None:
    groups = families(snapshot(caches=KINDS, tracked=tracked(OBJECTS)))
    rows: dict[str, Family] = {row.name: row for row in groups.rows}
    assert list(rows) == ["dentry", "kmalloc-64", "kmalloc-128", LARGE_CACHE]
    row = rows["kmalloc-64"]
    assert (row.caches, row.allocs, row.frees, row.failed) == (2, 15, 4, 1)
    assert (row.requested_bytes, row.allocated_bytes) == (900, 960)
    assert (row.slab_bytes, row.active_objects) == (12_288, 8)
    assert (row.live.objects, row.live.bytes) == (3, 192)
    assert groups.members.tolist() == [1, 1, 1, 0]


def test_a_family_of_one_is_its_cache() -> None:
    rows = {row.name: row for row in families(snapshot(caches=KINDS)).rows}
    assert rows["dentry"].live == KINDS[0].live
    assert rows[LARGE_CACHE].live == Live(1, 70_000)


def test_what_slabinfo_does_not_know_of_all_is_not_known() -> None:
    rows = {row.name: row for row in families(snapshot(caches=KINDS)).rows}
    assert (rows["kmalloc-128"].slab_bytes, rows["kmalloc-128"].active_objects) == (None, None)


def test_a_host_without_caches_has_no_families() -> None:
    assert families(snapshot(caches=())).rows == []
