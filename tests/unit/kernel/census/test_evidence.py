# SPDX-License-Identifier: Apache-2.0
"""Grouping of keys: as numpy does it, only faster."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.base.arrays import Values
from slabmon.kernel.census.evidence import groups, in_order, numbered

KEYS = [
    np.zeros(0, np.int64),
    np.array([5], np.int64),
    np.array([3, 1, 3, 0, 1, 1], np.int64),
    np.array([3, -1, 3, -7], np.int64),
    np.array([1 << 62, 1, 1 << 62, 0], np.int64),
    np.array([(1 << 64) - 1, 0, (1 << 63), (1 << 64) - 1], np.uint64),
    np.array([7, 2, 7], np.int32),
    np.random.default_rng(0).integers(0, 97, 4001),
]


@pytest.mark.parametrize("keys", KEYS, ids=range(len(KEYS)))
def test_order_is_that_of_a_stable_sort(keys: Values) -> None:
    assert in_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("keys", KEYS, ids=range(len(KEYS)))
def test_distinct_values_are_numbered_and_counted(keys: Values) -> None:
    values, number, counts = numbered(keys)
    assert values.dtype == keys.dtype
    expected = np.unique(keys, return_inverse=True, return_counts=True)
    for got, wanted in zip((values, number, counts), expected, strict=True):
        assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("keys", KEYS, ids=range(len(KEYS)))
def test_groups_are_all_rows_of_a_key(keys: Values) -> None:
    found = groups(keys.astype(np.int64))
    expected = np.unique(keys.astype(np.int64)).tolist()
    assert [key for key, _ in found] == expected
    for key, rows in found:
        assert rows.tolist() == np.flatnonzero(keys.astype(np.int64) == key).tolist()
