# SPDX-License-Identifier: Apache-2.0
"""Caches in the overview: the largest, those that grow, and their owners."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.base.activity import Activity
from slabmon.census.model import Certainty, CgroupObjects, CgroupState
from slabmon.model import LARGE_CACHE, Live, Snapshot
from slabmon.views.overview.rows import rows
from tests.support.builders import Object, cache, tracked
from tests.support.censuses import census, census_cache, owned
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
    old = "allocated before tracking began; merged with pool_workqueue"
    finding = alone(old_leak(1.0))["kmalloc-256"].finding
    assert finding == f"take a census to see the owner; {old}"
    finding = alone(old_leak(1.0, counted=True))["kmalloc-256"].finding
    assert finding == f"98% of it is module nic's (likely): has ops ring_ops [nic] at +8; {old}"
    assert alone(old_leak(1.0))["task_struct"].finding == "", "nothing is wrong with it"


def test_a_census_knows_the_second_cache_of_a_name_by_that_name() -> None:
    found = old_leak(1.0, counted=True)
    caches = [
        replace(c, name="kmalloc-256#2") if c.name == "kmalloc-256" else c for c in found.caches
    ]
    found = replace(found, caches=tuple(caches))
    assert alone(found)["kmalloc-256#2"].finding.startswith("98% of it")


@pytest.mark.parametrize(("share", "older"), [(0.4, True), (0.6, False)])
def test_a_cache_is_old_if_most_of_it_is(share: float, older: bool) -> None:
    found, size = healthy(1.0), round(4 * GIB * share)
    half = listed("half", 256, 4 * GIB, live=Live(1, size, 0, size, size))
    finding = alone(replace(found, caches=(*found.caches, half)))["half"].finding
    assert ("allocated before tracking began" in finding) == older


def test_a_census_knows_the_owner_of_what_was_there_then() -> None:
    def counted(then: int) -> str:
        pipes = owned("struct pipe_buffer", 512, 1024, cache="kmalloc-1k")
        found = census(
            caches=(census_cache("kmalloc-1k", slab_bytes=then),),
            owners=(pipes, owned("unknown", 512, 1024, cache="kmalloc-1k")),
        )
        return alone(replace(fast_leak(100.0), census=found))["kmalloc-1k"].finding

    assert counted(408 * MIB).startswith("50% of it: struct pipe_buffer")
    assert counted(300 * MIB).startswith("37% of it: struct pipe_buffer")
    assert counted(MIB).startswith("by nic_ring_fill [nic] in backup.service"), "400 times as large"
    assert "of it" not in counted(MIB)


@pytest.mark.parametrize(
    ("path", "objects", "said"),
    [
        ("/system.slice/mail.service", 20, "62% of it charged to mail.service"),
        ("/lonely", 20, "62% of it charged to lonely"),
        ("/system.slice/mail.service", 15, ""),  # less than half
        ("/", 32, ""),  # nobody in particular
    ],
)
def test_a_census_knows_who_is_charged_for_old_memory(path: str, objects: int, said: str) -> None:
    size = 256
    held = census_cache("kmalloc-256", size=size, in_use=32, slab_bytes=14 * GIB)
    row = CgroupObjects(
        cgroup=path,
        state=CgroupState.ALIVE,
        objects=objects,
        bytes=objects * size,
        by_cache={"kmalloc-256": objects * size},
    )
    found = replace(old_leak(1.0), census=census(caches=(held,), cgroups=(row,)))
    finding = alone(found)["kmalloc-256"].finding
    assert said in finding
    assert ("charged to" in finding) == bool(said)
    assert ("take a census" in finding) == (not said)


def test_growth_has_the_caller_and_the_cgroup_of_what_is_new() -> None:
    finding = named(watched(fast_leak))["kmalloc-1k"].finding
    assert finding.startswith("by nic_ring_fill [nic] in backup.service; out of memory in ")
    bare = fast_leak(180.0)
    assert "by " not in alone(replace(bare, tracked=healthy(1.0).tracked))["kmalloc-1k"].finding


@pytest.mark.parametrize(("age", "caller"), [(5.0, "new_fill"), (400.0, "old_fill")])
def test_the_caller_is_that_of_the_newest_memory_if_there_is_any(age: float, caller: str) -> None:
    found = fast_leak(1000.0)
    number = [c.name for c in found.caches].index("kmalloc-1k")
    old = Object(number, 0, 1024, GIB, 500.0, stack=2)
    objects = [old, *[Object(number, 0, 1024, MIB, age, stack=1)] * 2]
    stacks = {1: ("__kmalloc_noprof", "new_fill"), 2: ("__kmalloc_noprof", "old_fill")}
    row = alone(replace(found, tracked=tracked(objects, stacks)))["kmalloc-1k"]
    assert row.finding.startswith(f"by {caller} in ")


@pytest.mark.parametrize(
    ("cgroups", "path", "text"),
    [((3, 3, 4), "/a/b", "by fill in b"), ((3, 4, 5), "/a/b", "by fill"), ((3, 3), "/", "by fill")],
)
def test_a_cgroup_is_named_if_it_has_half_of_it(
    cgroups: tuple[int, ...], path: str, text: str
) -> None:
    found = fast_leak(1000.0)
    number = [c.name for c in found.caches].index("kmalloc-1k")
    objects = [Object(number, 0, 1024, MIB, cgroup=group, stack=1) for group in cgroups]
    new = tracked(objects, {1: ("__kmalloc_noprof", "fill")}, {3: path})
    assert alone(replace(found, tracked=new))["kmalloc-1k"].finding == text


def test_what_is_unknown_is_no_owner_and_a_module_is_named_first() -> None:
    owners = (
        owned("ring buffer", 1 << 20, 256, cache="kmalloc-256", module="nic"),
        owned("unknown", 3 << 20, 256, cache="kmalloc-256", certainty=Certainty.UNKNOWN),
    )
    found = alone(replace(old_leak(1.0), census=census(owners=owners)))
    text = found["kmalloc-256"].finding
    assert text.startswith("25% of it is module nic's (likely): ring buffer; ")
    exact = (replace(owners[0], certainty=Certainty.EXACT), owners[1])
    found = alone(replace(old_leak(1.0), census=census(owners=exact)))
    assert found["kmalloc-256"].finding.startswith("25% of it is module nic's: ring buffer; ")


def test_old_memory_has_no_caller_and_nothing_is_older_than_tracking_that_is_asleep() -> None:
    found = old_leak(1.0)
    number = [c.name for c in found.caches].index("kmalloc-256")
    new = tracked([Object(number, stack=1)], {1: ("__kmalloc_noprof", "fill")})
    finding = alone(replace(found, tracked=new))["kmalloc-256"].finding
    assert finding.startswith("take a census to see the owner; allocated before tracking began")
    asleep = replace(found, tracking=replace(found.tracking, activity=Activity.ASLEEP))
    assert "older" not in alone(asleep)["kmalloc-256"].finding


def test_slabinfo_is_newer_than_a_census_and_empty_caches_are_left_out() -> None:
    caches = (listed("old", 64, 50 * MIB), cache("empty"))
    found = replace(healthy(1.0), caches=caches)
    counted = replace(found, census=census(caches=(census_cache("old", slab_bytes=GIB),)))
    assert alone(counted)["old"].bytes == 50 * MIB
    assert "empty" not in alone(counted)


@pytest.mark.parametrize(
    ("total", "pace", "seen"),
    [(24 * GIB, 7 << 10, False), (24 * GIB, 12 << 10, True), (GIB, 3 << 10, False)],
)
def test_little_growth_is_none(total: int, pace: int, seen: bool) -> None:
    def slow(seconds: float) -> Snapshot:
        found = healthy(1.0)
        grown = listed("slow", 64, (50 << 20) + round(pace * seconds))
        tracking = replace(found.tracking, seconds=seconds)
        host = replace(found.host, memory_bytes=total)
        memory = found.memory if total == 24 * GIB else None
        caches = (*found.caches, grown)
        return replace(found, tracking=tracking, host=host, memory=memory, caches=caches)

    row = named(watched(slow))["slow"]
    assert row.state == "ok"
    assert ("/h" in row.finding) == seen
    assert "out of memory" not in row.finding, "not for months"


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
