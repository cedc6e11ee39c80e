# SPDX-License-Identifier: Apache-2.0
"""What only a module's data, a process' stack, or a cgroup leads to is theirs, to the object."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slabmon.base.retained import RetainedBy
from slabmon.kernel.census import reading, retained_rows
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.probe import slabinfo
from tests.vm.guest import planted as module
from tests.vm.guest.census import Reader, census_reader

KEPT = 101  # of each kind (tests/kmod/orphans.c)
ON_STACK = 97  # words left behind elsewhere clear one or two at times (docs/census.md)
# Kinds of objects that nothing but the module's data leads to, and what one of its threads holds.
BY_MODULE = ("in_list", "in_table", "in_lockless", "in_tree", "tagged", "in_chain", "in_array")
CGROUPS = Path("/sys/fs/cgroup")
TRIES = 3
CLEARED = 1  # ways that a stale word may clear: see test_census_devices

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with census_reader() as result:
        yield result


@pytest.fixture
def kept(planted: None) -> Iterator[None]:
    subprocess.run(["sh", "-c", f"echo orphans_keep >{module.DEBUGFS}/run"], check=True)
    yield
    module.run("release")


def functions() -> dict[int, str]:
    """Names of the functions that objects are marked with, by address."""
    lines = map(str.split, Path("/proc/kallsyms").read_text().splitlines())
    return {int(line[0], 16): line[2] for line in lines if line[2].startswith("planted_kept_")}


def held(reader: Reader, kind: RetainedBy) -> dict[str, Counter[str]]:
    """Planted objects that each retainer of a kind holds, without those below it."""
    kernel, layout = reader.kernel, reader.layout
    read = reading.read(kernel, layout)
    heap = Heap(read, layout)
    found = retained_rows.find(kind, kernel, layout, read, heap, slabinfo.read_aliases())
    tracer = Tracer(kernel, layout, read, heap)
    reached = tracer.from_outside(found)
    retained = retained_rows.follow(kind, read, tracer, reached, found)
    rows = {row.name: row for row in retained.others}
    assert retained.held is not None
    marks = functions()
    addresses = np.array(sorted(marks), np.uint64)
    result: dict[str, Counter[str]] = {name: Counter() for name in rows}
    for number, name in enumerate(found.names):
        objects = retained.held.objects[retained.held.holder == number]
        for _, words in heap.contents(kernel, objects):
            known = words[np.isin(words, addresses)]
            result.setdefault(name, Counter()).update(marks[word] for word in known.tolist())
    return result


@pytest.mark.usefixtures("kept")
def test_what_only_a_module_s_data_leads_to_is_the_module_s(reader: Reader) -> None:
    expected = {f"planted_kept_{way}": KEPT for way in BY_MODULE}
    for _ in range(TRIES):
        found = held(reader, RetainedBy.MODULE)[module.NAME]
        print(found)
        assert not {"planted_kept_on_stack", "planted_kept_by_timer"} & set(found)
        if sum(found[way] != count for way, count in expected.items()) <= CLEARED:
            return
    pytest.fail(f"expected {expected}, got {found}")


@pytest.mark.usefixtures("kept")
def test_what_only_a_stack_leads_to_is_the_process_s(reader: Reader) -> None:
    for _ in range(TRIES):
        found = {name: each for name, each in held(reader, RetainedBy.PROCESS).items() if each}
        print(found)
        kinds = [set(each) for each in found.values()]
        counts = [each.total() for each in found.values()]
        if kinds == [{"planted_kept_on_stack"}] and ON_STACK <= counts[0] <= KEPT:
            return
    pytest.fail(f"expected {ON_STACK} to {KEPT} on one stack and nothing elsewhere, got {found}")


def test_cgroups_retain_what_their_children_do(reader: Reader) -> None:
    parent, child = CGROUPS / "slabmon_retained", CGROUPS / "slabmon_retained" / "child"
    child.mkdir(parents=True)
    try:
        kernel, layout = reader.kernel, reader.layout
        read = reading.read(kernel, layout)
        heap = Heap(read, layout)
        found = retained_rows.find(RetainedBy.CGROUP, kernel, layout, read, heap, {})
        tracer = Tracer(kernel, layout, read, heap)
        retained = retained_rows.follow(
            RetainedBy.CGROUP, read, tracer, tracer.from_outside(found), found
        )
        rows = {row.name: row for row in retained.others}
        above, below = rows["/slabmon_retained"], rows["/slabmon_retained/child"]
        assert below.objects > 0
        assert above.retained_bytes == above.bytes + below.retained_bytes
        assert above.retained_objects == above.objects + below.retained_objects
        assert rows["/"].retained_bytes >= above.retained_bytes
    finally:
        child.rmdir()
        parent.rmdir()
