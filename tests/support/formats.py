# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the snapshot format, one of each number: how they are made and described.

`python -m tests.support.formats` writes the files of the current number to FORMATS; those of
earlier numbers are never written again. tests/unit/store/test_formats.py reads all of them.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from slabmon.base.fields import Int, Real, Text
from slabmon.model import Snapshot, Stacked, Tracked
from slabmon.store import codec
from slabmon.store.writer import RecordingWriter

FORMATS = Path(__file__).parents[1] / "unit/store/formats"
COLUMNS = {Tracked: codec.TRACKED_COLUMNS, Stacked: codec.STACKED_COLUMNS}
TIMES = (1_700_000_000.0, 1_700_000_010.0)
_ROWS = 2


def example() -> Snapshot:
    """Return a snapshot in which every field holds a value of its own, none of them a default."""
    numbers = count(1)

    def value(kind: Any) -> Any:
        number = next(numbers)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind in (Int, int):
            return number
        if kind in (Real, float):
            return number + 0.25
        if kind in (Text, str):
            return f"text-{number}"
        if kind is bool:
            return True
        if origin in (typing.Union, types.UnionType):
            return value(arguments[0])
        if origin is tuple:
            return tuple(value(arguments[0]) for _ in range(_ROWS))
        if origin is Mapping:
            return {value(arguments[0]): value(arguments[1]) for _ in range(_ROWS)}
        if issubclass(kind, StrEnum):
            return list(kind)[number % len(kind)]
        columns = COLUMNS.get(kind, {})
        return kind(
            **{name: column(*columns[name]) for name in columns},
            **{name: value(hint) for name, hint, _ in members(kind) if name not in columns},
        )

    def column(_: str, dtype: str) -> np.ndarray:
        if dtype == "S16":
            return np.array([f"comm-{next(numbers)}" for _ in range(_ROWS)], dtype)
        # Values 0 and 1 suit the columns that are row numbers; the others are told apart below.
        return np.arange(_ROWS).astype(dtype)

    shown: Snapshot = value(Snapshot)
    for table in ("tracked", "stacked"):
        others = {
            name: column + next(numbers)
            for name, column in vars(getattr(shown, table)).items()
            if isinstance(column, np.ndarray) and column.dtype.kind in "iu"
            if name not in ("cache", "site", "context")
        }
        shown = replace(shown, **{table: replace(getattr(shown, table), **others)})
    device = np.array(list(shown.tracked.devices), "u4")
    return replace(shown, tracked=replace(shown.tracked, device=device))


def members(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield name, type and whether there is a default, of each field of a model class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if is_dataclass(kind):
        for field in fields(kind):
            optional = (field.default, field.default_factory) != (MISSING, MISSING)
            yield field.name, hints[field.name], optional
    else:
        for name in kind._fields:
            yield name, hints[name], name in kind._field_defaults


def describe() -> str:
    """Return the current shape as text: a path and a type a line, names of classes left out."""
    return f"format {codec.FORMAT}\n" + "".join(
        f"{path}: {kind}\n" for path, kind in sorted(_shape(Snapshot, ""))
    )


def _shape(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    named = {Int: "Int", Real: "Real", Text: "Text", bool: "bool"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in named:
        yield path, named[kind]
    elif origin in (typing.Union, types.UnionType):
        yield from _shape(arguments[0], f"{path}?")
    elif origin is tuple:
        yield from _shape(arguments[0], f"{path}[]")
    elif origin is Mapping:
        (_, key), *_ = _shape(arguments[0], "")
        yield from _shape(arguments[1], f"{path}{{{key}}}")
    elif issubclass(kind, StrEnum):
        yield path, " | ".join(f'"{member}"' for member in kind)
    else:
        columns = COLUMNS.get(kind, {})
        array = not is_dataclass(kind)
        for position, (name, hint, optional) in enumerate(members(kind)):
            below = f"{path}.{name}".lstrip(".") + ("=" if optional else "")
            if array:
                below = f"{path}[{position}].{name}" + ("=" if optional else "")
            if name in columns:
                yield below, f"column {columns[name][0]}"
            else:
                yield from _shape(hint, below)


def plain(value: Any) -> Any:
    """Return a snapshot, or a part of one, as JSON can hold it, with all fields by name."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if hasattr(value, "_asdict"):
        return {name: plain(member) for name, member in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, tuple | list):
        return [plain(member) for member in value]
    return value.decode() if isinstance(value, bytes) else value


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Yield where `actual` lacks or contradicts what is expected. Fields may have been added."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            yield from differences(value, actual.get(key), f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for i, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif expected != actual:
        yield f"{path}: expected {expected!r}, got {actual!r}"


def write() -> None:
    """Write the fixtures of the current format."""
    base = FORMATS / str(codec.FORMAT)
    shown = example()
    base.with_suffix(".snapshot").write_bytes(codec.encode(shown))
    base.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(plain(shown))))
    base.with_suffix(".db").unlink(missing_ok=True)
    with RecordingWriter(base.with_suffix(".db")) as history:
        for time in TIMES:
            history.append(shown, time)
    (FORMATS / "current.txt").write_text(describe())


if __name__ == "__main__":
    write()
