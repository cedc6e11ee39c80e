# SPDX-License-Identifier: Apache-2.0
"""Figures of rows at moments, compressed one beside the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.views.compressed_rows import CompressedRows, CompressedTimeline

ROWS = st.dictionaries(st.integers(0, 300), st.floats(width=32, allow_nan=False), max_size=40)
# One moment of rows, or None: the oldest is dropped.
STEPS = st.lists(ROWS | st.none(), max_size=20)


def arrays(rows: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array(list(rows), np.int32),
        np.array([list(rows.values())] * 3, float).reshape(3, -1),
    )


@given(STEPS)
def test_moments_are_what_they_were_however_many_were_dropped(
    steps: list[dict[int, float] | None],
) -> None:
    moments, wanted = CompressedTimeline("f4"), []
    for rows in steps:
        if rows is not None:
            moments.append(*arrays(rows))
            wanted.append(rows)
        elif wanted:
            moments.drop_oldest()
            del wanted[0]
        assert len(moments) == len(wanted)
    found = [
        dict(zip(numbers.tolist(), columns[0].tolist() if len(columns) else [], strict=True))
        for numbers, columns in moments.backwards()
    ]
    assert found == wanted[::-1]
    for numbers, _ in moments.backwards():
        assert (np.diff(numbers) > 0).all()


def test_what_stays_the_same_takes_next_to_nothing() -> None:
    random = np.random.default_rng(1)
    rows, columns = np.arange(300), random.random((4, 300))
    moments = CompressedTimeline("f4")
    for _ in range(361):
        moments.append(rows, columns)
    assert sum(map(len, moments._older)) < 361 * 100
    assert len(CompressedRows.of(rows, columns, "f4").data) > 4000
