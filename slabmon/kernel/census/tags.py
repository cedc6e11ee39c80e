# SPDX-License-Identifier: Apache-2.0
"""The line of code that allocated an object, where the kernel has allocation profiling on: each
object's extension refers to the tag of its call site (lib/alloc_tag.c, include/linux/codetag.h;
6.10+)."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import U64
from slabmon.base.escape import escape
from slabmon.census.model import Certainty, OwnedObjects
from slabmon.kernel.census.extensions import count_words
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading

NEEDED = (
    "ext.tag",
    "codetag.lineno",
    "codetag.modname",
    "codetag.function",
    "codetag.filename",
)
_EMPTY = 1  # CODETAG_EMPTY: an object that is not to be counted
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_STRING_BYTES = 128


def owner_rows(memory: Memory, layout: Layout, read: Reading) -> tuple[OwnedObjects, ...]:
    """Return a row for each call site and cache, largest first."""
    if not layout.has(*NEEDED):
        return ()
    slabs = read.slabs
    rows = np.flatnonzero(slabs.exts != 0)
    member = np.full(len(rows), layout["ext.tag"])
    if "slab.exts_in_object" in layout:
        if not layout.tagged:
            return ()
        member = np.where(slabs.charged[rows], layout.sizes["slabobj_ext"], 0)
    counts = count_words(memory, read, rows, member, _ALL)
    tags = np.array(sorted({tag for tag, _ in counts if tag > _EMPTY}), np.uint64)
    sites = dict(zip(tags.tolist(), _sites(memory, layout, tags), strict=True))
    sizes, names = slabs.caches.size.tolist(), slabs.caches.name
    result = (
        OwnedObjects(
            cache=names[cache],
            module=sites[tag][0],
            signature=sites[tag][1],
            certainty=Certainty.EXACT,
            objects=count,
            bytes=count * sizes[cache],
        )
        for (tag, cache), count in counts.items()
        if tag in sites
    )
    return tuple(sorted(result, key=lambda row: (-row.bytes, row.cache, row.signature)))


def _sites(memory: Memory, layout: Layout, tags: U64) -> list[tuple[str | None, str]]:
    """Return module and `file:line function` of each tag."""
    places = tags + np.uint64(layout["codetag.lineno"])
    lines = memory.gather(places, 4).view(np.uint32)[:, 0].tolist()
    modules, functions, files = (
        _strings(memory, memory.words(tags + np.uint64(layout[f"codetag.{name}"])))
        for name in ("modname", "function", "filename")
    )
    return [
        (module or None, f"{file}:{line} {function}")
        for module, file, line, function in zip(modules, files, lines, functions, strict=True)
    ]


def _strings(memory: Memory, addresses: U64) -> list[str]:
    raw = memory.gather(addresses, _STRING_BYTES)
    return [escape(string.tobytes().partition(b"\0")[0]) for string in raw]
