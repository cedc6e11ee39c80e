# SPDX-License-Identifier: Apache-2.0
"""A profile for `go tool pprof`, Pyroscope and speedscope: profile.proto, gzip'ed."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from slabmon.model import CORE_KERNEL
from slabmon.report.paths import Paths, allocated_paths, allocated_stack_paths, live_paths
from slabmon.report.profile_proto import profile_class
from slabmon.report.weights import changed, live
from slabmon.store.recording import Moment

# As Go's heap profiles call them, so that the tools know what they are.
_VALUES = (
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("alloc_space_by_stack", "bytes"),
)
_DEFAULTS = {"live": "inuse_space", "allocated": "alloc_space", "stacked": "alloc_space_by_stack"}
LABELS = ("site", "cache", "process", "cgroup")


class _Profile:
    """A profile in the making: strings, functions, modules are numbered as they come."""

    def __init__(self) -> None:
        self.message: Any = profile_class()()
        self._strings = {"": 0}
        self._mappings: dict[str, int] = {}
        self._locations: dict[str, int] = {}

    def string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def location(self, label: str) -> int:
        """The location of `function` or `function [module]`. No address: none leaves slabmon."""
        found = self._locations.get(label)
        if found is None:
            found = self._locations[label] = len(self._locations) + 1
            name, _, module = label.partition(" [")
            mapping = self._mapping(module.removesuffix("]") if module else CORE_KERNEL)
            text = self.string(name)
            self.message.function.add(
                id=found,
                name=text,
                system_name=text,
                filename=self.string(module.removesuffix("]")),
            )
            self.message.location.add(id=found, mapping_id=mapping).line.add(function_id=found)
        return found

    def _mapping(self, module: str) -> int:
        found = self._mappings.get(module)
        if found is None:
            found = self._mappings[module] = len(self._mappings) + 1
            # has_functions: the tools need not look for symbols.
            self.message.mapping.add(id=found, filename=self.string(module), has_functions=True)
        return found

    def sample(
        self, stack: Sequence[int], values: Sequence[int], labels: Iterable[tuple[int, int]]
    ) -> None:
        """Locations, innermost first, and labels as pairs of strings. "" is no label."""
        added = self.message.sample.add(location_id=stack, value=values)
        for key, text in labels:
            if text:
                added.label.add(key=key, str=text)

    def finish(self) -> bytes:
        self.message.string_table.extend(self._strings)
        return gzip.compress(self.message.SerializeToString(), 6, mtime=0)


def to_pprof(
    now: Moment, before: Moment | None, value: str = "live", by: Sequence[str] = ()
) -> bytes:
    """Live memory by kernel stack (inuse_*), estimated; what was allocated by call site (alloc_*),
    exact and without callers; and by stack, estimated (alloc_space_by_stack). With `before`, what
    changed since then, which can be negative. `value` is what is shown first; `by` adds
    dimensions to the labels."""
    profile, snapshot = _Profile(), now.snapshot
    earlier = before.snapshot if before is not None else None
    labels = (*LABELS, *(name for name in by if name not in (*LABELS, "stack")))
    parts = live(snapshot) if earlier is None else changed(earlier, snapshot)
    _add_live(profile, live_paths(parts, ("stack", *labels)), labels)
    _add_allocated(profile, allocated_paths(snapshot, earlier))
    _add_stacked(profile, allocated_stack_paths(snapshot, earlier))
    message = profile.message
    for name, unit in _VALUES:
        message.sample_type.add(type=profile.string(name), unit=profile.string(unit))
    message.default_sample_type = profile.string(_DEFAULTS[value])
    message.period_type.type = profile.string("space")
    message.period_type.unit = profile.string("bytes")
    message.period = snapshot.tracking.sample_bytes or 1
    message.time_nanos = round(now.time * 1e9)
    start = earlier.tracking.seconds if earlier is not None else 0.0
    message.duration_nanos = round((snapshot.tracking.seconds - start) * 1e9)
    host = snapshot.host
    message.comment.append(profile.string(f"Linux {host.release} {host.machine}, slab memory"))
    return profile.finish()


def _add_live(profile: _Profile, paths: Paths, labels: Sequence[str]) -> None:
    names = [frame.name for frame in paths.frames]
    keys = [profile.string(label) for label in labels]
    count = len(keys)
    location = cache(lambda frame: profile.location(names[frame]))
    string = cache(lambda frame: profile.string(names[frame]))
    for path, size, objects in zip(
        paths.paths, paths.bytes.tolist(), paths.objects.tolist(), strict=True
    ):
        stack = list(map(location, path[-count - 1 :: -1]))
        texts = map(string, path[-count:])
        profile.sample(stack, (0, 0, objects, size, 0), zip(keys, texts, strict=True))


def _add_stacked(profile: _Profile, paths: Paths) -> None:
    names = [frame.name for frame in paths.frames]
    location = cache(lambda frame: profile.location(names[frame]))
    for path, size in zip(paths.paths, paths.bytes.tolist(), strict=True):
        profile.sample(list(map(location, path[::-1])), (0, 0, 0, 0, size), ())


def _add_allocated(profile: _Profile, paths: Paths) -> None:
    key = profile.string("site")
    for path, size, objects in zip(
        paths.paths, paths.bytes.tolist(), paths.objects.tolist(), strict=True
    ):
        module, function, site = (paths.frames[frame].name for frame in path)
        suffix = "" if module == CORE_KERNEL else f" [{module}]"
        label = profile.string(site + suffix)
        profile.sample(
            [profile.location(function + suffix)], (objects, size, 0, 0, 0), [(key, label)]
        )
