"""Figures of some rows at one moment, compressed: of hundreds of moments few are looked at, and
most rows show nothing or what others show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.store.compression import pack_own, unpack_own


@dataclass(frozen=True, slots=True)
class Packed:
    """An array (columns, rows) of numbers of type `kind` ("f4", "f8"), and the rows' numbers."""

    data: bytes
    count: int
    kind: str

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, kind: str) -> Packed:
        """`columns[:, i]` belongs to the row numbered `rows[i]`; each number comes once."""
        order = np.argsort(rows)
        data = rows[order].astype("i4").tobytes() + columns[:, order].astype(kind).tobytes()
        return cls(pack_own(data), len(rows), kind)

    def unpacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers, ascending, and columns."""
        data = unpack_own(self.data)
        columns = np.frombuffer(data, self.kind, offset=4 * self.count)
        shape = (len(columns) // self.count, self.count) if self.count else (0, 0)
        return np.frombuffer(data, "i4", self.count), columns.reshape(shape)

    def at(self, numbers: np.ndarray, width: int, missing: float) -> np.ndarray:
        """An array (width, numbers): `missing` for rows it does not have."""
        found = np.full((width, len(numbers)), missing)
        rows, columns = self.unpacked()
        if len(rows):
            place = np.minimum(np.searchsorted(rows, numbers), len(rows) - 1)
            there = rows[place] == numbers
            found[:, there] = columns[:, place[there]]
        return found
