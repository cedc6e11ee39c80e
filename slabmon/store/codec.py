# SPDX-License-Identifier: Apache-2.0
"""Snapshots as bytes: in recordings, between the daemon's processes and over HTTP.

The form is a head (MAGIC, then a checksum of the model's fields) and one MessagePack document in
the shape of slabmon.model; columns of tracked objects are their little-endian bytes. Whatever is
decoded has been checked against the model's types and bounds: the bytes may come from anywhere.
"""

from __future__ import annotations

import typing
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import msgspec
import numpy as np

from slabmon import model
from slabmon.base.errors import UsageError
from slabmon.model import Snapshot, Stacked, Tracked

CONTENT_TYPE = "application/vnd.slabmon.snapshot"
MAX_BYTES = 256 << 20
MAGIC = b"slabsnap"
_HEAD_BYTES = len(MAGIC) + 4

Kinds = Mapping[str, tuple[str, str]]

# Each column of Tracked as it is written, and as it is in memory.
_COLUMNS: Kinds = {
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
}
_STACKED: Kinds = {"stack": ("<i4", "i4"), "bytes": ("<i8", "i8"), "stderr": ("<i8", "i8")}
_Columned = TypeVar("_Columned", Tracked, Stacked)


class BadSnapshot(UsageError):
    """Bytes that are no snapshot this version of slabmon can read."""


@cache
def head() -> bytes:
    """What encoded snapshots of this version begin with. It differs from that of any version
    whose model has other fields, so that nobody has to remember to count a number up."""
    shape = [
        (name, sorted(typing.get_type_hints(kind, include_extras=True).items()))
        for name, kind in sorted(vars(model).items())
        if isinstance(kind, type) and kind.__module__ == model.__name__
    ]
    return MAGIC + zlib.crc32(repr((shape, _COLUMNS, _STACKED)).encode()).to_bytes(4, "little")


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    return msgspec.msgpack.Encoder(enc_hook=np.ndarray.tobytes)


@cache
def _decoder() -> msgspec.msgpack.Decoder[Snapshot]:
    return msgspec.msgpack.Decoder(Snapshot, dec_hook=_raw_column)


def _raw_column(_: type, data: object) -> np.ndarray:
    if not isinstance(data, bytes):
        raise ValueError("a column must be bytes")
    return np.frombuffer(data, np.uint8)


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes."""
    written = replace(
        snapshot,
        tracked=_written(snapshot.tracked, _COLUMNS),
        stacked=_written(snapshot.stacked, _STACKED),
    )
    return head() + _encoder().encode(written)


def decode(data: bytes) -> Snapshot:
    """The snapshot that encode() made these bytes of, its columns read-only. BadSnapshot if they
    are anything else: damaged, hostile, or written by a version with another model."""
    if len(data) > MAX_BYTES:
        raise BadSnapshot(f"a snapshot of {len(data)} bytes exceeds the limit of {MAX_BYTES}")
    if not data.startswith(MAGIC):
        raise BadSnapshot("this is not a slabmon snapshot")
    if not data.startswith(head()):
        raise BadSnapshot(
            "this snapshot was written by another version of slabmon, which records other fields; "
            "read it with that version"
        )
    try:
        snapshot = _decoder().decode(memoryview(data)[_HEAD_BYTES:])
        return replace(snapshot, tracked=_tracked(snapshot), stacked=_stacked(snapshot))
    except (ValueError, RecursionError) as error:
        raise BadSnapshot(f"this snapshot is damaged: {error}") from error


def _written(table: _Columned, kinds: Kinds) -> _Columned:
    columns: dict[str, Any] = {
        name: getattr(table, name).astype(written) for name, (written, _) in kinds.items()
    }
    return replace(table, **columns)


def _kept(table: _Columned, kinds: Kinds) -> _Columned:
    """With columns as they are in memory; ValueError if they differ in length."""
    columns: dict[str, Any] = {
        name: getattr(table, name).view(written).astype(kept, copy=False)
        for name, (written, kept) in kinds.items()
    }
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns of one table differ in length")
    return replace(table, **columns)


def _tracked(snapshot: Snapshot) -> Tracked:
    """The tracked objects; ValueError if they contradict the rest of the snapshot."""
    tracked = _kept(snapshot.tracked, _COLUMNS)
    for name, rows in (("cache", snapshot.caches), ("site", snapshot.sites)):
        if getattr(tracked, name).max(initial=-1) >= len(rows):
            raise ValueError(f"a tracked object belongs to a {name} that is not there")
    if np.any((tracked.bytes == 0) & (tracked.interval != 0)):
        raise ValueError("a sampled object has no size")
    return tracked


def _stacked(snapshot: Snapshot) -> Stacked:
    """What was allocated by stack; ValueError if it is less than nothing or beyond counting."""
    stacked = _kept(snapshot.stacked, _STACKED)
    for column in (stacked.bytes, stacked.stderr):
        if column.min(initial=0) < 0 or column.sum(dtype=float) >= 1 << 62:
            raise ValueError("what was allocated by stack is out of bounds")
    return stacked
