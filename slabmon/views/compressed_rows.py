# SPDX-License-Identifier: Apache-2.0
"""Compressed per-row figures over time: hundreds of points are kept, few are read, and most rows
hardly change."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slabmon.base.arrays import F64, I32, Bool
from slabmon.base.zstd import pack_own, unpack_own

Format = Literal["f4", "f8"]
Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
# With the next point as dictionary, searching harder for matches pays off: little else is left.
_DELTA_LEVEL = 6


@dataclass(frozen=True, slots=True)
class CompressedRows:
    """Figures of numbered rows at one point in time: `count` rows of floats of `format`.

    Row numbers and columns are compressed one by one, because most readers need one column. Of a
    column the first bytes of all figures come first, then the second ones, and so on: that takes
    half the time and less room.
    """

    numbers: bytes
    columns: tuple[bytes, ...]
    count: int
    format: Format

    @classmethod
    def of(
        cls,
        numbers: Integers,
        columns: Floats,
        format: Format,
        like: CompressedRows | None = None,
    ) -> CompressedRows:
        """Compress `columns`, shape (columns, rows), of the rows with these distinct numbers. If
        `like` has the same rows, both share one copy of their numbers."""
        order = np.argsort(numbers)
        packed = pack_own(numbers[order].astype(np.int32).tobytes())
        if like is not None and like.numbers == packed:
            packed = like.numbers
        planes = (_planes(column[order].astype(format)) for column in columns)
        return cls(packed, tuple(map(pack_own, planes)), len(numbers), format)

    def unpacked(self) -> tuple[I32, Floats]:
        """Return row numbers, ascending, and columns, shape (columns, rows)."""
        columns = [self.column(number) for number in range(len(self.columns))]
        return self.row_numbers(), np.array(columns).reshape(len(columns), self.count)

    def row_numbers(self) -> I32:
        """Return row numbers, ascending."""
        return np.frombuffer(unpack_own(self.numbers), np.int32)

    def column(self, number: int, positions: Integers | None = None) -> Floats:
        """Return a column, of the rows at these positions (None: all)."""
        planes = np.frombuffer(unpack_own(self.columns[number]), np.uint8)
        planes = planes.reshape(np.dtype(self.format).itemsize, self.count)
        chosen = planes if positions is None else planes[:, positions]
        column: Floats = np.ascontiguousarray(chosen.T).view(self.format)[:, 0]
        return column


def columns_at(
    points: Sequence[CompressedRows], column: int, numbers: Integers, missing: float
) -> list[F64]:
    """Return one column of the rows with these numbers at each point, `missing` for rows that are
    not there."""
    result: list[F64] = []
    last: CompressedRows | None = None
    for point in points:
        if last is None or point.numbers is not last.numbers:
            positions, mask = _places(point.row_numbers(), numbers)
            positions, last = positions[mask], point
        values = np.full(len(numbers), missing)
        values[mask] = point.column(column, positions)
        result.append(values)
    return result


def _planes(values: Floats) -> bytes:
    octets = values.view(np.uint8).reshape(len(values), values.itemsize)
    return octets.T.tobytes()


class CompressedTimeline:
    """A queue of such arrays, one per point in time.

    Each is compressed with the next as its dictionary: the oldest can be dropped, and rows that do
    not change take next to nothing.
    """

    def __init__(self, format: Format) -> None:
        self._format: Format = format
        self._newest = b""
        self._older: deque[bytes] = deque()
        self._counts: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._counts)

    def append(self, numbers: Integers, columns: Floats) -> None:
        """Add a newer point; parameters as of CompressedRows.of()."""
        data = _pack(numbers, columns, self._format)
        if self._counts:
            delta = zlib.compressobj(_DELTA_LEVEL, zdict=data)
            self._older.append(delta.compress(self._newest) + delta.flush())
        self._newest = data
        self._counts.append(len(numbers))

    def drop_oldest(self) -> None:
        """Remove the oldest point. Raises IndexError if there is none."""
        self._counts.popleft()
        if self._older:
            self._older.popleft()

    def backwards(self) -> Iterator[tuple[I32, Floats]]:
        """Yield row numbers, ascending, and columns of each point, the newest first."""
        data = self._newest
        for age, count in enumerate(reversed(self._counts)):
            if age:
                delta = zlib.decompressobj(zdict=data)
                data = delta.decompress(self._older[-age]) + delta.flush()
            yield _unpack(data, count, self._format)


def lookup(
    present: Integers, columns: Floats, numbers: Integers, width: int, missing: float
) -> F64:
    """Return columns by row number, shape (width, len(numbers)).

    `columns` belong to the rows `present`, in ascending order; others get `missing`.
    """
    values = np.full((width, len(numbers)), missing)
    positions, mask = _places(present, numbers)
    values[:, mask] = columns[:, positions[mask]]
    return values


def _places(present: Integers, numbers: Integers) -> tuple[Integers, Bool]:
    """Return where these numbers are in `present`, which is in ascending order, and which of them
    are there."""
    if not len(present):
        return np.zeros(len(numbers), np.int64), np.zeros(len(numbers), bool)
    positions = np.minimum(np.searchsorted(present, numbers), len(present) - 1)
    return positions, present[positions] == numbers


def _pack(numbers: Integers, columns: Floats, format: Format) -> bytes:
    order = np.argsort(numbers)
    data: bytes = numbers[order].astype("i4").tobytes() + columns[:, order].astype(format).tobytes()
    return data


def _unpack(data: bytes, count: int, format: Format) -> tuple[I32, Floats]:
    columns = np.frombuffer(data, format, offset=4 * count)
    shape = (len(columns) // count, count) if count else (0, 0)
    return np.frombuffer(data, np.int32, count), columns.reshape(shape)
