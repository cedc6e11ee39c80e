# SPDX-License-Identifier: Apache-2.0
"""The difference of two censuses: by cache, cgroup, owner and orphan, with its error."""

from __future__ import annotations

from dataclasses import replace
from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.base.fields import Host
from slabmon.base.retained import RetainedBy
from slabmon.census.diff import diff, only_changed
from slabmon.census.model import (
    Census,
    Certainty,
    CgroupObjects,
    CgroupState,
    DeviceObjects,
    OrphanObjects,
    OwnedObjects,
    PageBlocks,
    RetainedObjects,
)
from tests.support.censuses import TAKEN, census, census_cache, owned, rich


def cgroup(path: str, objects: int, **by_cache: int) -> CgroupObjects:
    return CgroupObjects(
        cgroup=path,
        state=CgroupState.ALIVE,
        objects=objects,
        bytes=sum(by_cache.values()),
        by_cache=by_cache,
        objects_by_cache=by_cache,
    )


def counted(*owners: OwnedObjects, in_use: int = 10, **fields: object) -> Census:
    """A census of one cache with these owners."""
    taken = fields.pop("taken", TAKEN)
    return census(taken=taken, caches=(census_cache(in_use=in_use),), owners=owners, **dict(fields))


def later(*owners: OwnedObjects, **fields: object) -> Census:
    return counted(*owners, taken=TAKEN + 60, **fields)  # type: ignore[arg-type]  # any field


def test_every_count_is_a_difference_and_what_grew_most_is_first() -> None:
    changed = diff(rich(), rich(100.0))
    assert changed.objects == 700
    assert changed.taken == TAKEN + 100
    dentry, kmalloc = changed.caches
    assert (dentry.name, dentry.in_use, dentry.slab_bytes, dentry.object_size) == (
        "dentry",
        0,
        0,
        192,
    )
    assert (kmalloc.in_use, kmalloc.free, kmalloc.aliases) == (700, -700, ("thing_cache", "evil"))
    first, *others = changed.owners
    assert (first.signature, first.objects, first.bytes) == (
        "has ops card_ops [card] at +8",
        700,
        44_800,
    )
    assert {row.objects for row in others} == {0}
    reduced = only_changed(changed)
    assert [row.signature for row in reduced.owners] == [first.signature]
    assert [row.name for row in reduced.caches] == ["kmalloc-64"]


def test_rows_that_came_or_went_are_compared_with_nothing() -> None:
    gone, new = owned("gone", 5), owned("new", 7, module="card")
    changed = diff(counted(gone), later(new))
    assert [(row.signature, row.objects, row.bytes) for row in changed.owners] == [
        ("new", 7, 448),
        ("gone", -5, -320),
    ]


def test_owners_are_told_apart_by_cache_type_module_and_signature() -> None:
    rows = [
        owned("same", 1),
        owned("same", 2, module="a"),
        owned("same", 3, type="t"),
        owned("other", 4),
    ]
    grown = [replace(row, objects=2 * row.objects, bytes=2 * row.bytes) for row in rows]
    changed = diff(counted(*rows), later(*reversed(grown)))
    assert sorted(row.objects for row in changed.owners) == [1, 2, 3, 4]


def test_a_group_that_is_surer_later_is_one_group() -> None:
    before = owned("x", 5, certainty=Certainty.LIKELY)
    [row] = diff(counted(before), later(replace(before, certainty=Certainty.EXACT))).owners
    assert (row.objects, row.certainty) == (0, Certainty.EXACT)


@pytest.mark.parametrize(("before", "now"), [(3.0, 4.0), (0.0, 4.0), (None, 4.0), (3.0, None)])
def test_the_error_is_that_of_the_difference(before: float | None, now: float | None) -> None:
    rows = [[] if error is None else [owned(objects_stderr=error)] for error in (before, now)]
    other = owned("another one")
    changed = diff(counted(other, *rows[0]), later(other, *rows[1]))
    found = {row.signature: row.objects_stderr for row in changed.owners}["struct thing"]
    known = [error for error in (before, now) if error is not None]
    assert found == pytest.approx(hypot(known[0], known[-1]))


def test_owners_that_were_found_only_once_are_not_taken_for_growth() -> None:
    changed = diff(counted(), later(owned()))
    assert changed.owners == ()
    assert changed.limits == ("the owners of 1 caches were found in one of two censuses only",)
    empty = diff(counted(in_use=0), later(owned(objects=4)))
    assert [row.objects for row in empty.owners] == [4], "there was nothing to find"


