# SPDX-License-Identifier: Apache-2.0
"""A profile for `go tool pprof`, Pyroscope and speedscope: profile.proto, compressed with gzip.

Field numbers are those of github.com/google/pprof, proto/profile.proto.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from slabmon.analysis.paths import (
    Paths,
    Steps,
    allocated_paths,
    allocated_stack_paths,
    live_path_steps,
    to_end,
)
from slabmon.analysis.weights import changed, live
from slabmon.export.protowire import block, integer, packed
from slabmon.model import CORE_KERNEL
from slabmon.store.recording import TimedSnapshot

# Names of Go's heap profiles, which the tools know.
SAMPLE_TYPES = (
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("alloc_space_by_stack", "bytes"),
)
_DEFAULTS = {"live": "inuse_space", "allocated": "alloc_space", "stacked": "alloc_space_by_stack"}
LABELS = ("site", "cache", "module", "process", "cgroup")
_STEP = 1024  # samples


class _Profile:
    """The messages of a profile; strings, functions and modules are numbered as they are added."""

    def __init__(self) -> None:
        self._strings = {"": 0}
        self._mapping_ids: dict[str, int] = {}
        self._location_ids: dict[str, int] = {}
        self._samples: list[bytes] = []
        self._mappings: list[bytes] = []
        self._locations: list[bytes] = []
        self._functions: list[bytes] = []
        self.label = cache(self._label)

    def string(self, text: str) -> int:
        """Return the index of a string in the string table."""
        return self._strings.setdefault(text, len(self._strings))

    def location(self, label: str) -> int:
        """Return the id of the location of `function` or `function [module]`. Locations have no
        address: none may leave slabmon."""
        known = self._location_ids.get(label)
        if known is not None:
            return known
        location_id = self._location_ids[label] = len(self._location_ids) + 1
        name, _, module = label.partition(" [")
        mapping_id = self._mapping(module.removesuffix("]") if module else CORE_KERNEL)
        text, file = self.string(name), self.string(module.removesuffix("]"))
        function = integer(1, location_id) + integer(2, text) + integer(3, text) + integer(4, file)
        self._functions.append(block(5, function))
        line = block(4, integer(1, location_id))
        self._locations.append(block(4, integer(1, location_id) + integer(2, mapping_id) + line))
        return location_id

    def _mapping(self, module: str) -> int:
        known = self._mapping_ids.get(module)
        if known is not None:
            return known
        mapping_id = self._mapping_ids[module] = len(self._mapping_ids) + 1
        # has_functions: the tools need not look for symbols.
        fields = integer(1, mapping_id) + integer(5, self.string(module)) + integer(7, True)
        self._mappings.append(block(3, fields))
        return mapping_id

    def _label(self, key: str, text: str) -> bytes:
        """Return a sample's label; an empty text gives none."""
        return block(3, integer(1, self.string(key)) + integer(2, self.string(text)))

    def sample(
        self, location_ids: Sequence[int], values: Sequence[int], labels: Iterable[bytes]
    ) -> None:
        """Add a sample. Locations are innermost first; there is a value of each sample type."""
        data = packed(1, location_ids) + packed(2, values) + b"".join(labels)
        self._samples.append(block(2, data))

    def pack(
        self, value: str, *, comment: str, time: float, seconds: float, sample_bytes: int
    ) -> bytes:
        """Return the whole profile, compressed. `value` is what the tools show first; `time` is
        Unix time, `seconds` the time covered, `sample_bytes` the mean distance of samples."""
        string = self.string
        types = [
            block(1, integer(1, string(name)) + integer(2, string(unit)))
            for name, unit in SAMPLE_TYPES
        ]
        profile_fields = (
            integer(9, round(time * 1e9)),
            integer(10, round(seconds * 1e9)),
            block(11, integer(1, string("space")) + integer(2, string("bytes"))),
            integer(12, sample_bytes or 1),
            packed(13, [string(comment)]),
            integer(14, string(_DEFAULTS[value])),
        )
        strings = [block(6, text.encode()) for text in self._strings]
        parts = (self._samples, self._mappings, self._locations, self._functions, strings)
        data = b"".join((*types, *(item for part in parts for item in part), *profile_fields))
        return gzip.compress(data, 6, mtime=0)


