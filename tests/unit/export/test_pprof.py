# SPDX-License-Identifier: Apache-2.0
"""The profile, read back by a decoder that has nothing to do with its encoder."""

from __future__ import annotations

import pytest
from hypothesis import given

from slabmon.export.pprof import to_pprof
from slabmon.store.recording import TimedSnapshot
from tests.support.builders import Object
from tests.support.profiles import Read
from tests.support.reported import SOME, STACKED, host, hosts

ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE, BY_STACK = range(5)


def test_it_says_what_its_values_are() -> None:
    now = TimedSnapshot(1_700_000_000.5, host(SOME))
    read = Read(to_pprof(now, None))
    assert read.values == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
        ("alloc_space_by_stack", "bytes"),
    ]
    profile = read.profile
    assert profile.string_table[0] == ""
    assert profile.string_table[profile.default_sample_type] == "inuse_space"
    assert (profile.time_nanos, profile.duration_nanos) == (1_700_000_000_500_000_000, 60 * 10**9)
    assert profile.period == 65536
    first = Read(to_pprof(now, None, "allocated"))
    assert first.profile.string_table[first.profile.default_sample_type] == "alloc_space"


def test_stacks_begin_at_the_call_site_and_carry_module_and_labels() -> None:
    read = Read(to_pprof(TimedSnapshot(0.0, host(SOME)), None))
    found = {
        stack: (values, labels) for stack, values, labels in read.samples if values[INUSE_SPACE]
    }
    values, labels = found["probe_card", "bus_probe", "do_init"]
    assert values == (0, 0, 1, 65536, 0)
    assert labels == {
        "site": "probe_card+0x10 [card]",
        "cache": "kmalloc-large",
        "module": "card",
        "process": "cat",
        "cgroup": "/user.slice",
    }
    assert ("d_alloc", "lookup", "vfs_open", "do_syscall_64") in found
    assert ("d_alloc", "[no stack]") in found
    assert read.modules["probe_card"] == "card"
    assert read.modules["vfs_open"] == "[core kernel]"


def test_no_address_leaves_the_host_and_no_tool_looks_for_symbols() -> None:
    profile = Read(to_pprof(TimedSnapshot(0.0, host(SOME)), None)).profile
    assert {place.address for place in profile.location} == {0}
    assert all(mapping.has_functions for mapping in profile.mapping)


def test_ids_are_unique_and_not_zero() -> None:
    profile = Read(to_pprof(TimedSnapshot(0.0, host(SOME)), None)).profile
    for rows in (profile.location, profile.function, profile.mapping):
        numbers = [row.id for row in rows]
        assert len(set(numbers)) == len(numbers)
        assert 0 not in numbers
    assert len(set(profile.string_table)) == len(profile.string_table)


@given(hosts)
def test_totals_are_those_of_the_snapshot(things: list[Object]) -> None:
    snapshot = host(things)
    read = Read(to_pprof(TimedSnapshot(0.0, snapshot), None))
    live = {cache.name: cache.live for cache in snapshot.caches}
    assert read.totals("cache", INUSE_SPACE) == {n: v.bytes for n, v in live.items() if v.bytes}
    assert read.totals("cache", INUSE_OBJECTS) == {
        name: value.objects for name, value in live.items() if value.objects
    }
    sites = snapshot.sites
    assert read.totals("site", ALLOC_SPACE) == {s.full_label: s.allocated_bytes for s in sites}
    assert read.totals("site", ALLOC_OBJECTS) == {s.full_label: s.allocs for s in sites}


def test_what_was_allocated_has_its_callers() -> None:
    read = Read(to_pprof(TimedSnapshot(0.0, host(SOME)), None, "stacked"))
    assert read.profile.string_table[read.profile.default_sample_type] == "alloc_space_by_stack"
    found = {stack: values[BY_STACK] for stack, values, _ in read.samples if values[BY_STACK]}
    assert found["d_alloc", "lookup", "vfs_open", "do_syscall_64"] == 1_100_000
    assert sum(found.values()) == STACKED.bytes.sum()


@given(hosts, hosts)
def test_changes_can_be_negative(then: list[Object], now: list[Object]) -> None:
    before, after = host(then, 60), host(now, 120)
    read = Read(to_pprof(TimedSnapshot(9.0, after), TimedSnapshot(0.0, before)))
    assert read.profile.duration_nanos == 60 * 10**9
    differences = {
        new.name: new.live.bytes - old.live.bytes
        for new, old in zip(after.caches, before.caches, strict=True)
    }
    assert read.totals("cache", INUSE_SPACE) == {n: d for n, d in differences.items() if d}
    assert read.totals("site", ALLOC_SPACE) == {}


@pytest.mark.parametrize("by", [("gfp", "pid"), ("cache", "size"), ("stack",)])
def test_dimensions_become_labels(by: tuple[str, ...]) -> None:
    read = Read(to_pprof(TimedSnapshot(0.0, host(SOME)), None, by=by))
    for name in by:
        if name != "stack":
            assert all(name in labels for _, values, labels in read.samples if values[INUSE_SPACE])
