# SPDX-License-Identifier: Apache-2.0
"""The past of a window as bytes, with which a window of another process begins.

They may come from anywhere, so every decoded value is checked.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from slabmon.base.errors import UsageError
from slabmon.views.compressed_rows import CompressedRows
from slabmon.views.trail import WIDTH, Trail

CONTENT_TYPE = "application/vnd.slabmon.window"
MAX_BYTES = 64 << 20
_LARGEST = float(1 << 62)
_NUMBERS, _FIGURES = "<i4", "<f8"
_ROW_BYTES = 4 + 8 * WIDTH


class BadWindow(UsageError):
    """Bytes that are not a window's past, or are of another version of slabmon."""


@dataclass(frozen=True)
class WindowPast:
    """See Window. `continuity`: the analysis.delta.continuity() of its snapshots."""

    continuity: tuple[str, float, str, int]
    moments: tuple[float, ...]
    trails: dict[str, Trail]


@dataclass(frozen=True)
class _Trail:
    """Keys by row number. A point is row numbers, figures and standard errors."""

    keys: list[Any]
    points: list[bytes]


@dataclass(frozen=True)
class _Document:
    continuity: tuple[str, float, str, int]
    moments: list[float]
    trails: dict[str, _Trail]


def encode(past: WindowPast, most: int) -> bytes:
    """Return the past as bytes, with `most` of its moments at about equal steps."""
    steps = np.linspace(0, len(past.moments) - 1, min(most, len(past.moments)))
    chosen = [round(step) for step in steps.tolist()]
    trails = {
        name: _Trail(list(trail.ids), [_point(trail.points[i]) for i in chosen])
        for name, trail in past.trails.items()
    }
    moments = [past.moments[i] for i in chosen]
    return msgspec.msgpack.encode(_Document(past.continuity, moments, trails))


def _point(rows: CompressedRows) -> bytes:
    numbers, columns = rows.unpacked()
    return numbers.astype(_NUMBERS).tobytes() + columns.astype(_FIGURES).tobytes()


def decode(data: bytes) -> WindowPast:
    """Return what encode() was given. Raises BadWindow if it is anything else."""
    try:
        document = msgspec.msgpack.decode(data, type=_Document)
        moments = tuple(document.moments)
        if not all(earlier < later for earlier, later in pairwise((-_LARGEST, *moments, _LARGEST))):
            raise ValueError("its moments are in disorder")
        trails = {name: _decoded(trail, len(moments)) for name, trail in document.trails.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise BadWindow(f"not the past of a window: {error}") from error
    return WindowPast(document.continuity, moments, trails)


def _decoded(trail: _Trail, moments: int) -> Trail:
    ids = {_frozen(key): number for number, key in enumerate(trail.keys)}
    if len(ids) != len(trail.keys) or len(trail.points) != moments:
        raise ValueError("its rows and points are inconsistent")
    return Trail(ids, tuple(_rows(point, len(ids)) for point in trail.points))


def _rows(point: bytes, most: int) -> CompressedRows:
    count = len(point) // _ROW_BYTES
    numbers = np.frombuffer(point, _NUMBERS, count)
    columns = np.frombuffer(point, _FIGURES, offset=4 * count).reshape(WIDTH, count)
    if not (np.diff(numbers, prepend=-1, append=most) > 0).all():
        raise ValueError("its rows are in disorder")
    if not (np.abs(columns) < _LARGEST).all():
        raise ValueError("its figures are out of bounds")
    return CompressedRows.of(numbers, columns, "f8")


def _frozen(key: Any) -> Hashable:
    """Return a row's key: tuples travel as lists. Raises TypeError for what no key can be."""
    if isinstance(key, list):
        return tuple(map(_frozen, key))
    if not isinstance(key, str | int | None):
        raise TypeError("a key must be text, a number, or a list of them")
    return key