def to_pprof(
    now: TimedSnapshot, before: TimedSnapshot | None, value: str = "live", by: Sequence[str] = ()
) -> bytes:
    """Return a profile of one moment or, with `before`, of the change since then.

    inuse_* is live memory by kernel stack, estimated; alloc_* is what was allocated by call site,
    exact and without callers; alloc_space_by_stack is an estimate with callers. Changes can be
    negative. `value` (live, allocated or stacked) is shown first; `by` adds dimensions to the
    labels.
    """
    return to_end(pprof_steps(now, before, value, by))


def pprof_steps(
    now: TimedSnapshot, before: TimedSnapshot | None, value: str = "live", by: Sequence[str] = ()
) -> Steps[bytes]:
    """Return what to_pprof() does, in steps."""
    profile, snapshot = _Profile(), now.snapshot
    earlier = before.snapshot if before is not None else None
    labels = (*LABELS, *(name for name in by if name not in (*LABELS, "stack")))
    parts = live(snapshot) if earlier is None else changed(earlier, snapshot)
    yield
    paths = yield from live_path_steps(parts, ("stack", *labels))
    yield from _add_live(profile, paths, labels)
    yield from _add_allocated(profile, allocated_paths(snapshot, earlier))
    yield from _add_stacked(profile, allocated_stack_paths(snapshot, earlier))
    start = earlier.tracking.seconds if earlier is not None else 0.0
    return profile.pack(
        value,
        comment=f"Linux {snapshot.host.release} {snapshot.host.machine}, slab memory",
        time=now.time,
        seconds=snapshot.tracking.seconds - start,
        sample_bytes=snapshot.tracking.sample_bytes,
    )


def _locations(profile: _Profile, paths: Paths) -> Callable[[int], int]:
    """Return a function from frame numbers to location ids."""
    return cache(lambda frame: profile.location(paths.frames[frame].name))


def _rows(paths: Paths) -> Iterator[tuple[int, tuple[tuple[int, ...], int, int]]]:
    """Return path, bytes and objects of each path, numbered."""
    columns = (paths.paths, paths.bytes.tolist(), paths.objects.tolist())
    return enumerate(zip(*columns, strict=True))


def _add_live(profile: _Profile, paths: Paths, labels: Sequence[str]) -> Steps[None]:
    """Add paths that end with a frame of each label."""
    location, names = _locations(profile, paths), [frame.name for frame in paths.frames]
    count = len(labels)
    for number, (path, size, objects) in _rows(paths):
        if number % _STEP == 0:
            yield
        stack = list(map(location, path[-count - 1 :: -1]))
        pairs = zip(labels, path[-count:], strict=True)
        texts = [profile.label(key, names[frame]) for key, frame in pairs if names[frame]]
        profile.sample(stack, (0, 0, objects, size, 0), texts)


def _add_stacked(profile: _Profile, paths: Paths) -> Steps[None]:
    """Add paths of functions only."""
    location = _locations(profile, paths)
    for number, (path, size, _) in _rows(paths):
        if number % _STEP == 0:
            yield
        profile.sample(list(map(location, path[::-1])), (0, 0, 0, 0, size), ())


def _add_allocated(profile: _Profile, paths: Paths) -> Steps[None]:
    """Add paths of module, function and call site."""
    for number, (path, size, objects) in _rows(paths):
        if number % _STEP == 0:
            yield
        module, function, site = (paths.frames[frame].name for frame in path)
        suffix = "" if module == CORE_KERNEL else f" [{module}]"
        profile.sample(
            [profile.location(function + suffix)],
            (objects, size, 0, 0, 0),
            [profile.label("site", site + suffix), profile.label("module", module)],
        )
