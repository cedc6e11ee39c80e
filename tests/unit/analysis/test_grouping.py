# SPDX-License-Identifier: Apache-2.0
"""Live estimates by any dimension of the tracked objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis.grouping import (
    DIMENSIONS,
    MODIFIER,
    _numbered,
    group_live,
    groups,
    parse_dimensions,
)
from slabmon.analysis.sampling import Grouped
from slabmon.base.errors import UsageError
from slabmon.base.workloads import WorkloadNames
from slabmon.model import Live, Mode, Snapshot, Tracking
from tests.support.builders import (
    ATOMIC_FLAGS,
    KERNEL_FLAGS,
    Object,
    cache,
    site,
    snapshot,
    tracked,
)

CACHES = (cache("kmalloc-64"), cache("dentry"))
SITES = (site("open", 4), site("open", 4, "ext4"), site("read", 8, "ext4"))
STACKS = {7: ("kmalloc", "open", "syscall"), 8: ("kmalloc", "read", "syscall")}


def of(objects: list[Object]) -> Snapshot:
    return snapshot(caches=CACHES, sites=SITES, tracked=tracked(objects, STACKS, {1: "/"}))


OBJECTS = [
    Object(bytes=64, site=0, age=0.5, stack=7),
    Object(bytes=64, site=1, age=5, stack=8, comm=b"dd", tgid=200),
    Object(bytes=192, cache=1, site=2, age=30, stack=7, cgroup=2, gfp=ATOMIC_FLAGS),
    Object(bytes=192, cache=1, site=2, age=90_000, stack=-1, cgroup=2, tgid=200),
]
# Dimension -> live bytes by label.
BY = {
    "cache": {"kmalloc-64": 128, "dentry": 384},
    "family": {"kmalloc-64": 128, "dentry": 384},
    "caller": {"open": 256, "read": 64, "read [ext4]": 192},
    "module": {"": 64, "ext4": 448},
    "gfp": {"kernel": 320, "atomic": 192},
    "modifiers": {"[none]": 320, "high": 192},
    "process": {"cat": 448, "dd": 64},
    "pid": {"100": 256, "200": 256},
    "cgroup": {"/": 128, "/2": 384},
    "workload": {"/": 128, "/2": 384},
    "unit": {"": 512},
    "container": {"": 512},
    "pod": {"": 512},
    "namespace": {"": 512},
    "context": {"task": 512},
    "device": {"": 512},
    "size": {"64": 128, "192": 384},
    "age": {"<1s": 64, "<10s": 64, "<1m": 192, ">=1d": 192},
    "stack": {"syscall;open;kmalloc": 256, "syscall;read;kmalloc": 64, "[no stack]": 192},
}


@pytest.mark.parametrize("dimension", BY)
def test_each_dimension_groups_by_its_values(dimension: str) -> None:
    found = {group.labels: group.live.bytes for group in group_live(of(OBJECTS), [dimension])}
    assert found == {(label,): size for label, size in BY[dimension].items()}


def test_cgroups_are_grouped_by_what_runs_in_them() -> None:
    pod = f"/kubepods/burstable/pod{'a' * 32}"
    names = {
        "c" * 64: WorkloadNames("nginx", "web-0", "shop"),
        "d" * 64: WorkloadNames("logs", "web-0", "shop"),
    }
    paths = {1: f"{pod}/{'c' * 64}", 2: f"{pod}/{'d' * 64}", 3: "/system.slice/sshd.service"}
    objects = [Object(bytes=64 * number, cgroup=number) for number in paths]
    shown = replace(of(objects), tracked=tracked(objects, cgroups=paths), workloads=names)
    found = {
        by: {row.labels[0]: row.live.bytes for row in group_live(shown, [by])}
        for by in ("workload", "unit", "container", "pod", "namespace")
    }
    assert found == {
        "workload": {"shop/web-0/nginx": 64, "shop/web-0/logs": 128, "sshd.service": 192},
        "unit": {"": 192, "sshd.service": 192},
        "container": {"nginx": 64, "logs": 128, "": 192},
        "pod": {"web-0": 192, "": 192},
        "namespace": {"shop": 192, "": 192},
    }


def test_a_family_is_all_kinds_of_one_size() -> None:
    caches = (cache("kmalloc-cg-64"), cache("kmalloc-rnd-03-64"), cache("kmalloc-64#2"))
    objects = [Object(bytes=64, cache=row) for row in range(3)]
    kinds = snapshot(caches=caches, sites=SITES, tracked=tracked(objects))
    assert [(row.labels, row.live.bytes) for row in group_live(kinds, ["family"])] == [
        (("kmalloc-64",), 192)
    ]


ZERO, NOWARN = 0x100, 0x2000
MODIFIED = of(
    [
        Object(bytes=8, gfp=KERNEL_FLAGS | ZERO),
        Object(bytes=16, gfp=KERNEL_FLAGS | ZERO | NOWARN),
        Object(bytes=32, gfp=ATOMIC_FLAGS | ZERO | NOWARN),
        Object(bytes=64, gfp=KERNEL_FLAGS),
    ]
)


def test_modifiers_of_an_object_are_one_label() -> None:
    found = {g.labels[0]: g.live.bytes for g in group_live(MODIFIED, ["modifiers"])}
    assert found == {"zero": 8, "zero|nowarn": 16, "zero|high|nowarn": 32, "[none]": 64}


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (((MODIFIER, "zero"),), 56),
        (((MODIFIER, "nowarn"),), 48),
        (((MODIFIER, "high"),), 32),
        (((MODIFIER, "nofail"),), 0),
        (((MODIFIER, "nowarn"), ("modifiers", "zero|nowarn")), 16),
        ((("modifiers", "zero"),), 8),
    ],
)
def test_a_modifier_selects_whatever_has_it(where: Any, wanted: int) -> None:
    rows = groups(MODIFIED, ["cache"], where).rows
    assert sum(row.live.bytes for row in rows) == wanted


def test_modifiers_that_a_recording_lacks_are_unknown() -> None:
    old = replace(MODIFIED, tracked=replace(MODIFIED.tracked, gfp_modifiers={}))
    assert [(g.labels, g.live.bytes) for g in group_live(old, ["modifiers"])] == [
        (("[unknown]",), 120)
    ]
    assert not groups(old, ["cache"], ((MODIFIER, "zero"),)).rows


def test_every_dimension_is_tested() -> None:
    assert set(BY) | {"site"} == set(DIMENSIONS)


def test_sites_of_one_function_name_in_two_modules_can_be_told_apart() -> None:
    labels = [group.labels[0] for group in group_live(of(OBJECTS), ["site"])]
    assert len(labels) == 3
    assert len(set(labels)) == 3
    assert all("open+0x4" in label or "read+0x8" in label for label in labels)


@pytest.mark.parametrize(
    ("age", "label"),
    [
        (0, "<1s"),
        (0.999, "<1s"),
        (1, "<10s"),
        (9.99, "<10s"),
        (10, "<1m"),
        (59, "<1m"),
        (60, "<10m"),
        (600, "<1h"),
        (3599, "<1h"),
        (3600, "<1d"),
        (86399, "<1d"),
        (86400, ">=1d"),
    ],
)
def test_ages_fall_into_the_class_below_their_limit(age: float, label: str) -> None:
    (group,) = group_live(of([Object(age=age)]), ["age"])
    assert group.labels == (label,)


def test_what_went_unseen_beside_certain_objects_is_bounded() -> None:
    """Page-backed objects are certain; a group of them can hide small ones nobody sampled."""
    (group,) = group_live(of([Object(bytes=16_384, interval=0)]), ["process"])
    assert group.live.low_bytes == 16_384
    assert group.live.high_bytes > 16_384 + 2 * 65_536


def test_an_age_is_never_negative() -> None:
    """An object can be allocated after the clock was read."""
    found = of([Object(age=-0.001)])
    assert found.tracked.age.tolist() == [0]


def test_several_dimensions_are_combined() -> None:
    found = {g.labels: g.live.objects for g in group_live(of(OBJECTS), ["cache", "pid"])}
    assert found == {
        ("kmalloc-64", "100"): 1,
        ("kmalloc-64", "200"): 1,
        ("dentry", "100"): 1,
        ("dentry", "200"): 1,
    }


def test_groups_come_largest_first_and_then_by_label() -> None:
    labels = [group.labels for group in group_live(of(OBJECTS), ["process", "size"])]
    assert labels == [("cat", "192"), ("cat", "64"), ("dd", "64")]


def test_objects_without_a_stack_are_one_group() -> None:
    """-1: none taken; -17: its slot was taken (EEXIST)."""
    groups = group_live(of([Object(stack=-1), Object(stack=-17)]), ["stack"])
    assert [(g.labels, g.live.objects) for g in groups] == [(("[no stack]",), 2)]


def test_stacks_that_read_the_same_are_one_group() -> None:
    """Two stack ids can differ by an offset that the text does not show."""
    same = tracked([Object(stack=1), Object(stack=2)], {1: ("a", "b"), 2: ("a", "b")})
    groups = group_live(snapshot(caches=CACHES, sites=SITES, tracked=same), ["stack"])
    assert [(g.labels, g.live.objects) for g in groups] == [(("b;a",), 2)]


def test_nothing_tracked_gives_no_groups() -> None:
    for dimension in DIMENSIONS:
        assert group_live(of([]), [dimension]) == []


THINGS = st.lists(
    st.builds(
        Object,
        cache=st.integers(0, 1),
        site=st.integers(0, 2),
        bytes=st.sampled_from([8, 64, 4096, 8192]),
        interval=st.sampled_from([0, 512, 65_536]),
        age=st.floats(0, 1e6),
        gfp=st.sampled_from([KERNEL_FLAGS, ATOMIC_FLAGS]),
        tgid=st.integers(1, 3),
        cgroup=st.integers(1, 3),
        comm=st.sampled_from([b"a", b"b\n"]),
        stack=st.sampled_from([7, 8, -1]),
    ),
    min_size=1,
    max_size=12,
)
DIMENSION_SETS = st.lists(st.sampled_from(sorted(DIMENSIONS)), min_size=1, unique=True)


@given(THINGS, DIMENSION_SETS)
def test_groups_add_up_to_everything(things: list[Object], by: list[str]) -> None:
    found = of(things)
    groups = group_live(found, by)
    everything = Grouped(found.tracked.bytes, found.tracked.interval)
    (total,) = everything.by(found.tracked.cache * 0, 1)
    # Each group is rounded by itself.
    assert sum(group.live.bytes for group in groups) == pytest.approx(total.bytes, abs=len(groups))
    assert sum(g.live.objects for g in groups) == pytest.approx(total.objects, abs=len(groups))
    variance = sum(group.live.stderr_bytes**2 for group in groups)
    assert variance**0.5 == pytest.approx(total.stderr_bytes, rel=1e-3, abs=2 * len(groups))


@given(THINGS, DIMENSION_SETS)
def test_exact_groups_are_counted_exactly(things: list[Object], by: list[str]) -> None:
    certain = [Object(**{**vars(thing), "interval": 0}) for thing in things]
    exact = replace(of(certain), tracking=Tracking(0.0, 1.0, Mode.EXACT, 0))
    groups = group_live(exact, by)
    assert sum(group.live.bytes for group in groups) == sum(thing.bytes for thing in things)
    assert sum(group.live.objects for group in groups) == len(things)
    for group in groups:
        size = group.live.bytes
        assert group.live == Live(group.live.objects, size, 0, size, size)


@given(THINGS, DIMENSION_SETS)
def test_no_two_groups_have_the_same_labels(things: list[Object], by: list[str]) -> None:
    counts = Counter(group.labels for group in group_live(of(things), by))
    assert not [labels for labels, count in counts.items() if count > 1]


def test_many_values_in_many_dimensions_are_not_mixed_up() -> None:
    """Numbers of combinations beyond 64 bits: every object differs from every other."""
    count = 1 << 13
    things = [
        Object(bytes=8 + i, tgid=i, cgroup=i, comm=b"%04d" % i, stack=i) for i in range(count)
    ]
    # Two that differ by process id alone, by half of the range.
    things += [Object(bytes=8, tgid=count // 2, cgroup=0, comm=b"0000", stack=0)]
    stacks = {i: (f"function_{i}",) for i in range(count)}
    found = snapshot(caches=CACHES, sites=SITES, tracked=tracked(things, stacks))
    groups = group_live(found, ["pid", "cgroup", "process", "stack", "size"])
    assert len(groups) == len(things)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cache", ("cache",)),
        ("site, module", ("site", "module")),
        (",".join(DIMENSIONS), tuple(DIMENSIONS)),
    ],
)
def test_dimensions_are_read_from_text(text: str, names: tuple[str, ...]) -> None:
    assert parse_dimensions(text) == names


@pytest.mark.parametrize("text", ["", "caches", "cache,", "cache,cache", "cache;site", "Cache"])
def test_other_text_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--by"):
        parse_dimensions(text)


@pytest.mark.parametrize(
    "column",
    [
        np.array([], np.uint32),
        np.array([7], np.uint64),
        np.array([-1, 4, -1, 2], np.int32),
        np.array([2**63 + 5, 2**63, 2**63 + 5], np.uint64),
        np.array([0, 2**40, 5, 0], np.int64),
        np.array([255, 0, 1], np.uint8),
        np.array([b"b", b"a", b"b"], "S16"),
    ],
    ids=lambda column: str(column.dtype),
)
def test_values_are_numbered_in_order(column: np.ndarray) -> None:
    values, numbers = _numbered(column)
    wanted, inverse = np.unique(column, return_inverse=True)
    assert values.tolist() == wanted.tolist()
    assert numbers.tolist() == inverse.tolist()
