# SPDX-License-Identifier: Apache-2.0
"""Bytes by path, for graphs: kernel stacks and other dimensions, outermost first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from slabmon import model
from slabmon.analysis.callers import inner_functions
from slabmon.analysis.delta import difference
from slabmon.analysis.grouping import DIMENSIONS, NO_STACK
from slabmon.analysis.weights import Part
from slabmon.base.arrays import F64, I64
from slabmon.model import CORE_KERNEL, NO_DRIVER, Device, Site, Snapshot

# Kinds of frames: a function of the core kernel or of a module, a cache, another label, a remark.
FUNCTION, MODULE, CACHE, LABEL, REMARK = range(5)
BY_STACK = ("stack", "cache")
OTHER_STACKS = "[other stacks]"
_STEP = 1024  # paths
# Functions that call the programs of a tracepoint; they are not callers of the allocator.
_TRACING = "__traceiter_"


T = TypeVar("T")
# Work in steps: each yield is a place to pause, the value returned is the result.
Steps = Generator[None, None, T]


def to_end(steps: Steps[T]) -> T:
    """Do all steps and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Frame(NamedTuple):
    """One step of a path."""

    name: str
    kind: int


@dataclass(frozen=True)
class Paths:
    """Paths as indices of `frames`, outermost first, and their values.

    `bytes` and `objects` are integers; `variance` (bytes squared) is 0 where they are exact.
    """

    frames: Sequence[Frame]
    paths: Sequence[tuple[int, ...]]
    bytes: I64  # (paths,)
    objects: I64  # (paths,)
    variance: F64  # (paths,)


class _PathSums:
    """Sums values by path."""

    def __init__(self) -> None:
        self._frames: dict[Frame, int] = {}
        self._sums: dict[tuple[int, ...], tuple[float, ...]] = {}

    def number(self, frame: Frame) -> int:
        """Return the index of a frame."""
        return self._frames.setdefault(frame, len(self._frames))

    def numbers(self, *frames: Frame) -> tuple[int, ...]:
        """Return a path of these frames."""
        return tuple(map(self.number, frames))

    def add(self, path: tuple[int, ...], *values: float) -> None:
        """Add bytes, objects and variance to a path."""
        sums = self._sums.setdefault(path, values)
        if sums is not values:
            self._sums[path] = tuple(map(sum, zip(sums, values, strict=True)))

    def paths(self) -> Paths:
        """Return all paths with their sums."""
        columns = np.array(list(self._sums.values()), float).reshape(-1, 3).T
        size, objects = columns[:2].astype(np.int64)
        return Paths(list(self._frames), list(self._sums), size, objects, columns[2])


def function(label: str) -> Frame:
    """Return the frame of `symbol` or `symbol [module]`."""
    return Frame(label, MODULE if label.endswith("]") and " [" in label else FUNCTION)


# The index of each tracked object's path, (objects,), and a function from indices to paths.
Values = tuple[I64, Callable[[int], tuple[int, ...]]]


