# SPDX-License-Identifier: Apache-2.0
"""Bytes by path: kernel stacks and other dimensions, outermost first, of which graphs are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slabmon import model
from slabmon.analysis.delta import difference
from slabmon.analysis.grouping import DIMENSIONS, NO_STACK
from slabmon.model import CORE_KERNEL, NO_DRIVER, Device, Site, Snapshot
from slabmon.report.weights import Part

# Kinds of frames: a function, one in a module, a cache, any other label, a remark of ours.
FUNCTION, MODULE, CACHE, LABEL, REMARK = range(5)
BY_STACK = ("stack", "cache")
OTHER_STACKS = "[other stacks]"
# The call site is found this near to the innermost frame: what is further in is the allocator.
_INNER_FRAMES = 8
# Kernel code that calls the tracepoint's programs, not the allocator's caller.
_TRACING = "__traceiter_"


class Frame(NamedTuple):
    """One step of a path."""

    name: str
    kind: int


@dataclass(frozen=True)
class Paths:
    """Paths of numbers in `frames`, outermost first, and a value of each per column.

    `bytes` and `objects` are whole; `variance` (bytes squared) is 0 where they are exact.
    """

    frames: Sequence[Frame]
    paths: Sequence[tuple[int, ...]]
    bytes: np.ndarray
    objects: np.ndarray
    variance: np.ndarray


class _Collector:
    """Adds up values by path."""

    def __init__(self) -> None:
        self._frames: dict[Frame, int] = {}
        self._sums: dict[tuple[int, ...], tuple[float, ...]] = {}

    def number(self, frame: Frame) -> int:
        """The number of a frame."""
        return self._frames.setdefault(frame, len(self._frames))

    def numbers(self, *frames: Frame) -> tuple[int, ...]:
        """A path of these frames."""
        return tuple(map(self.number, frames))

    def add(self, path: tuple[int, ...], *values: float) -> None:
        """Adds bytes, objects, variance."""
        sums = self._sums.setdefault(path, values)
        if sums is not values:
            self._sums[path] = tuple(map(sum, zip(sums, values, strict=True)))

    def paths(self) -> Paths:
        """All of them."""
        columns = np.array(list(self._sums.values()), float).reshape(-1, 3).T
        size, objects = columns[:2].astype(np.int64)
        return Paths(list(self._frames), list(self._sums), size, objects, columns[2])


def function(label: str) -> Frame:
    """The frame of `symbol` or `symbol [module]`."""
    return Frame(label, MODULE if label.endswith("]") and " [" in label else FUNCTION)


Values = tuple[np.ndarray, Callable[[int], tuple[int, ...]]]


class _Stacks:
    """Kernel stacks as paths: from the entry to the call site, without the allocator's own
    functions and without what the kernel calls the tracepoint's programs through."""

    def __init__(self, snapshot: Snapshot, found: _Collector) -> None:
        self._stacks, self._sites, self._found = snapshot.tracked.stacks, snapshot.sites, found
        self._known: dict[int, tuple[list[str], tuple[int, ...], tuple[int, ...]]] = {}

    def path(self, stack: int, site: Site) -> tuple[int, ...]:
        """The path of an object; without a stack all that is known is the call site."""
        if not self._stacks.get(stack):
            suffix = f" [{site.module}]" if site.module else ""
            return self._found.numbers(Frame(NO_STACK, REMARK), function(site.symbol + suffix))
        inner, numbers, whole = self._numbers(stack)
        if site.symbol in inner:
            return numbers[inner.index(site.symbol) :][::-1]
        return whole

    def to_any_of(self, stack: int, symbols: Set[str]) -> tuple[int, ...]:
        """The path of a stack that ends with the innermost of these call sites."""
        if not self._stacks.get(stack):
            name = OTHER_STACKS if stack == model.OTHER_STACKS else NO_STACK
            return self._found.numbers(Frame(name, REMARK))
        inner, numbers, whole = self._numbers(stack)
        for depth, name in enumerate(inner):
            if name in symbols:
                return numbers[depth:][::-1]
        return whole

    def _numbers(self, stack: int) -> tuple[list[str], tuple[int, ...], tuple[int, ...]]:
        """Its innermost functions; all of it, innermost first; what is shown of it, outermost
        first, if it does not go through the call site."""
        if stack not in self._known:
            names = self._stacks[stack]
            inner = [name.partition(" [")[0] for name in names[:_INNER_FRAMES]]
            numbers = self._found.numbers(*map(function, names))
            whole = tuple(
                number
                for number, name in zip(numbers, names, strict=True)
                if not name.startswith(_TRACING)
            )
            self._known[stack] = inner, numbers, whole[::-1]
        return self._known[stack]


def _stacks(snapshot: Snapshot, found: _Collector) -> Values:
    tracked, sites = snapshot.tracked, snapshot.sites
    pairs = tracked.stack.astype(np.int64) * len(sites) + tracked.site
    _, first, index = np.unique(pairs, return_index=True, return_inverse=True)
    keys = list(zip(tracked.stack[first].tolist(), tracked.site[first].tolist(), strict=True))
    stacks = _Stacks(snapshot, found)

    def path(which: int) -> tuple[int, ...]:
        stack, site = keys[which]
        return stacks.path(stack, sites[site])

    return index.reshape(-1), path


