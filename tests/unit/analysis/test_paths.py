# SPDX-License-Identifier: Apache-2.0
"""Paths of memory, the trees made of them, and folded stacks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis import paths
from slabmon.analysis.grouping import DIMENSIONS, NO_STACK, group_live
from slabmon.analysis.paths import CACHE, FUNCTION, LABEL, MODULE, REMARK, Frame, Paths
from slabmon.analysis.weights import changed, live
from slabmon.model import Release, Snapshot, Stacked
from slabmon.report import tree
from slabmon.report.folded import escaped, to_folded
from slabmon.store.recording import TimedSnapshot
from tests.support.builders import Object, device
from tests.support.reported import SOME, STACKED, host, hosts


def names(found: Paths) -> dict[tuple[str, ...], int]:
    return {
        tuple(found.frames[frame].name for frame in path): size
        for path, size in zip(found.paths, found.bytes.tolist(), strict=True)
    }


def test_stacks_go_from_the_entry_to_the_call_site_and_its_cache() -> None:
    found = names(paths.live_paths(live(host(SOME))))
    assert set(found) == {
        ("do_syscall_64", "vfs_open", "alloc_thing", "kmalloc-64"),
        ("do_syscall_64", "vfs_open", "lookup", "d_alloc", "dentry"),
        ("do_init", "bus_probe", "probe_card [card]", "kmalloc-large"),
        (NO_STACK, "d_alloc", "dentry"),
    }
    assert found["do_init", "bus_probe", "probe_card [card]", "kmalloc-large"] == 65536


def test_a_stack_that_misses_the_call_site_is_shown_whole_but_for_the_tracing() -> None:
    found = names(paths.live_paths(live(host([Object(site=1, stack=0)])), ("stack",)))
    assert list(found) == [("do_syscall_64", "vfs_open", "alloc_thing", "__kmalloc_noprof")]


def test_frames_know_what_they_are() -> None:
    found = paths.live_paths(live(host(SOME)))
    kinds = {frame.name: frame.kind for frame in found.frames}
    assert kinds["vfs_open"] == FUNCTION
    assert kinds["probe_card [card]"] == MODULE
    assert kinds["dentry"] == CACHE
    assert kinds[NO_STACK] == REMARK


@given(hosts)
def test_totals_are_those_of_the_snapshot(things: list[Object]) -> None:
    snapshot = host(things)
    total = sum(cache.live.bytes for cache in snapshot.caches)
    for by in (paths.BY_STACK, ("process", "cgroup"), ("site",), tuple(DIMENSIONS)):
        found = paths.live_paths(live(snapshot), by)
        assert found.bytes.sum() == total
        grown = tree.build(found)
        assert grown.size[0] == total
        assert tree.to_json(grown)["size"][0] == total
    allocated = paths.allocated_paths(snapshot)
    assert allocated.bytes.sum() == sum(site.allocated_bytes for site in snapshot.sites)


def test_what_was_allocated_goes_from_the_entry_to_the_call_site() -> None:
    found = paths.allocated_stack_paths(host(SOME))
    assert names(found) == {
        ("do_syscall_64", "vfs_open", "alloc_thing"): 3_000_000,
        ("do_init", "bus_probe", "probe_card [card]"): 1_900_000,
        ("do_syscall_64", "vfs_open", "lookup", "d_alloc"): 1_100_000,
        (paths.OTHER_STACKS,): 1000,
        (NO_STACK,): 500,
    }
    assert sorted(found.variance.tolist()) == [0, 300**2, 400**2, 30_000**2, 50_000**2]
    assert tree.build(found).size[0] == STACKED.bytes.sum()


def stacked(rows: dict[int, tuple[int, int]]) -> Snapshot:
    size, error = np.array(list(rows.values()), np.int64).T
    return host(SOME, stacked=Stacked(np.array(list(rows), np.int32), size, error))


def test_what_was_allocated_in_between_by_stack() -> None:
    then = stacked({0: (1000, 30), 2: (700, 9), -1: (50, 5), -2: (0, 0)})
    now = stacked({0: (1500, 50), 1: (300, 10), -1: (80, 13), -2: (720, 20)})
    found = paths.allocated_stack_paths(now, then)
    assert names(found) == {
        ("do_syscall_64", "vfs_open", "alloc_thing"): 500,
        ("do_init", "bus_probe", "probe_card [card]"): 300,
        (NO_STACK,): 30,
        (paths.OTHER_STACKS,): 20,  # the third was forgotten
    }
    assert found.variance.tolist()[0] == 40**2
    assert found.bytes.sum() == now.stacked.bytes.sum() - then.stacked.bytes.sum()


def test_a_stack_that_was_not_told_before_counts_what_it_surely_grew_by() -> None:
    then = stacked({0: (1000, 0), 2: (400, 0), -1: (0, 0), -2: (900, 0)})
    now = stacked({0: (1000, 0), 1: (950, 0), -1: (7, 0), -2: (1020, 0)})
    # At most 400 of its 950 were there before: it was smaller than the smallest that was told.
    assert names(paths.allocated_stack_paths(now, then)) == {
        ("do_init", "bus_probe", "probe_card [card]"): 550,
        (NO_STACK,): 7,
        (paths.OTHER_STACKS,): 2970 - 2300 - 550,
    }


@given(hosts)
def test_dimensions_are_those_of_the_tables(things: list[Object]) -> None:
    snapshot = host(things)
    for by in (("process", "cgroup"), ("cache",), ("gfp", "size", "age", "pid")):
        found = names(paths.live_paths(live(snapshot), by))
        wanted = {group.labels: group.live.bytes for group in group_live(snapshot, by)}
        assert found.keys() == wanted.keys()
        assert all(abs(found[key] - wanted[key]) <= 3 for key in wanted)  # roundings of 3 caches


@given(hosts, hosts)
def test_changes_add_up(then: list[Object], now: list[Object]) -> None:
    before, after = host(then, 60), host(now, 120)
    total = sum(c.live.bytes for c in after.caches) - sum(c.live.bytes for c in before.caches)
    found = paths.live_paths(changed(before, after))
    assert found.bytes.sum() == total
    json = tree.to_json(tree.build(found))
    assert json["net"][0] == total
    assert json["size"][0] == np.abs(found.bytes).sum()


def test_allocated_bytes_of_a_change_are_differences_of_counters() -> None:
    before = host(SOME)
    sites = (before.sites[0]._replace(allocs=60, allocated_bytes=2_000_300), *before.sites[1:])
    after = host(SOME, 120, sites=sites)
    found = paths.allocated_paths(after, before)
    assert names(found) == {("[core kernel]", "alloc_thing", "alloc_thing+0x0"): 300}
    assert found.objects.tolist() == [10]


def test_devices_lead_to_drivers_and_resources() -> None:
    card = device(
        name="card0",
        by_release=(Release("devm_irq_release", 1, 0), Release("devm_kmalloc_release", 2, 96)),
        slab_by_cache={"kmalloc-64": 128},
    )
    loose = replace(card, bus="", name="loose", driver=None)
    snapshot = host([], devices=(card, loose))
    assert names(paths.managed_paths(snapshot)) == {
        ("pci/card0", "virtio-pci", "devm_kmalloc_release"): 96,
        ("loose", "[no driver]", "devm_kmalloc_release"): 96,
    }
    assert names(paths.slab_paths(snapshot)) == {
        ("pci/card0", "virtio-pci", "kmalloc-64"): 128,
        ("loose", "[no driver]", "kmalloc-64"): 128,
    }


def made(rows: dict[str, int]) -> tree.Tree:
    """A tree of paths whose frames are single letters."""
    letters = sorted(set("".join(rows)))
    size = np.array(list(rows.values()))
    return tree.build(
        Paths(
            [Frame(letter, LABEL) for letter in letters],
            [tuple(map(letters.index, path)) for path in rows],
            size,
            size * 0,
            np.ones(len(rows)),
        )
    )


def lines(json: dict[str, Any]) -> list[tuple[int, str, int]]:
    return [
        (depth, json["names"][frame], size)
        for depth, frame, size in zip(json["depth"], json["frame"], json["size"], strict=True)
    ]


def test_a_tree_is_in_preorder_with_the_largest_first() -> None:
    json = tree.to_json(made({"ab": 5, "ac": 7, "d": 20, "a": 1}))
    assert lines(json) == [
        (0, "all", 33),
        (1, "d", 20),
        (1, "a", 13),
        (2, "c", 7),
        (2, "b", 5),
    ]
    assert json["error"] == [2, 1, 2, 1, 1]


def test_what_is_too_small_is_folded_and_counted() -> None:
    json = tree.to_json(made({"ab": 1, "ac": 1, "acd": 1, "e": 10**6}))
    assert lines(json) == [(0, "all", 10**6 + 3), (1, "e", 10**6), (1, "[4 smaller]", 3)]


trees = st.dictionaries(
    st.text("abcde", min_size=1, max_size=6), st.integers(1, 10**6), min_size=1, max_size=60
)


@given(trees, st.integers(1, 20))
def test_what_is_kept_is_few_and_has_all_above_it(rows: dict[str, int], most: int) -> None:
    grown = made(rows)
    keep = tree.largest(grown, most)
    assert keep[0]
    assert keep.sum() <= most
    assert all(keep[grown.parent[node]] for node in np.flatnonzero(keep) if node)


@given(trees)
def test_children_never_exceed_their_parent(rows: dict[str, int]) -> None:
    json = tree.to_json(made(rows))
    inside: Counter[int] = Counter()
    path: list[int] = []
    for node, depth in enumerate(json["depth"]):
        del path[depth:]
        if path:
            inside[path[-1]] += json["size"][node]
        path.append(node)
    assert all(inside[node] <= json["size"][node] for node in inside)
    assert json["size"][0] == sum(rows.values())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vfs_open", "vfs_open"),
        ("probe_card [card]", "probe_card_[card]"),
        ("a;b c", r"a\x3bb\x20c"),
        ("a\\x3b", r"a\x5cx3b"),
        ("ü\u00a0", r"ü\xc2\xa0"),
    ],
)
def test_folded_names_hold_neither_separator(name: str, wanted: str) -> None:
    assert escaped(name) == wanted


@given(hosts)
def test_folded_totals_are_those_of_the_snapshot(things: list[Object]) -> None:
    now = TimedSnapshot(0.0, host(things))
    counts = [
        int(line.rpartition(" ")[2]) for line in to_folded(now, None, "live", ()).splitlines()
    ]
    assert sum(counts) == sum(cache.live.bytes for cache in now.snapshot.caches)
    allocated = to_folded(now, None, "allocated", ()).splitlines()
    assert sum(int(line.split(" ")[1]) for line in allocated) == sum(
        site.allocated_bytes for site in now.snapshot.sites
    )
    assert len({line.split(" ")[0] for line in allocated}) == len(allocated)
    by_stack = to_folded(now, None, "stacked", ()).splitlines()
    assert "do_syscall_64;vfs_open;alloc_thing 3000000" in by_stack
    assert sum(int(line.rpartition(" ")[2]) for line in by_stack) == STACKED.bytes.sum()


def test_folded_changes_are_two_columns() -> None:
    then, now = TimedSnapshot(0.0, host(SOME[3:4], 60)), TimedSnapshot(9.0, host(SOME[:1], 120))
    rows = dict(line.split(" ", 1) for line in to_folded(now, then, "live", ()).splitlines())
    assert rows == {
        "do_init;bus_probe;probe_card_[card];kmalloc-large": "65536 0",
        "do_syscall_64;vfs_open;alloc_thing;kmalloc-64": "0 65568",
    }
    assert to_folded(now, then, "live", ("process",)) == "cat 65536 65568\n"