class _Stacks:
    """Kernel stacks as paths from the kernel's entry to the call site, without the functions of
    the allocator and of the tracepoint."""

    def __init__(self, snapshot: Snapshot, sums: _PathSums) -> None:
        self._stacks, self._sums = snapshot.tracked.stacks, sums
        self._known: dict[int, tuple[list[str], tuple[int, ...], tuple[int, ...]]] = {}

    def path(self, stack: int, site: Site) -> tuple[int, ...]:
        """Return the path of an object; without a stack, of the call site alone."""
        if not self._stacks.get(stack):
            suffix = f" [{site.module}]" if site.module else ""
            return self._sums.numbers(Frame(NO_STACK, REMARK), function(site.symbol + suffix))
        inner, numbers, whole = self._numbers(stack)
        if site.symbol in inner:
            return numbers[inner.index(site.symbol) :][::-1]
        return whole

    def to_any_of(self, stack: int, symbols: Set[str]) -> tuple[int, ...]:
        """Return the path of a stack up to the innermost of these call sites."""
        if not self._stacks.get(stack):
            name = OTHER_STACKS if stack == model.OTHER_STACKS else NO_STACK
            return self._sums.numbers(Frame(name, REMARK))
        inner, numbers, whole = self._numbers(stack)
        for depth, name in enumerate(inner):
            if name in symbols:
                return numbers[depth:][::-1]
        return whole

    def _numbers(self, stack: int) -> tuple[list[str], tuple[int, ...], tuple[int, ...]]:
        """Return the names of the innermost functions, the whole path innermost first, and the path
        to show, outermost first, if the call site is not among the innermost."""
        if stack not in self._known:
            names = self._stacks[stack]
            inner = inner_functions(names)
            numbers = self._sums.numbers(*map(function, names))
            whole = tuple(
                number
                for number, name in zip(numbers, names, strict=True)
                if not name.startswith(_TRACING)
            )
            self._known[stack] = inner, numbers, whole[::-1]
        return self._known[stack]


def _stacks(snapshot: Snapshot, sums: _PathSums) -> Values:
    tracked, sites = snapshot.tracked, snapshot.sites
    pairs = tracked.stack.astype(np.int64) * len(sites) + tracked.site
    _, first, index = np.unique(pairs, return_index=True, return_inverse=True)
    keys = list(zip(tracked.stack[first].tolist(), tracked.site[first].tolist(), strict=True))
    stacks = _Stacks(snapshot, sums)

    def path(index: int) -> tuple[int, ...]:
        stack, site = keys[index]
        return stacks.path(stack, sites[site])

    return index.reshape(-1), path


def _dimension(name: str, snapshot: Snapshot, sums: _PathSums) -> Values:
    """Return the tracked objects' paths in one dimension."""
    if name == "stack":
        return _stacks(snapshot, sums)
    groups, label = DIMENSIONS[name](snapshot, snapshot.tracked)

    def path(index: int) -> tuple[int, ...]:
        text = label(index) or CORE_KERNEL  # the module of built-in code
        kind = CACHE if name == "cache" else LABEL
        return (sums.number(function(text) if name == "site" else Frame(text, kind)),)

    return groups, path


def live_paths(parts: Iterable[Part], by: Sequence[str] = BY_STACK) -> Paths:
    """Return the tracked objects by dimensions (analysis.grouping); `stack` is many frames."""
    return to_end(live_path_steps(parts, by))


def live_path_steps(parts: Iterable[Part], by: Sequence[str]) -> Steps[Paths]:
    """Return what live_paths() does, in steps of a few milliseconds after the first."""
    sums = _PathSums()
    for part in parts:
        if not len(part.object_ids):
            continue
        columns = [_dimension(name, part.snapshot, sums) for name in by]
        group = np.zeros(len(part.object_ids), np.int64)
        for groups, _ in columns:
            column = groups[part.object_ids]
            group = group * (int(column.max()) + 1) + column
            _, first, group = np.unique(group, return_index=True, return_inverse=True)
            group = group.reshape(-1)
        values_by_group = [
            np.bincount(group, values, len(first)).tolist()
            for values in (part.bytes, part.objects, part.variance)
        ]
        to_path = [cache(path) for _, path in columns]
        indices = (groups[part.object_ids][first].tolist() for groups, _ in columns)
        rows = zip(zip(*indices, strict=True), *values_by_group, strict=True)
        for number, (row, *values) in enumerate(rows):
            if number % _STEP == 0:
                yield
            path: tuple[int, ...] = ()
            for index, column_path in zip(row, to_path, strict=True):
                path += column_path(index)
            sums.add(path, *values)
    return sums.paths()