def _dimension(name: str, snapshot: Snapshot, found: _Collector) -> Values:
    """Which path each tracked object belongs to, and the paths."""
    if name == "stack":
        return _stacks(snapshot, found)
    index, label = DIMENSIONS[name](snapshot, snapshot.tracked)

    def path(which: int) -> tuple[int, ...]:
        text = label(which) or CORE_KERNEL  # the module of what is built in
        kind = CACHE if name == "cache" else LABEL
        return (found.number(function(text) if name == "site" else Frame(text, kind)),)

    return index, path


def live_paths(parts: Iterable[Part], by: Sequence[str] = BY_STACK) -> Paths:
    """Tracked objects by dimensions (analysis.grouping), of which `stack` is many frames."""
    found = _Collector()
    for part in parts:
        if not len(part.which):
            continue
        columns = [_dimension(name, part.snapshot, found) for name in by]
        group = np.zeros(len(part.which), np.int64)
        for index, _ in columns:
            index = index[part.which]
            group = group * (int(index.max()) + 1) + index
            _, some, group = np.unique(group, return_index=True, return_inverse=True)
            group = group.reshape(-1)
        known: list[dict[int, tuple[int, ...]]] = [{} for _ in columns]
        sums = [
            np.bincount(group, values, len(some)).tolist()
            for values in (part.bytes, part.objects, part.variance)
        ]
        rows = zip(*(index[part.which][some].tolist() for index, _ in columns), strict=True)
        for row, *values in zip(rows, *sums, strict=True):
            path: tuple[int, ...] = ()
            for which, (_, inner), memory in zip(row, columns, known, strict=True):
                if which not in memory:
                    memory[which] = inner(which)
                path += memory[which]
            found.add(path, *values)
    return found.paths()


def allocated_paths(snapshot: Snapshot, before: Snapshot | None = None) -> Paths:
    """Bytes allocated since tracking began, or since an earlier snapshot of the same session, by
    module, function and call site: exact, for they are counted at the site."""
    found = _Collector()
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
            found.add(found.numbers(*frames), size, count, 0.0)
    return found.paths()


def allocated_stack_paths(snapshot: Snapshot, before: Snapshot | None = None) -> Paths:
    """The same by kernel stack, estimated; objects are not known. The whole is estimated without
    bias. With `before` each stack counts what it surely grew by, and the rest is that of other
    stacks: which had been smaller than the smallest that was told, or forgotten meanwhile."""
    found = _Collector()
    now = _by_stack(snapshot, found)
    if before is None:
        for path, (size, variance) in now.items():
            if size:
                found.add(path, size, 0, variance)
        return found.paths()
    then = _by_stack(before, found)
    other, without = (found.numbers(Frame(name, REMARK)) for name in (OTHER_STACKS, NO_STACK))
    rest, spread = (
        sum(row[i] for row in now.values()) - sum(row[i] for row in then.values()) for i in (0, 1)
    )
    untold = 0.0
    if then.get(other, (0, 0))[0]:
        told = then.keys() - {other, without}
        untold = min((then[path][0] for path in told), default=0.0)
    for path, (size, variance) in now.items():
        earlier = then.get(path, (untold, 0.0))
        grown, spread_here = max(0.0, size - earlier[0]), max(0.0, variance - earlier[1])
        if path != other and grown:
            found.add(path, grown, 0, spread_here)
            rest, spread = rest - grown, spread - spread_here
    if rest > 0:
        found.add(other, rest, 0, max(0.0, spread))
    return found.paths()


def _by_stack(snapshot: Snapshot, found: _Collector) -> dict[tuple[int, ...], tuple[float, float]]:
    """Bytes allocated and the variance of that, by path."""
    stacks, symbols = _Stacks(snapshot, found), {site.symbol for site in snapshot.sites}
    stacked, sums = snapshot.stacked, dict[tuple[int, ...], tuple[float, float]]()
    for stack, size, error in zip(
        stacked.stack.tolist(), stacked.bytes.tolist(), stacked.stderr.tolist(), strict=True
    ):
        if size or stack < 0:
            path = stacks.to_any_of(stack, symbols)
            known = sums.get(path, (0.0, 0.0))
            sums[path] = known[0] + size, known[1] + float(error) ** 2
    return sums


def managed_paths(snapshot: Snapshot) -> Paths:
    """Managed bytes by device, driver and release function: exact."""
    found = _Collector()
    for device in snapshot.devices:
        for release in device.by_release:
            if release.bytes:
                path = found.numbers(*_device_frames(device), Frame(release.name, FUNCTION))
                found.add(path, release.bytes, release.resources, 0.0)
    return found.paths()


def slab_paths(snapshot: Snapshot) -> Paths:
    """Slab memory behind managed resources by device, driver and cache, where it is known."""
    found = _Collector()
    for device in snapshot.devices:
        for cache, size in device.slab_by_cache.items():
            if size:
                path = found.numbers(*_device_frames(device), Frame(cache, CACHE))
                found.add(path, size, 0, 0.0)
    return found.paths()


def _device_frames(device: Device) -> tuple[Frame, Frame]:
    name = f"{device.bus}/{device.name}" if device.bus else device.name
    return Frame(name, LABEL), Frame(device.driver or NO_DRIVER, MODULE)
