# SPDX-License-Identifier: Apache-2.0
"""Totals per kernel stack, by the BPF programs run in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slabmon.analysis.sampling import probability
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import STACK_TOTAL
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.tables.stack_table import StackTable
from slabmon.model import OTHER_STACKS, STACKLESS
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import OBJECTS, Native

SMALL = Settings(
    sample_bytes=4096, site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=300
)
EXACT = replace(SMALL, exact=Filter(min_size=1))
SITE = CORE + 0x144
UNIT = 1 << 16
Open = Callable[..., Native]


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(settings: Settings, **host: Any) -> Native:
        native = Native(make_plan(facts(**host), settings), tmp_path, monkeypatch)
        native.start()
        native.set("time", 1000)
        native.slab(OBJECTS, 1 << 24, native.cache(b"kmalloc-96", 96))
        return native

    return make


def totals(native: Native) -> np.ndarray:
    count = native.plan.defines["NR_STACK_IDS"] + 1
    records = maps.map_array(native.fd("stack_totals"), STACK_TOTAL, count)
    return records


def test_all_that_is_tracked_counts_for_its_stack_be_it_freed(open_native: Open) -> None:
    native = open_native(EXACT)
    assert native.plan.defines["NR_STACK_IDS"] == 512, "the kernel's own rounding"
    for i in range(101):
        native.set("stack", 511 if i % 3 else 0)
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
        native.kfree(OBJECTS + 96 * i)
    native.set("stack", -17 & 0xFFFFFFFF)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    sums = totals(native)
    assert {i: int(sums["bytes"][i]) for i in np.flatnonzero(sums["bytes"])} == {
        0: 34 * 96,
        511: 67 * 96,
        512: 96,
    }
    assert not sums["variance"].any()


def test_what_finds_no_place_counts_all_the_same(open_native: Open) -> None:
    native = open_native(EXACT, recursion_guard=False)
    for i in range(4096 + 103):
        native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    assert native.reader.losses()["samples_full"] == 103
    assert int(totals(native)["bytes"][5]) == (4096 + 103) * 96


def test_what_the_filter_leaves_out_does_not_count(open_native: Open) -> None:
    native = open_native(replace(SMALL, exact=Filter(min_size=71)))
    native.kmalloc(SITE, OBJECTS, 70, 96)
    native.kmalloc(SITE, OBJECTS + 96, 71, 96)
    native.kmalloc(SITE, OBJECTS - (1 << 30), 8, 3 << 12)
    assert totals(native)["bytes"].sum() == 96


def test_a_sample_represents_its_bytes_by_its_probability(open_native: Open) -> None:
    native = open_native(SMALL)
    sizes = [8, 96, 192, 1024, 4096, 8192, 1 << 16, (1 << 16) + 64, 1 << 20, (1 << 32) - 1]
    for interval in (64, 1000, 4096, 65_536, 1 << 30):
        native.reader.control["sample_interval"] = interval
        for size in sizes:
            p = probability(np.array([float(size)]), np.array([interval]))[0]
            assert native.sample_weight(size, interval) == pytest.approx(size / p, rel=1e-4, abs=1)
    assert native.sample_weight(4096, 0) == 4096


def test_the_estimate_is_unbiased_and_knows_its_error(open_native: Open) -> None:
    native = open_native(SMALL)
    rng, true, apart = np.random.default_rng(5), np.zeros(2), []
    sizes = (96, 2048)
    for _ in range(60):
        before = totals(native).copy()
        for _ in range(400):
            which = int(rng.integers(2))
            native.set("stack", which)
            native.kmalloc(SITE + which, OBJECTS, sizes[which], sizes[which])
            native.kfree(OBJECTS)
            true[which] += sizes[which]
        apart.append((totals(native)["bytes"] - before["bytes"])[:2])
    sums = totals(native)[:2]
    error = np.sqrt(sums["variance"].astype(float) * UNIT)
    assert (np.abs(sums["bytes"] - true) < 4 * error).all()
    assert np.std(apart, axis=0) * math.sqrt(60) == pytest.approx(error, rel=0.35)


def test_a_snapshot_tells_the_largest_and_all_others_together(
    open_native: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slabmon.kernel.tables.stack_table.KEPT", 3)
    native = open_native(EXACT)
    for number in range(7):
        native.set("stack", number)
        for i in range(number + 1):
            native.kmalloc(SITE, OBJECTS + 96 * i, 70, 96)
    native.set("stack", -12 & 0xFFFFFFFF)
    native.kmalloc(SITE, OBJECTS, 70, 96)
    read = StackTable(native.programs, native.plan, native.reader.clear_stacks).read()
    assert dict(zip(read.stack.tolist(), (read.bytes // 96).tolist(), strict=True)) == {
        OTHER_STACKS: 1 + 2 + 3 + 4,
        STACKLESS: 1,
        4: 5,
        5: 6,
        6: 7,
    }
    assert not read.stderr.any()


def test_clear_stackss_nothing_is_read(open_native: Open) -> None:
    native = open_native(replace(EXACT, stack_frames=0))
    table = StackTable(native.programs, native.plan, native.reader.clear_stacks)
    samples = native.reader.samples()
    assert not len(table.evict(samples, 5))
    assert not len(table.read().stack)
