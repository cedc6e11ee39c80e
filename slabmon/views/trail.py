# SPDX-License-Identifier: Apache-2.0
"""Past values of a view's figure, row by row, at the points of a window."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import F64, I64, Values
from slabmon.views.compressed_rows import CompressedRows, columns_at

WIDTH = 2  # columns of a point: the figure and its standard error
_FIGURE, _ERROR = range(WIDTH)
_MAX_STALE_KEYS = 512  # keys of vanished rows that a trail may hold before it drops them


@dataclass(frozen=True)
class Trail:
    """Past values of a view's figure.

    `ids` numbers the rows by their key. Each point holds the figure and its standard error by row
    number; rows where both are 0 are left out.
    """

    ids: dict[Hashable, int] = field(default_factory=dict)
    points: tuple[CompressedRows, ...] = ()

    def extended(
        self, keys: Sequence[Hashable], figure: Values, error: Values | float, keep: int
    ) -> Trail:
        """Return a trail of the last `keep` points and another one of these rows."""
        points = self.points[len(self.points) - keep :]
        ids = self.ids
        if len(ids) > 2 * len(keys) + _MAX_STALE_KEYS:
            ids, points = _without_stale_keys(ids, points)
        for key in keys:
            ids.setdefault(key, len(ids))
        numbers = np.array([ids[key] for key in keys], np.int64)
        columns = np.zeros((WIDTH, len(numbers)))
        columns[_FIGURE], columns[_ERROR] = figure, error
        mask = columns.any(axis=0)
        last = points[-1] if points else None
        rows = CompressedRows.of(numbers[mask], columns[:, mask], "f8", last)
        return Trail(ids, (*points, rows))

    def values(self, keys: Sequence[Hashable], points: Sequence[int] | None = None) -> list[F64]:
        """Return the figure of these rows at each of these points (None: all), 0 where there was no
        such row."""
        numbers = self._numbers(keys)
        chosen = self.points if points is None else [self.points[point] for point in points]
        return columns_at(chosen, _FIGURE, numbers, 0.0)

    def at(self, point: int, keys: Sequence[Hashable]) -> F64:
        """Return the figure of these rows at one point, 0 where there was no such row."""
        return self.values(keys, [point])[0]

    def first(self, keys: Sequence[Hashable]) -> tuple[F64, F64]:
        """Return figure and standard error of these rows at the first point."""
        numbers, points = self._numbers(keys), self.points[:1]
        ((figure,), (error,)) = (columns_at(points, i, numbers, 0.0) for i in (_FIGURE, _ERROR))
        return figure, error

    def _numbers(self, keys: Sequence[Hashable]) -> I64:
        return np.array([self.ids.get(key, -1) for key in keys], np.int64)


def _without_stale_keys(
    ids: dict[Hashable, int], points: tuple[CompressedRows, ...]
) -> tuple[dict[Hashable, int], tuple[CompressedRows, ...]]:
    """Drop the keys that no point refers to, and renumber the others."""
    unpacked = [point.unpacked() for point in points]
    used = {number for numbers, _ in unpacked for number in numbers.tolist()}
    live = [(key, number) for key, number in ids.items() if number in used]
    renumbered = np.zeros(len(ids), np.int64)
    renumbered[[number for _, number in live]] = np.arange(len(live))
    return (
        {key: number for number, (key, _) in enumerate(live)},
        tuple(
            CompressedRows.of(renumbered[numbers], columns, "f8") for numbers, columns in unpacked
        ),
    )
