# SPDX-License-Identifier: Apache-2.0
"""Snapshots as bytes: in recordings, between the daemon's processes and over HTTP.

An encoded snapshot is a head (MAGIC, then the format's number, little-endian in four bytes) and one
MessagePack document in the shape of slabmon.model; columns of tracked objects are their
little-endian bytes. Every decoded value is checked against the model's types and bounds, because
the bytes may come from anywhere.

Formats only grow: a later one has more fields, each with a default in the model, which documents
without it take (ADR 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import msgspec
import numpy as np

from slabmon.base.arrays import U8, distinct
from slabmon.base.errors import UsageError
from slabmon.model import CONTEXTS, Snapshot, Stacked, Tracked

CONTENT_TYPE = "application/vnd.slabmon.snapshot"
MAX_BYTES = 256 << 20
MAGIC = b"slabsnap"
# Counted up whenever the model gets a field; tests/unit/store/test_formats.py says how.
FORMAT = 15
HEAD = MAGIC + FORMAT.to_bytes(4, "little")
# Format 1 has the fields of format 2, and a checksum of the model's classes as its number. The
# checksum covers how Python writes a union, which changed with Python 3.14.
_CHECKSUMS_OF_FORMAT_1 = (0x957C9F74, 0x3C503017)
_LARGEST_NUMBER = 0xFFFF  # anything above is a checksum

_CONTEXTS_SINCE, _DEVICES_SINCE = 13, 14

Kinds = Mapping[str, tuple[str, str]]

# The columns of each table: dtype in the document, and in memory.
TRACKED_COLUMNS: Kinds = {
    "cache": ("<u4", "i8"),
    "site": ("<u4", "i8"),
    "bytes": ("<u4", "u4"),
    "requested": ("<u4", "u4"),
    "interval": ("<u4", "u4"),
    "born_ns": ("<u8", "u8"),
    "gfp": ("<u4", "u8"),
    "tgid": ("<u4", "u4"),
    "cgroup": ("<u8", "u8"),
    "comm": ("S16", "S16"),
    "stack": ("<i4", "i4"),
    "context": ("u1", "u1"),
    "device": ("<u4", "u4"),
}
STACKED_COLUMNS: Kinds = {"stack": ("<i4", "i4"), "bytes": ("<i8", "i8"), "stderr": ("<i8", "i8")}
_Columned = TypeVar("_Columned", Tracked, Stacked)


class BadSnapshot(UsageError):
    """Bytes that are not a snapshot which this version of slabmon can read."""


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    return msgspec.msgpack.Encoder(enc_hook=np.ndarray.tobytes)


@cache
def _decoder() -> msgspec.msgpack.Decoder[Snapshot]:
    return msgspec.msgpack.Decoder(Snapshot, dec_hook=_raw_column)


def _raw_column(_: type, data: object) -> U8:
    if not isinstance(data, bytes):
        raise ValueError("a column must be bytes")
    return np.frombuffer(data, np.uint8)


def encode(snapshot: Snapshot) -> bytes:
    """Return a snapshot as bytes."""
    written = replace(
        snapshot,
        tracked=_written(snapshot.tracked, TRACKED_COLUMNS),
        stacked=_written(snapshot.stacked, STACKED_COLUMNS),
    )
    return HEAD + _encoder().encode(written)


def decode(data: bytes) -> Snapshot:
    """Return the snapshot that encode(), of this version or an earlier one, made these bytes from,
    its columns read-only. Raises BadSnapshot if they are damaged, hostile or of a newer format."""
    if len(data) > MAX_BYTES:
        raise BadSnapshot(f"a snapshot of {len(data)} bytes exceeds the limit of {MAX_BYTES}")
    number = _format_of(data)
    try:
        snapshot = _decoder().decode(memoryview(data)[len(HEAD) :])
        return replace(snapshot, tracked=_tracked(snapshot, number), stacked=_stacked(snapshot))
    except (ValueError, RecursionError) as error:
        raise BadSnapshot(f"this snapshot is damaged: {error}") from error


def _format_of(data: bytes) -> int:
    """Return the number of the format. Raises BadSnapshot unless this version reads it."""
    if len(data) < len(HEAD) or not data.startswith(MAGIC):
        raise BadSnapshot("this is not a slabmon snapshot")
    number = int.from_bytes(data[len(MAGIC) : len(HEAD)], "little")
    if FORMAT < number <= _LARGEST_NUMBER:
        raise BadSnapshot(
            f"written by a newer slabmon (format {number}); this version reads formats up to "
            f"{FORMAT}; upgrade slabmon to read it"
        )
    if not (2 <= number <= FORMAT or number in _CHECKSUMS_OF_FORMAT_1):
        raise BadSnapshot(
            "written by a development version of slabmon from before formats had numbers; read it "
            "with that version"
        )
    return 1 if number in _CHECKSUMS_OF_FORMAT_1 else number


def _written(table: _Columned, kinds: Kinds) -> _Columned:
    columns: dict[str, Any] = {
        name: getattr(table, name).astype(written) for name, (written, _) in kinds.items()
    }
    return replace(table, **columns)


def _restored(table: _Columned, kinds: Kinds) -> _Columned:
    """Return a table with columns as in memory. Raises ValueError if they differ in length."""
    columns: dict[str, Any] = {
        name: getattr(table, name).view(written).astype(restored, copy=False)
        for name, (written, restored) in kinds.items()
    }
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns of one table differ in length")
    return replace(table, **columns)


def _tracked(snapshot: Snapshot, number: int) -> Tracked:
    """Return the tracked objects. Raises ValueError if they contradict the rest of the snapshot."""
    raw = snapshot.tracked
    if number < _CONTEXTS_SINCE:
        raw = replace(raw, context=np.zeros(len(raw.bytes) // 4, np.uint8))
    if number < _DEVICES_SINCE:
        raw = replace(raw, device=np.zeros(len(raw.bytes), np.uint8))
    tracked = _restored(raw, TRACKED_COLUMNS)
    if tracked.context.max(initial=0) >= len(CONTEXTS):
        raise ValueError("a tracked object has an unknown context")
    if set(distinct(tracked.device).tolist()) - {0, *tracked.devices}:
        raise ValueError("a tracked object is for a missing device")
    for name, rows in (("cache", snapshot.caches), ("site", snapshot.sites)):
        if getattr(tracked, name).max(initial=-1) >= len(rows):
            raise ValueError(f"a tracked object belongs to a missing {name}")
    if np.any((tracked.bytes == 0) & (tracked.interval != 0)):
        raise ValueError("a sampled object has no size")
    return tracked


def _stacked(snapshot: Snapshot) -> Stacked:
    """Return the allocations by stack. Raises ValueError if they are negative or overflow."""
    stacked = _restored(snapshot.stacked, STACKED_COLUMNS)
    for column in (stacked.bytes, stacked.stderr):
        if column.min(initial=0) < 0 or column.sum(dtype=float) >= 1 << 62:
            raise ValueError("allocations by stack are out of bounds")
    return stacked
