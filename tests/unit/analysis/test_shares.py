# SPDX-License-Identifier: Apache-2.0
"""The part that most of a row's weight has."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.analysis.shares import main_parts, with_shares

OBJECTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 9)), max_size=40)


@given(OBJECTS)
def test_it_is_the_heaviest_and_of_equal_ones_the_last(
    objects: list[tuple[int, int, int]],
) -> None:
    weights: dict[int, Counter[int]] = defaultdict(Counter)
    for row, part, weight in objects:
        weights[row][part] += weight
    wanted = [
        max(((size, part) for part, size in weights[row].items()), default=(0, -1))
        for row in range(6)
    ]
    columns = np.array(objects, np.int64).reshape(-1, 3).T
    main, size = main_parts(columns[0], columns[1], columns[2].astype(float), 6)
    assert list(zip(size.tolist(), main.tolist(), strict=True)) == wanted


def test_a_share_is_shown_unless_it_is_all() -> None:
    main, size = np.array([1, 0, 1, -1, 0]), np.array([2.0, 996.0, 1.0, 0.0, 3.0])
    total = np.array([3.0, 1000.0, 1000.0, 0.0, 3.0])
    assert with_shares(["a", "b"], main, size, total) == ["b 67%", "a", "b 0%", None, "a"]
