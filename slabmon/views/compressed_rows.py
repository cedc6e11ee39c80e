# SPDX-License-Identifier: Apache-2.0
"""Compressed per-row figures over time: hundreds of points are kept, few are read, and most rows
hardly change."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slabmon.base.arrays import F64, I32
from slabmon.base.zstd import pack_own, unpack_own

Format = Literal["f4", "f8"]
Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
# With the next point as dictionary, searching harder for matches pays off: little else is left.
_DELTA_LEVEL = 6


@dataclass(frozen=True, slots=True)
class CompressedRows:
    """Figures of numbered rows at one point in time: `count` rows of floats of `format`."""

    data: bytes
    count: int
    format: Format

    @classmethod
    def of(cls, numbers: Integers, columns: Floats, format: Format) -> CompressedRows:
        """Compress `columns`, shape (columns, rows), of the rows with these distinct numbers."""
        return cls(pack_own(_pack(numbers, columns, format)), len(numbers), format)

    def unpacked(self) -> tuple[I32, Floats]:
        """Return row numbers, ascending, and columns, shape (columns, rows)."""
        return _unpack(unpack_own(self.data), self.count, self.format)

    def at(self, numbers: Integers, width: int, missing: float) -> F64:
        """Return an array of shape (width, len(numbers)), `missing` for rows that are not here."""
        return lookup(*self.unpacked(), numbers, width, missing)


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
    if len(present):
        position = np.minimum(np.searchsorted(present, numbers), len(present) - 1)
        mask = present[position] == numbers
        values[:, mask] = columns[:, position[mask]]
    return values


def _pack(numbers: Integers, columns: Floats, format: Format) -> bytes:
    order = np.argsort(numbers)
    data: bytes = numbers[order].astype("i4").tobytes() + columns[:, order].astype(format).tobytes()
    return data


def _unpack(data: bytes, count: int, format: Format) -> tuple[I32, Floats]:
    columns = np.frombuffer(data, format, offset=4 * count)
    shape = (len(columns) // count, count) if count else (0, 0)
    return np.frombuffer(data, np.int32, count), columns.reshape(shape)
