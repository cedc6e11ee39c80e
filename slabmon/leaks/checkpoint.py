# SPDX-License-Identifier: Apache-2.0
"""What an Observer has watched, as bytes from which another process goes on.

A head (MAGIC, then the format's number, little-endian in four bytes) and one MessagePack document
in the shape of ObserverState; arrays are their bytes. Formats only grow: a later one has more
fields, each with a default, which documents without it take. Everything is checked when it is read:
a process that was taken over may have written it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Iterable
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import msgspec
import numpy as np

from slabmon.base.arrays import F64, I32
from slabmon.leaks.exhaustion import ExhaustionState
from slabmon.leaks.observer import Observer, ObserverState
from slabmon.leaks.series import MAX_SERIES, POINTS, SCALES, SPARSE, Point, Scale
from slabmon.leaks.survivors import KINDS

MAGIC = b"slabwtch"
# Counted up whenever the state gets a field; tests/unit/leaks/test_checkpoint.py says how.
FORMAT = 3
HEAD = MAGIC + FORMAT.to_bytes(4, "little")
_MAX_POINT_BYTES = 4 * 8 * MAX_SERIES
_KINDS_OF_FORMAT_1 = 3
_MAX_SCALARS = 8  # in the key of a series
_MAX_FIGURE = 1e30


class BadCheckpoint(ValueError):
    """Bytes that are not what this version of slabmon can go on from."""


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    return msgspec.msgpack.Encoder(enc_hook=_written)


@cache
def _decoder() -> msgspec.msgpack.Decoder[ObserverState]:
    return msgspec.msgpack.Decoder(ObserverState, dec_hook=_read)


def _written(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(type(value))


def _read(kind: Any, data: object) -> object:
    """Return a column as an array that can be changed, or the key of a series."""
    if kind is not Hashable:
        if not isinstance(data, bytes):
            raise ValueError("a column must be bytes")
        (dtype,) = get_args(get_args(kind)[1])
        return np.frombuffer(data, dtype).copy()
    scalars = data if isinstance(data, list | tuple) else (data,)
    if not 0 < len(scalars) <= _MAX_SCALARS or not all(
        isinstance(each, str | int | None) for each in scalars
    ):
        raise ValueError("a series has no key")
    return tuple(scalars) if isinstance(data, list) else data


def pack(observer: Observer) -> bytes:
    """Return what has been watched as bytes."""
    return HEAD + _encoder().encode(observer.state())


def restore(observer: Observer, data: bytes) -> None:
    """Have an observer go on from what pack(), of this version or an earlier one, returned. Raises
    BadCheckpoint if it cannot be; the observer stays as it is then."""
    number = int.from_bytes(data[len(MAGIC) : len(HEAD)], "little")
    if not data.startswith(MAGIC) or number == 0:
        raise BadCheckpoint("it is something else")
    if number > FORMAT:
        raise BadCheckpoint(f"a newer slabmon wrote it (format {number}, here {FORMAT})")
    try:
        state = _decoder().decode(memoryview(data)[len(HEAD) :])
        for scale in state.scales:
            scale.aged.rows = _shaped(scale.aged.rows, KINDS if number > 1 else _KINDS_OF_FORMAT_1)
        _check(state)
    except (ValueError, RecursionError, MemoryError, zlib.error) as error:
        raise BadCheckpoint(f"it is damaged: {error}") from error
    observer.restore(state)


def _shaped(rows: I32, kinds: int) -> I32:
    """Return the series of old objects in their shape, which is not in the document. Kinds that an
    earlier format did not have begin without objects."""
    known = rows.reshape(kinds, -1)
    return np.pad(known, ((0, KINDS - kinds), (0, 0)), constant_values=-1)


def _check(state: ObserverState) -> None:
    """Raise ValueError if parts of a state contradict each other."""
    series = len(state.subjects)
    _require(series <= MAX_SERIES and len(set(state.subjects)) == series, "its series")
    _require([(scale.step, scale.aged.age) for scale in state.scales] == [*SCALES], "its scales")
    end = state.last.tracking.seconds if state.last else math.inf
    for scale in state.scales:
        _check_scale(scale, series, end)
    _check_exhaustion(state.exhaustion)


def _check_scale(scale: Scale, series: int, end: float) -> None:
    flow, aged = scale.flow, scale.aged
    _require(len(scale.points) == len(scale.moments) <= POINTS, "its points")
    _require(_ascends(scale.moments), "its moments")
    times = [*scale.old_moments, *scale.moments]
    _require(all(moment <= end for moment in times), "its moments")
    _require(len(flow.come) == len(flow.gone) == len(flow.variance) <= series, "a flow")
    _require(len(aged.represented) == len(aged.born) == aged.rows.shape[1], "its objects")
    _require(bool((aged.born[1:] >= aged.born[:-1]).all()), "its objects")
    _require(bool(((aged.rows >= -1) & (aged.rows < len(flow.come))).all()), "its objects")
    for column in (flow.come, flow.gone, flow.variance, aged.represented):
        _require(_is_moderate(column), "a flow")
    _require(len(scale.old_points) == len(scale.old_moments) <= POINTS, "its earlier points")
    _require(_ascends([*scale.old_moments, *scale.moments[:1]]), "its earlier moments")
    _require(0 <= scale.passed < SPARSE, "its earlier points")
    for point in (*scale.points, *scale.old_points):
        _check_point(point, series)


def _check_point(point: Point, series: int) -> None:
    unpacker = zlib.decompressobj()
    size = len(unpacker.decompress(point.packed, _MAX_POINT_BYTES + 1))
    _require(unpacker.eof and size % (4 * 8) == 0 and size <= 4 * 8 * series, "a point")
    *columns, allocated = point.unpacked()
    _require(all(map(_is_moderate, columns)), "a point")
    _require(_is_moderate(allocated[~np.isnan(allocated)]), "a point")


def _check_exhaustion(state: ExhaustionState) -> None:
    amounts = set(state.names)
    _require(len(amounts) == len(state.names), "its amounts")
    _require(bool(state.moments) or not amounts, "its amounts")
    _require(len(state.moments) == len(state.levels) and _ascends(state.moments), "its readings")
    _require(all(_is_known(levels, len(amounts)) for levels in state.levels), "its levels")
    _require(state.confirmed.keys() <= state.standing.keys() & amounts, "its early findings")
    _require(state.falls.keys() >= amounts, "its falls")


def _is_known(levels: F64, amounts: int) -> bool:
    return len(levels) <= amounts and _is_moderate(levels)


def _is_moderate(column: F64) -> bool:
    """Whether all are numbers of bytes, or squares of such, with which one can calculate."""
    return bool((np.abs(column) < _MAX_FIGURE).all())


def _ascends(moments: Iterable[float]) -> bool:
    return all(one < other for one, other in pairwise(moments))


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} cannot be")
