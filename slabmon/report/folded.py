# SPDX-License-Identifier: Apache-2.0
"""Folded stacks, as flamegraph.pl reads them: one path per line, outermost first, and its bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from slabmon.analysis.paths import (
    BY_STACK,
    Paths,
    allocated_paths,
    allocated_stack_paths,
    live_paths,
)
from slabmon.analysis.weights import live
from slabmon.store.recording import TimedSnapshot

_SPECIAL = re.compile(r"[\\;\s]")
_IN_MODULE = re.compile(r" (\[[^\[\]]*\])$")


def escaped(name: str) -> str:
    r"""Return a name with semicolons, white space and backslashes as \x3b, \x20, \x5c and so on.
    `function [module]` becomes function_[module], as in perf's scripts."""
    name = _IN_MODULE.sub(r"_\1", name)
    return _SPECIAL.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), name)


def _texts(paths: Paths) -> Iterator[tuple[str, int]]:
    names = [escaped(frame.name) for frame in paths.frames]
    for path, size in zip(paths.paths, paths.bytes.tolist(), strict=True):
        yield ";".join(names[frame] for frame in path), size


def to_folded(
    now: TimedSnapshot, before: TimedSnapshot | None, value: str, by: Sequence[str]
) -> str:
    """Return bytes by path.

    `value` is live, allocated (by call site) or stacked (allocated, by stack). `by` holds the
    dimensions of live memory, () for stacks and caches. With `before`, allocated bytes are those
    since then, and live memory has two numbers, then and now, as difffolded.pl writes them.
    """
    if value != "live":
        make = allocated_paths if value == "allocated" else allocated_stack_paths
        paths = make(now.snapshot, before.snapshot if before else None)
        return _lines((path, str(size)) for path, size in _texts(paths))
    ends = [
        dict(_texts(live_paths(live(moment.snapshot), by or BY_STACK)))
        for moment in (before, now)
        if moment is not None
    ]
    union = dict.fromkeys(path for end in ends for path in end)
    return _lines((path, " ".join(str(end.get(path, 0)) for end in ends)) for path in union)


def _lines(rows: Iterator[tuple[str, str]]) -> str:
    return "".join(f"{path} {counts}\n" for path, counts in sorted(rows))
