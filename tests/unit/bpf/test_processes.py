# SPDX-License-Identifier: Apache-2.0
"""Exact mode of a process tree, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import OBJECTS, Native

TREE = Settings(
    site_slots=256,
    cache_slots=64,
    samples=4096,
    caches=256,
    stacks=256,
    exact=Filter(process_tree=77),
)
SITE = CORE + 0x144
RECLAIMABLE = 0x20000
Open = Callable[..., Native]
BOTH_WAYS = pytest.mark.parametrize("guard", [True, False], ids=["tags", "hash"])


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(settings: Settings = TREE, guard: bool = True) -> Native:
        native = Native(make_plan(facts(recursion_guard=guard), settings), tmp_path, monkeypatch)
        native.start()
        native.set("time", 1000)
        native.reader.mark_process(77)
        native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
        return native

    return make


def fork(native: Native, parent: int, child: int) -> None:
    """Run the event of a fork, in the parent."""
    native.set("tgid", parent)
    task = bytearray(512)
    offset = native.plan.defines["OFF_TASK_TGID"]
    task[offset : offset + 4] = child.to_bytes(4, "little")
    native.run("on_process_fork", 0, native.memory(bytes(task)))


def allocate(native: Native, tgid: int, number: int) -> None:
    native.set("tgid", tgid)
    native.kmalloc(SITE, OBJECTS + 96 * number, 70, 96)


def owners(native: Native) -> list[int]:
    """The processes of the tracked objects, in order."""
    return sorted(native.reader.samples()["tgid"].tolist())


@BOTH_WAYS
def test_a_process_and_its_descendants_are_tracked_and_no_others(
    open_native: Open, guard: bool
) -> None:
    native = open_native(guard=guard)
    fork(native, 77, 80)
    fork(native, 80, 4_194_303)
    fork(native, 1, 90)
    for number, tgid in enumerate((77, 80, 4_194_303, 90, 1, 0)):
        allocate(native, tgid, number)
    assert owners(native) == [77, 80, 4_194_303]


def test_an_id_that_is_used_again_belongs_to_its_new_parent(open_native: Open) -> None:
    native = open_native()
    fork(native, 77, 80)
    fork(native, 1, 80)
    allocate(native, 80, 0)
    fork(native, 1, 81)
    fork(native, 77, 81)
    allocate(native, 81, 1)
    assert owners(native) == [81]


def test_a_thread_does_not_change_its_process(open_native: Open) -> None:
    native = open_native()
    fork(native, 77, 77)
    fork(native, 5, 5)
    allocate(native, 77, 0)
    allocate(native, 5, 1)
    assert owners(native) == [77]


def test_dentries_and_inodes_are_tracked_only_if_their_cache_is_named(open_native: Open) -> None:
    for exact, tracked in ((TREE.exact, 0), (Filter(cache="dentry", process_tree=77), 1)):
        native = open_native(replace(TREE, exact=exact))
        dentries = native.cache(b"dentry", 192, RECLAIMABLE)
        native.set("tgid", 77)
        native.cache_alloc(SITE, OBJECTS + 192, dentries)
        assert len(native.reader.samples()) == tracked


@BOTH_WAYS
def test_large_objects_of_slabs_have_addresses_and_whole_pages_have_none(
    open_native: Open, guard: bool
) -> None:
    """Those of task_struct, and with slub_debug of kmalloc-8k, occupy more than any bucket."""
    native = open_native(guard=guard)
    native.set("tgid", 77)
    tasks, buffers, pages = (OBJECTS + (number << 24) for number in (1, 2, 3))
    task_struct = native.cache(b"task_struct", 10_240)
    native.slab(tasks, 1 << 20, task_struct)
    native.slab(buffers, 1 << 20, native.cache(b"kmalloc-8k", 24_576))
    native.cache_alloc(SITE, tasks, task_struct)
    native.kmalloc(SITE, buffers, 8_000, 24_576)
    native.kmalloc(SITE, pages, 16_000, 16_384)
    addresses, _, _ = native.reader.addresses()
    assert sorted(addresses.tolist()) == [tasks, buffers]


@BOTH_WAYS
def test_objects_that_are_gone_can_be_forgotten(open_native: Open, guard: bool) -> None:
    native = open_native(guard=guard)
    for number in range(5):
        native.set("time", 1000 + number)
        allocate(native, 77, number)
    native.set("time", 2000)
    native.kmalloc(SITE, OBJECTS + (1 << 30), 70_000, 131_072)
    addresses, indices, times_ns = native.reader.addresses()
    assert sorted(addresses.tolist()) == [OBJECTS + 96 * number for number in range(5)]
    gone = np.isin(addresses, [OBJECTS, OBJECTS + 3 * 96])
    native.reader.forget(indices[gone], times_ns[gone])
    kept = [1001, 1002, 1004, 2000]
    assert sorted(native.reader.samples()["time_ns"].tolist()) == kept
    native.set("time", 3000)
    allocate(native, 77, 3)
    assert sorted(native.reader.samples()["time_ns"].tolist()) == [*kept, 3000], "another object"
