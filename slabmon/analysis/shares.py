# SPDX-License-Identifier: Apache-2.0
"""What most of each row's live memory has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slabmon.base.arrays import F64, I64

MAIN = 0.995  # a share that is shown as 100 %


def main_parts(rows: I64, parts: NDArray[Any], weight: F64, count: int) -> tuple[I64, F64]:
    """Return the part that most weight of each row 0 .. count-1 has, -1 for rows without any, and
    that weight; of equal parts the highest number. `rows`, `parts`, `weight` are (objects,), and
    neither rows nor parts are negative.

    np.unique() and np.bincount() of the pairs, which sort stably, take twice the time.
    """
    main, most = np.full(count, -1), np.zeros(count)
    if not len(rows):
        return main, most
    width = int(parts.max()) + 1
    pairs = rows.astype(np.int64) * width + parts
    order = np.argsort(pairs)
    pairs = pairs[order]
    starts = _starts(pairs)
    size = np.add.reduceat(weight[order], starts)
    row, part = np.divmod(pairs[starts], width)
    first = _starts(row)
    most[row[first]] = np.maximum.reduceat(size, first)
    largest = np.flatnonzero(size == most[row])
    main[row[largest]] = part[largest]  # the last of a row remains
    return main, most


def with_shares(
    labels: Sequence[str] | Mapping[int, str], main: I64, size: F64, total: F64
) -> list[str | None]:
    """Return the label of each row's main part, None where it has none (-1), with its share of the
    row's total if it is not all. What is formatted is a whole number: a float takes twice the time,
    and there are ten thousand rows."""
    shares = np.divide(size, total, out=np.zeros(len(size)), where=total > 0)
    percents = np.rint(shares * 100).astype(np.int64)
    percents[shares >= MAIN] = -1
    return [
        None if part < 0 else f"{labels[part]} {percent}%" if percent >= 0 else labels[part]
        for part, percent in zip(main.tolist(), percents.tolist(), strict=True)
    ]


def _starts(values: I64) -> I64:
    """Return where runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
