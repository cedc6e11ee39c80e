# SPDX-License-Identifier: Apache-2.0
"""Figures of rows at moments, compressed one beside the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.views.compressed_rows import CompressedRows, CompressedTimeline, columns_at

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
    assert sum(map(len, CompressedRows.of(rows, columns, "f4").columns)) > 4000


@given(st.lists(ROWS, max_size=4), st.lists(st.integers(0, 310), max_size=20))
def test_one_column_is_found_by_the_numbers_of_its_rows(
    moments: list[dict[int, float]], wanted: list[int]
) -> None:
    points: list[CompressedRows] = []
    for rows in moments:
        numbers, columns = arrays(rows)
        columns[1] *= -1
        last = points[-1] if points else None
        points.append(CompressedRows.of(numbers, columns, "f8", last))
    found = columns_at(points, 1, np.array(wanted, np.int64), 0.5)
    assert [values.tolist() for values in found] == [
        [-rows[number] if number in rows else 0.5 for number in wanted] for rows in moments
    ]
    for point, rows in zip(points, moments, strict=True):
        numbers, columns = point.unpacked()
        assert numbers.tolist() == sorted(rows)
        assert columns[0].tolist() == [rows[number] for number in sorted(rows)]


def test_rows_that_stay_the_same_are_numbered_once() -> None:
    first = CompressedRows.of(np.array([3, 1]), np.zeros((2, 2)), "f8")
    same = CompressedRows.of(np.array([1, 3]), np.ones((2, 2)), "f8", first)
    other = CompressedRows.of(np.array([1, 2]), np.ones((2, 2)), "f8", same)
    assert same.numbers is first.numbers
    assert other.row_numbers().tolist() == [1, 2]