def allocated_paths(snapshot: Snapshot, before: Snapshot | None = None) -> Paths:
    """Return bytes allocated since tracking began, or since `before` (of the same session), by
    module, function and call site. They are counted, hence exact."""
    sums = _PathSums()
    grown = difference(before, snapshot).sites if before is not None else {}
    for site in snapshot.sites:
        counted = grown.get((site.symbol, site.offset, site.module))
        size = counted["allocated_bytes"] if counted is not None else site.allocated_bytes
        count = counted["allocs"] if counted is not None else site.allocs
        if size:
            kind = MODULE if site.module else FUNCTION
            frames = (
                Frame(site.module or CORE_KERNEL, LABEL),
                Frame(site.symbol, kind),
                Frame(site.label, kind),
            )
            sums.add(sums.numbers(*frames), size, count, 0.0)
    return sums.paths()


def allocated_stack_paths(snapshot: Snapshot, before: Snapshot | None = None) -> Paths:
    """Return bytes allocated since tracking began, or since `before`, by kernel stack.

    The sum is an unbiased estimate; object counts are unknown. With `before`, a stack counts by
    the least it can have grown: one missing in `before` may have been as large there as the
    smallest listed. The remainder is that of OTHER_STACKS.
    """
    sums = _PathSums()
    now = _by_stack(snapshot, sums)
    if before is None:
        for path, (size, variance) in now.items():
            if size:
                sums.add(path, size, 0, variance)
        return sums.paths()
    then = _by_stack(before, sums)
    other, without = (sums.numbers(Frame(name, REMARK)) for name in (OTHER_STACKS, NO_STACK))
    remaining, remaining_variance = (
        sum(row[i] for row in now.values()) - sum(row[i] for row in then.values()) for i in (0, 1)
    )
    smallest = 0.0
    if then.get(other, (0, 0))[0]:
        listed = then.keys() - {other, without}
        smallest = min((then[path][0] for path in listed), default=0.0)
    for path, (size, variance) in now.items():
        earlier = then.get(path, (smallest, 0.0))
        grown, added_variance = max(0.0, size - earlier[0]), max(0.0, variance - earlier[1])
        if path != other and grown:
            sums.add(path, grown, 0, added_variance)
            remaining, remaining_variance = remaining - grown, remaining_variance - added_variance
    if remaining > 0:
        sums.add(other, remaining, 0, max(0.0, remaining_variance))
    return sums.paths()


def _by_stack(snapshot: Snapshot, sums: _PathSums) -> dict[tuple[int, ...], tuple[float, float]]:
    """Return bytes allocated and their variance, by path."""
    stacks, symbols = _Stacks(snapshot, sums), {site.symbol for site in snapshot.sites}
    stacked, by_path = snapshot.stacked, dict[tuple[int, ...], tuple[float, float]]()
    for stack, size, error in zip(
        stacked.stack.tolist(), stacked.bytes.tolist(), stacked.stderr.tolist(), strict=True
    ):
        if size or stack < 0:
            path = stacks.to_any_of(stack, symbols)
            known = by_path.get(path, (0.0, 0.0))
            by_path[path] = known[0] + size, known[1] + float(error) ** 2
    return by_path


def managed_paths(snapshot: Snapshot) -> Paths:
    """Return managed bytes by device, driver and release function. They are exact."""
    sums = _PathSums()
    for device in snapshot.devices:
        for release in device.by_release:
            if release.bytes:
                path = sums.numbers(*_device_frames(device), Frame(release.name, FUNCTION))
                sums.add(path, release.bytes, release.resources, 0.0)
    return sums.paths()


def slab_paths(snapshot: Snapshot) -> Paths:
    """Return the slab memory behind managed resources, where it is known, by device, driver and
    cache."""
    sums = _PathSums()
    for device in snapshot.devices:
        for name, size in device.slab_by_cache.items():
            if size:
                path = sums.numbers(*_device_frames(device), Frame(name, CACHE))
                sums.add(path, size, 0, 0.0)
    return sums.paths()


def _device_frames(device: Device) -> tuple[Frame, Frame]:
    name = f"{device.bus}/{device.name}" if device.bus else device.name
    return Frame(name, LABEL), Frame(device.driver or NO_DRIVER, MODULE)
