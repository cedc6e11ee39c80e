# SPDX-License-Identifier: Apache-2.0
"""Folded stacks: one path per line, outermost first, and its bytes, as flamegraph.pl reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from slabmon.report.paths import BY_STACK, Paths, allocated_paths, allocated_stack_paths, live_paths
from slabmon.report.weights import live
from slabmon.store.recording import Moment

_SPECIAL = re.compile(r"[\\;\s]")
_IN_MODULE = re.compile(r" (\[[^\[\]]*\])$")


def escaped(name: str) -> str:
    r"""A name without semicolons and white space: those are \x3b and so on, and a backslash is
    \x5c. `function [module]` is written function_[module], as perf's scripts do."""
    name = _IN_MODULE.sub(r"_\1", name)
    return _SPECIAL.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), name)


def _texts(paths: Paths) -> Iterator[tuple[str, int]]:
    names = [escaped(frame.name) for frame in paths.frames]
    for path, size in zip(paths.paths, paths.bytes.tolist(), strict=True):
        yield ";".join(names[frame] for frame in path), size


def to_folded(now: Moment, before: Moment | None, value: str, by: Sequence[str]) -> str:
    """Bytes of one moment by path; with `before` those that were allocated since then, or what
    was live then and what is live now, as two numbers (as difffolded.pl writes them).

    `value` is live, allocated (by call site) or stacked (allocated by stack); `by` the dimensions
    of live memory, () for stacks and caches.
    """
    if value != "live":
        make = allocated_paths if value == "allocated" else allocated_stack_paths
        found = make(now.snapshot, before.snapshot if before else None)
        return _lines((path, str(size)) for path, size in _texts(found))
    ends = [
        dict(_texts(live_paths(live(moment.snapshot), by or BY_STACK)))
        for moment in (before, now)
        if moment is not None
    ]
    paths = dict.fromkeys(path for end in ends for path in end)
    return _lines((path, " ".join(str(end.get(path, 0)) for end in ends)) for path in paths)


def _lines(rows: Iterator[tuple[str, str]]) -> str:
    return "".join(f"{path} {counts}\n" for path, counts in sorted(rows))
