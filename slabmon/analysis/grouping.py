# SPDX-License-Identifier: Apache-2.0
"""Live estimates of tracked objects, grouped by any of their dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slabmon.analysis.callers import callers
from slabmon.analysis.sampling import Grouped
from slabmon.base.arrays import I64, Bool, distinct
from slabmon.base.errors import UsageError
from slabmon.base.escape import escape
from slabmon.base.names import cache_family
from slabmon.base.workloads import Workload
from slabmon.model import CONTEXTS, NOBODY, Live, Snapshot, Tracked

NO_STACK, NO_MODIFIER, UNKNOWN_MODIFIERS = "[no stack]", "[none]", "[unknown]"
# Selects objects that have a modifier, whichever others they have.
MODIFIER = "modifier"
# Values are numbered by a lookup table of at most this many entries per element.
_TABLE = 8
_AGES = ((1, "<1s"), (10, "<10s"), (60, "<1m"), (600, "<10m"), (3600, "<1h"), (86400, "<1d"))
# A group number per tracked object, and the label of a group number.
Values = tuple[I64, Callable[[int], str]]


def _by_label(column: I64, labels: Sequence[str]) -> Values:
    """Group rows of `column`, which index `labels`, by equal labels."""
    position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    names = list(position)
    numbers = np.array([position[label] for label in labels] or [0])
    return numbers[column], names.__getitem__


def _numbered(column: NDArray[Any]) -> tuple[NDArray[Any], I64]:
    """Return the distinct values in order, and for each element the position of its value.

    Sorting, as np.unique() does, takes 40 times as long for small integers.
    """
    if len(column) and column.dtype.kind in "iu":
        low = int(column.min())
        span = int(column.max()) - low + 1
        if span <= _TABLE * len(column):
            first = column.dtype.type(low)
            places = column - first
            present = np.zeros(span, bool)
            present[places] = True
            number = np.cumsum(present) - 1
            return np.flatnonzero(present).astype(column.dtype) + first, number[places]
    values = distinct(column)
    return values, np.searchsorted(values, column)


def _distinct(column: NDArray[Any], label: Callable[[Any], str]) -> Values:
    values, index = _numbered(column)
    return _by_label(index, [label(value) for value in values.tolist()])


def _cache(snapshot: Snapshot, tracked: Tracked) -> Values:
    return tracked.cache, lambda i: snapshot.caches[i].name


def _family(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _by_label(tracked.cache, [cache_family(cache.name) for cache in snapshot.caches])


def _site(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _by_label(tracked.site, [site.full_label for site in snapshot.sites])


def _caller(snapshot: Snapshot, tracked: Tracked) -> Values:
    index, labels = callers(snapshot, tracked)
    return index, labels.__getitem__


def _module(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _by_label(tracked.site, [site.module or "" for site in snapshot.sites])


def _gfp(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _distinct(tracked.gfp, lambda flags: tracked.gfp_class.get(flags, "other"))


def _modifiers(snapshot: Snapshot, tracked: Tracked) -> Values:
    def label(flags: int) -> str:
        names = tracked.gfp_modifiers.get(flags)
        return UNKNOWN_MODIFIERS if names is None else "|".join(names) or NO_MODIFIER

    return _distinct(tracked.gfp, label)


def _age(snapshot: Snapshot, tracked: Tracked) -> Values:
    labels = [label for _, label in _AGES] + [">=1d"]
    return np.searchsorted([limit for limit, _ in _AGES], tracked.age, "right"), labels.__getitem__


def _stack(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _distinct(
        tracked.stack, lambda stack: ";".join(reversed(tracked.stacks.get(stack, ()))) or NO_STACK
    )


def _of_task(column: NDArray[Any], tracked: Tracked, label: Callable[[Any], str]) -> Values:
    """Group by a column of the allocating task, and what interrupts allocated by NOBODY."""
    index, name = _distinct(column, label)
    first = int(index.max(initial=-1)) + 1
    own = np.where(tracked.by_interrupt, first + tracked.context.astype(np.int64), index)
    return own, lambda number: name(number) if number < first else NOBODY.get(number - first, "")


def _cgroup(snapshot: Snapshot, tracked: Tracked) -> Values:
    return _of_task(
        tracked.cgroup, tracked, lambda number: tracked.cgroups.get(number, f"[{number}]")
    )


def _workload(get: Callable[[Workload], str]) -> Callable[[Snapshot, Tracked], Values]:
    """Return the dimension of a property of what runs in the cgroup of each object."""

    def values(snapshot: Snapshot, tracked: Tracked) -> Values:
        index, path = _cgroup(snapshot, tracked)
        present = range(int(index.max(initial=-1)) + 1)
        return _by_label(index, [get(snapshot.workload(path(number))) for number in present])

    return values


DIMENSIONS: dict[str, Callable[[Snapshot, Tracked], Values]] = {
    "cache": _cache,
    "family": _family,
    "site": _site,
    "caller": _caller,
    "module": _module,
    "gfp": _gfp,
    "modifiers": _modifiers,
    "process": lambda _, t: _distinct(t.process, escape),
    "pid": lambda _, t: _of_task(t.tgid, t, str),
    "cgroup": _cgroup,
    "workload": _workload(attrgetter("label")),
    "unit": _workload(attrgetter("unit")),
    "container": _workload(attrgetter("shown_container")),
    "pod": _workload(attrgetter("shown_pod")),
    "namespace": _workload(attrgetter("namespace")),
    "context": lambda _, t: _distinct(t.context, lambda number: CONTEXTS[number].value),
    "device": lambda _, t: _distinct(t.device, lambda n: t.devices[n].label if n else ""),
    "size": lambda _, t: _distinct(t.bytes, str),
    "age": _age,
    "stack": _stack,
}


def parse_dimensions(by: str) -> tuple[str, ...]:
    """Parse `DIM[,DIM]`. Raises UsageError unless these are distinct names of DIMENSIONS."""
    names = tuple(name.strip() for name in by.split(","))
    for name in names:
        if name not in DIMENSIONS:
            raise UsageError(f"--by: expected one of {', '.join(DIMENSIONS)}, got {name!r}")
    if len(set(names)) != len(names):
        raise UsageError(f"--by {by!r} names a dimension twice")
    return names


class Group(NamedTuple):
    """One combination of dimension values, and its live estimate."""

    labels: tuple[str, ...]
    live: Live


@dataclass(frozen=True)
class Groups:
    """Rows of a view and the tracked objects of each. `members` is the row number of each tracked
    object, negative for those in no row."""

    rows: Sequence[Any]
    members: I64  # (objects,)

    def only(self, rows: Sequence[Any], numbers: Sequence[int]) -> Groups:
        """Return only these rows, which had these numbers."""
        new = np.full(len(self.rows) + 1, -1)  # the last is for members of -1
        new[list(numbers)] = np.arange(len(numbers))
        return Groups(rows, new[self.members])


def _having(tracked: Tracked, modifier: str) -> Bool:
    """Return the mask of the tracked objects that have this modifier."""
    flags, index = _numbered(tracked.gfp)
    names = (tracked.gfp_modifiers.get(value, ()) for value in flags.tolist())
    return np.array([modifier in having for having in names], bool)[index]


def selected(snapshot: Snapshot, where: Sequence[tuple[str, str]]) -> Bool:
    """Return the mask of the tracked objects that have all these (dimension, label) pairs; with
    MODIFIER for the dimension, of those that have the modifier."""
    mask = np.ones(len(snapshot.tracked.bytes), bool)
    for name, wanted in where:
        if name == MODIFIER:
            mask &= _having(snapshot.tracked, wanted)
            continue
        index, label = DIMENSIONS[name](snapshot, snapshot.tracked)
        numbers = distinct(index)
        named = np.array([label(number) == wanted for number in numbers.tolist()], bool)
        mask &= named[np.searchsorted(numbers, index)]
    return mask


def groups(snapshot: Snapshot, by: Sequence[str], where: Sequence[tuple[str, str]] = ()) -> Groups:
    """Return live estimates for each combination of these dimensions, unordered, of the tracked
    objects that have the labels of `where`."""
    tracked = snapshot.tracked
    members = np.full(len(tracked.bytes), -1)
    mask = selected(snapshot, where)
    if not mask.any():
        return Groups([], members)
    columns = [
        (index[mask], label)
        for name in by
        for index, label in [DIMENSIONS[name](snapshot, tracked)]
    ]
    group = np.zeros(int(mask.sum()), np.int64)
    for index, _ in columns:
        # Renumbered after each dimension: the product of all could exceed 64 bits.
        combined = group * (int(index.max()) + 1) + index
        _, group = _numbered(combined)
    example = np.zeros(int(group.max()) + 1, np.int64)  # position of one object of each group
    example[group] = np.arange(len(group))
    live = Grouped(tracked.bytes[mask], tracked.interval[mask], snapshot.tracking.sample_bytes).by(
        group, len(example)
    )
    members[mask] = group
    labels = [[label(i) for i in index[example].tolist()] for index, label in columns]
    rows = [
        Group(names, estimate)
        for names, estimate in zip(zip(*labels, strict=True), live, strict=True)
    ]
    return Groups(rows, members)


def group_live(snapshot: Snapshot, by: Sequence[str]) -> list[Group]:
    """Return live estimates for each combination of these dimensions, largest first."""
    rows = groups(snapshot, by).rows
    return sorted(rows, key=lambda row: (-row.live.bytes, row.labels))
