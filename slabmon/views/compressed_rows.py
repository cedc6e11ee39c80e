# SPDX-License-Identifier: Apache-2.0
"""Figures of some rows at one moment, compressed: of hundreds of moments few are looked at, and
most rows show nothing or what others show."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slabmon.base.zstd import pack_own, unpack_own

# Beside the moment after it: finding what is the same is worth more effort than the little else.
_BESIDE_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Packed:
    """An array (columns, rows) of numbers of type `kind` ("f4", "f8"), and the rows' numbers."""

    data: bytes
    count: int
    kind: str

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, kind: str) -> Packed:
        """`columns[:, i]` belongs to the row numbered `rows[i]`; each number comes once."""
        return cls(pack_own(_flat(rows, columns, kind)), len(rows), kind)

    def unpacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers, ascending, and columns."""
        return _shaped(unpack_own(self.data), self.count, self.kind)

    def at(self, numbers: np.ndarray, width: int, missing: float) -> np.ndarray:
        """An array (width, numbers): `missing` for rows it does not have."""
        return picked(*self.unpacked(), numbers, width, missing)


class Moments:
    """Such arrays of one moment after the other, each compressed beside the one after it: so the
    oldest can be dropped, and rows that are the same again take next to nothing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._newest = b""
        self._older: deque[bytes] = deque()
        self._counts: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._counts)

    def append(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """A newer moment; as Packed.of()."""
        data = _flat(rows, columns, self._kind)
        if self._counts:
            beside = zlib.compressobj(_BESIDE_LEVEL, zdict=data)
            self._older.append(beside.compress(self._newest) + beside.flush())
        self._newest = data
        self._counts.append(len(rows))

    def drop_oldest(self) -> None:
        """There must be one."""
        self._counts.popleft()
        if self._older:
            self._older.popleft()

    def backwards(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row numbers, ascending, and columns of each moment, the newest first."""
        data = self._newest
        for back, count in enumerate(reversed(self._counts)):
            if back:
                beside = zlib.decompressobj(zdict=data)
                data = beside.decompress(self._older[-back]) + beside.flush()
            yield _shaped(data, count, self._kind)


def picked(
    rows: np.ndarray, columns: np.ndarray, numbers: np.ndarray, width: int, missing: float
) -> np.ndarray:
    """An array (width, numbers) of columns by row number: `missing` where there is no such row."""
    found = np.full((width, len(numbers)), missing)
    if len(rows):
        place = np.minimum(np.searchsorted(rows, numbers), len(rows) - 1)
        there = rows[place] == numbers
        found[:, there] = columns[:, place[there]]
    return found


def _flat(rows: np.ndarray, columns: np.ndarray, kind: str) -> bytes:
    order = np.argsort(rows)
    flat: bytes = rows[order].astype("i4").tobytes() + columns[:, order].astype(kind).tobytes()
    return flat


def _shaped(data: bytes, count: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    columns = np.frombuffer(data, kind, offset=4 * count)
    shape = (len(columns) // count, count) if count else (0, 0)
    return np.frombuffer(data, "i4", count), columns.reshape(shape)
