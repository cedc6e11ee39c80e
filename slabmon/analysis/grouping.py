"""Live estimates of tracked objects grouped by any of their dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slabmon.analysis.sampling import Grouped
from slabmon.errors import UsageError
from slabmon.model import Live, Snapshot, Tracked
from slabmon.names import text

NO_STACK = "[no stack]"
_AGES = ((1, "<1s"), (10, "<10s"), (60, "<1m"), (600, "<10m"), (3600, "<1h"), (86400, "<1d"))
Values = tuple[np.ndarray, Callable[[int], str]]


def _by_label(column: np.ndarray, labels: Sequence[str]) -> Values:
    """Rows of `column` index `labels`, where equal labels are one group."""
    position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    names = list(position)
    numbers = np.array([position[label] for label in labels] or [0])
    return numbers[column], names.__getitem__


def _distinct(column: np.ndarray, label: Callable[[Any], str]) -> Values:
    values, index = np.unique(column, return_inverse=True)
    return _by_label(index, [label(value) for value in values.tolist()])


def _cache(snapshot: Snapshot, tracked: Tracked) -> Values:
    return tracked.cache, lambda i: snapshot.caches[i].name


def _site(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _by_label(
        tracked.site,
        [f"{s.label} [{s.module}]" if s.module else s.label for s in snapshot.sites],
    )


def _module(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _by_label(tracked.site, [site.module or "" for site in snapshot.sites])


def _gfp(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _distinct(tracked.gfp, lambda flags: tracked.gfp_class.get(flags, "other"))


def _age(snapshot: Snapshot, tracked: Tracked) -> Values:
    labels = [label for _, label in _AGES] + [">=1d"]
    return np.searchsorted([limit for limit, _ in _AGES], tracked.age, "right"), labels.__getitem__


def _stack(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _distinct(
        tracked.stack, lambda stack: ";".join(reversed(tracked.stacks.get(stack, ()))) or NO_STACK
    )


DIMENSIONS: dict[str, Callable[[Snapshot, Tracked], Values]] = {
    "cache": _cache,
    "site": _site,
    "module": _module,
    "gfp": _gfp,
    "process": lambda _, t: _distinct(t.comm, text),
    "pid": lambda _, t: _distinct(t.tgid, str),
    "cgroup": lambda _, t: _distinct(t.cgroup, lambda number: t.cgroups.get(number, f"[{number}]")),
    "size": lambda _, t: _distinct(t.bytes, str),
    "age": _age,
    "stack": _stack,
}


def parse_dimensions(by: str) -> tuple[str, ...]:
    """`DIM[,DIM]` as names of DIMENSIONS."""
    names = tuple(name.strip() for name in by.split(","))
    for name in names:
        if name not in DIMENSIONS:
            raise UsageError(f"--by {name!r} is not one of {', '.join(DIMENSIONS)}")
    if len(set(names)) != len(names):
        raise UsageError(f"--by {by!r} names a dimension twice")
    return names


@dataclass(frozen=True)
class Group:
    """One combination of dimension values and what is live under it."""

    labels: tuple[str, ...]
    live: Live


def group_live(snapshot: Snapshot, by: Sequence[str]) -> list[Group]:
    """Live estimates for each combination of these dimensions, largest first."""
    tracked = snapshot.tracked
    columns = [DIMENSIONS[name](snapshot, tracked) for name in by]
    if not len(tracked.bytes):
        return []
    groups = np.zeros(len(tracked.bytes), np.int64)
    for index, _ in columns:
        # Numbered anew after each dimension: products of all would exceed 64 bits.
        combined = groups * (int(index.max()) + 1) + index
        _, first, groups = np.unique(combined, return_index=True, return_inverse=True)
    live = Grouped(tracked.bytes, tracked.interval, snapshot.tracking.sample_bytes).by(
        groups, len(first)
    )
    rows = [
        Group(tuple(label(int(index[row])) for index, label in columns), estimate)
        for row, estimate in zip(first, live, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.live.bytes, row.labels))
