# SPDX-License-Identifier: Apache-2.0
"""Slots of all lanes summed by key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.tables.lanes import Allocations, sum_allocations, sum_frees
from tests.support.records import alloc_slots, free_slots

KEYS = ("site", "gfp_size_key", "cache", "variant_key")
LIFETIMES = CONSTANTS["LIFETIMES"]
Row = dict[str, Any]
Key = tuple[int, ...]

SLOT = st.fixed_dictionaries(
    {
        "site": st.sampled_from([0, 0xFFFFFFFF81000010, 0xFFFFFFFFC0000010]),
        "gfp_size_key": st.sampled_from([0xCC0 << 32 | 64, 0xCC0 << 32, 0x820 << 32 | 64]),
        "cache": st.sampled_from([0, 1, 0xFFFF888000000000]),
        "variant_key": st.sampled_from([0, 1, 1 << 32]),
        "count": st.integers(0, 2**50),
        "requested_bytes": st.integers(0, 2**55),
        "failed": st.integers(0, 2**32 - 1),
    }
)
SLOTS = st.lists(SLOT, max_size=40)


def table(found: Allocations) -> dict[Key, tuple[int, int, int]]:
    columns = [getattr(found, key).tolist() for key in KEYS]
    sums = zip(found.count.tolist(), found.requested.tolist(), found.failed.tolist(), strict=True)
    return dict(zip(zip(*columns, strict=True), sums, strict=True))


def expected(rows: list[Row]) -> dict[Key, tuple[int, int, int]]:
    """The same in plain Python. A site of 0 is a free slot."""
    sums: dict[Key, list[int]] = {}
    for row in rows:
        if row["site"]:
            total = sums.setdefault(tuple(row[key] for key in KEYS), [0, 0, 0])
            for i, name in enumerate(("count", "requested_bytes", "failed")):
                total[i] += row[name]
    return {key: (a, b, c) for key, (a, b, c) in sums.items()}


@given(SLOTS)
def test_equal_keys_are_merged_and_nothing_is_lost(rows: list[Row]) -> None:
    found = sum_allocations(alloc_slots(*rows))
    assert table(found) == expected(rows)
    assert len(found.site) == len(expected(rows)), "no key occurs twice"


@given(SLOTS, st.randoms(use_true_random=False))
def test_the_order_of_lanes_and_slots_does_not_matter(rows: list[Row], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = sum_allocations(alloc_slots(*rows)), sum_allocations(alloc_slots(*shuffled))
    assert table(one) == table(other)
    assert one.site.tolist() == other.site.tolist(), "rows come in order of their keys"


def test_lanes_may_come_as_a_table() -> None:
    row = {"site": 5, "gfp_size_key": 64, "count": 2}
    slots = alloc_slots(row, row, row, {}, {}, row).reshape(2, 3)
    assert sum_allocations(slots).count.tolist() == [8]


def test_counters_beyond_32_bits_are_exact() -> None:
    row = {"site": 1, "count": 2**62, "requested_bytes": 2**63 - 1}
    found = sum_allocations(alloc_slots(row, row))
    assert found.count.tolist() == [2**63]
    assert found.requested.tolist() == [2**64 - 2]


def test_no_slots_give_no_rows() -> None:
    for slots in (alloc_slots(), alloc_slots({}, {})):
        found = sum_allocations(slots)
        assert all(len(getattr(found, name)) == 0 for name in (*KEYS, "count", "failed"))


FREE = st.fixed_dictionaries(
    {
        "cache": st.sampled_from([0, 1, 0xFFFF888000000000, 0xFFFF888000000001]),
        "count": st.integers(0, 2**55),
        "lifetimes": st.lists(st.integers(0, 2**32 - 1), min_size=LIFETIMES, max_size=LIFETIMES),
    }
)


@given(st.lists(FREE, max_size=30))
def test_frees_of_a_cache_are_merged_and_nothing_is_lost(rows: list[Row]) -> None:
    counts: Counter[int] = Counter()
    lifetimes: dict[int, np.ndarray] = {}
    for row in rows:
        if row["cache"]:
            counts[row["cache"]] += row["count"]
            before = lifetimes.get(row["cache"], np.zeros(LIFETIMES, "u8"))
            lifetimes[row["cache"]] = before + np.array(row["lifetimes"], "u8")
    found = sum_frees(free_slots(*rows))
    assert dict(zip(found.cache.tolist(), found.count.tolist(), strict=True)) == dict(counts)
    assert found.lifetimes.shape == (len(counts), LIFETIMES)
    for cache, row_of in zip(found.cache.tolist(), found.lifetimes, strict=True):
        assert row_of.tolist() == lifetimes[cache].tolist()


def test_no_frees_give_no_rows() -> None:
    found = sum_frees(free_slots())
    assert len(found.cache) == len(found.count) == len(found.lifetimes) == 0
