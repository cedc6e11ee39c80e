# SPDX-License-Identifier: Apache-2.0
"""Rows of owners, summed by what they are or whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slabmon.census.model import Certainty, OwnedObjects

_ORDER = (Certainty.EXACT, Certainty.LIKELY, Certainty.UNKNOWN)
_MOST_CACHES = 3


def by_type(rows: Iterable[OwnedObjects]) -> tuple[OwnedObjects, ...]:
    """Sum rows of one struct, largest first; those of no known struct are one row for each
    certainty. `cache` lists the caches they are in."""
    return _summed(rows, lambda row: row.type)


def by_module(rows: Iterable[OwnedObjects]) -> tuple[OwnedObjects, ...]:
    """Sum rows of one module, largest first, as by_type() does."""
    return _summed(rows, lambda row: row.module)


def _summed(
    rows: Iterable[OwnedObjects], key: Callable[[OwnedObjects], str | None]
) -> tuple[OwnedObjects, ...]:
    groups: dict[tuple[str | None, Certainty | None], list[OwnedObjects]] = {}
    for row in rows:
        name = key(row)
        groups.setdefault((name, row.certainty if name is None else None), []).append(row)
    summed = (_sum(name, key, group) for (name, _), group in groups.items())
    return tuple(sorted(summed, key=lambda row: (-row.bytes, row.cache)))


def _sum(
    name: str | None, key: Callable[[OwnedObjects], str | None], rows: list[OwnedObjects]
) -> OwnedObjects:
    """Return one row: as sure as its least sure part."""
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.cache] = sizes.get(row.cache, 0) + row.bytes
    largest = sorted(sizes, key=lambda cache: -sizes[cache])
    more = f" and {len(largest) - _MOST_CACHES} more" if len(largest) > _MOST_CACHES else ""
    types, modules = ({read(row) for row in rows} for read in (_type, _module))
    return OwnedObjects(
        cache=", ".join(largest[:_MOST_CACHES]) + more,
        type=types.pop() if len(types) == 1 else None,
        module=modules.pop() if len(modules) == 1 else None,
        signature=name or "",
        certainty=max((row.certainty for row in rows), key=_ORDER.index),
        objects=sum(row.objects for row in rows),
        objects_stderr=sum(row.objects_stderr**2 for row in rows) ** 0.5,
        bytes=sum(row.bytes for row in rows),
    )


def _type(row: OwnedObjects) -> str | None:
    return row.type


def _module(row: OwnedObjects) -> str | None:
    return row.module