def test_cgroups_and_what_they_hold() -> None:
    before = census(cgroups=(cgroup("/a", 3, x=10, y=5), cgroup("/gone", 1, x=1)))
    now = census(taken=TAKEN + 1, cgroups=(cgroup("/a", 5, x=10, z=20), cgroup("/new", 2, x=2)))
    changed = only_changed(diff(before, now)).cgroups
    assert [(row.cgroup, row.objects, row.bytes) for row in changed] == [
        ("/a", 2, 15),
        ("/new", 2, 2),
        ("/gone", -1, -1),
    ]
    assert dict(changed[0].by_cache) == {"z": 20, "y": -5}
    assert list(changed[0].by_cache) == ["z", "y"]


def test_orphans_are_compared_if_they_were_looked_for_twice() -> None:
    row = OrphanObjects(cache="kmalloc-64", signature="struct lost", objects=3, bytes=192)
    before = census(passes=2, orphans=(row,))
    now = census(passes=2, taken=TAKEN + 1, orphans=(replace(row, objects=5, bytes=320),))
    assert [(row.objects, row.bytes) for row in diff(before, now).orphans] == [(2, 128)]
    assert diff(replace(before, passes=1), now).orphans == ()


def test_what_is_retained_is_compared_where_both_looked_for_one_kind() -> None:
    row = RetainedObjects(
        kind=RetainedBy.MODULE,
        name="card",
        objects=3,
        bytes=192,
        retained_objects=4,
        retained_bytes=256,
    )
    before = census(retained=(row,))
    now = census(taken=TAKEN + 1, retained=(replace(row, objects=5, retained_bytes=400),))
    (change,) = diff(before, now).retained
    assert (change.objects, change.retained_bytes) == (2, 144)
    other = replace(now, retained=(replace(row, kind=RetainedBy.PROCESS, name="init[1]"),))
    found = diff(before, other)
    assert found.retained == ()
    assert any(text.startswith("what is retained is not compared") for text in found.limits)
    assert diff(census(), census(taken=TAKEN + 1)).limits == ()


def test_what_devices_hold_is_compared_if_it_was_looked_for_twice() -> None:
    row = DeviceObjects(
        bus="pci",
        name="0000:00:03.0",
        objects=3,
        bytes=192,
        retained_objects=4,
        retained_bytes=256,
        by_cache={"kmalloc-64": 192},
    )
    grown = replace(row, objects=5, bytes=320, retained_bytes=400, by_cache={"kmalloc-64": 320})
    before, now = (
        census(passes=2, devices=(row,)),
        census(passes=2, taken=TAKEN + 1, devices=(grown,)),
    )
    [change] = only_changed(diff(before, now)).devices
    assert (change.objects, change.bytes) == (2, 128)
    assert (change.retained_objects, change.retained_bytes) == (0, 144)
    assert change.by_cache == {"kmalloc-64": 128}
    assert diff(before, replace(now, passes=1)).devices, "orphans take more passes"
    assert diff(before, replace(now, devices=())).devices == ()
    assert only_changed(diff(before, replace(before, taken=TAKEN + 1))).devices == ()


def test_page_blocks_and_limits_of_both() -> None:
    before = census(
        page_blocks=(PageBlocks(order=2, objects=1, bytes=16_384),), limits=("a", "b"), sampled=0.5
    )
    now = census(taken=TAKEN + 1, limits=("b", "c"), changed_slabs=2)
    changed = diff(before, replace(now, changed_slabs=2))
    assert changed.page_blocks == (PageBlocks(order=2, objects=-1, bytes=-16_384),)
    assert changed.limits == ("a", "b", "c")
    assert changed.sampled == 0.5


def test_censuses_of_two_boots_are_not_compared() -> None:
    other = replace(rich(1.0), host=Host("6.18.0", "x86_64", 4, "another"))
    with pytest.raises(UsageError, match=r"is of another boot \(boot, Linux 6\.12\.0-test\)"):
        diff(rich(), other)


@pytest.mark.parametrize("taken", [TAKEN, TAKEN - 1])
def test_the_earlier_one_is_earlier(taken: float) -> None:
    with pytest.raises(UsageError, match="is not older"):
        diff(rich(), replace(rich(), taken=taken))


GROUPS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1000))


@given(GROUPS, GROUPS)
def test_before_and_change_add_up_to_now(before: dict[str, int], now: dict[str, int]) -> None:
    def of(groups: dict[str, int], taken: float) -> Census:
        return census(
            taken=taken, owners=tuple(owned(name, count) for name, count in groups.items())
        )

    changed = diff(of(before, TAKEN), of(now, TAKEN + 1))
    sizes = {row.signature: row.objects for row in changed.owners}
    assert sizes == {name: now.get(name, 0) - before.get(name, 0) for name in {*before, *now}}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
