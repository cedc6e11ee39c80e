# SPDX-License-Identifier: Apache-2.0
"""The view of the kernel's own profile of allocations, beside what slabmon has tracked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from slabmon.base.units import BYTES, COUNT
from slabmon.views.columns import Kind, attribute, growth, label
from slabmon.views.view import Link, View

if TYPE_CHECKING:
    from slabmon.memory.reading import AllocTag
    from slabmon.model import Snapshot

NO_TAG = "[call sites of no line]"


@dataclass(frozen=True, kw_only=True)
class AllocInfoRow:
    """A line of the kernel's source, all its tags together: an inline function of a header has one
    in each file that includes it. `live_bytes` is what slabmon tracks of its whole function,
    `differs_bytes` what all lines of the function hold beyond that."""

    place: str
    function: str
    module: str | None
    bytes: int
    calls: int
    accurate: bool
    live_bytes: int
    differs_bytes: int


def rows(snapshot: Snapshot) -> tuple[AllocInfoRow, ...]:
    """Return the profile of a snapshot, and a row for call sites of which it has no line; () where
    the kernel has none."""
    tags = snapshot.memory.allocinfo if snapshot.memory else None
    if tags is None:
        return ()
    held, live = Counter[tuple[str | None, str]](), Counter[tuple[str | None, str]]()
    lines: dict[tuple[str, str, str | None], list[AllocTag]] = {}
    for tag in tags:
        held[tag.module, tag.function] += tag.bytes
        lines.setdefault((f"{tag.file}:{tag.line}", tag.function, tag.module), []).append(tag)
    for site in snapshot.sites:
        # A copy that the compiler made is of the same function: copy.isra.0, copy.part.1.
        live[site.module, site.symbol.partition(".")[0]] += site.live.bytes
    left = sum(size for key, size in live.items() if key not in held)
    return (
        *(
            AllocInfoRow(
                place=place,
                function=function,
                module=module,
                bytes=sum(tag.bytes for tag in of_line),
                calls=sum(tag.calls for tag in of_line),
                accurate=all(tag.accurate for tag in of_line),
                live_bytes=live[module, function],
                differs_bytes=held[module, function] - live[module, function],
            )
            for (place, function, module), of_line in lines.items()
        ),
        AllocInfoRow(
            place=NO_TAG,
            function=NO_TAG,
            module=None,
            bytes=0,
            calls=0,
            accurate=True,
            live_bytes=left,
            differs_bytes=-left,
        ),
    )


def _note(table: Any) -> str:
    if table.window.snapshot.memory and table.window.snapshot.memory.allocinfo is not None:
        return ""
    return "this kernel does not profile allocations: slabmon check says why (allocinfo)"


ALLOCINFO = View(
    name="allocinfo",
    title="the kernel's own profile of allocations since boot, by line of its source",
    rows=rows,
    key=attrgetter("place", "function", "module"),
    columns=(
        label("place", "File and line of the kernel's source; others: all but the 511 largest."),
        label("function", "Function that the line is in."),
        label("module", "Module of the function."),
        attribute(
            "bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Bytes allocated since boot and not freed, exactly, in slabs and in pages.",
        ),
        *growth("bytes"),
        attribute("calls", unit=COUNT, kind=Kind.GAUGE, help="Allocations not freed."),
        attribute("accurate", kind=Kind.FLAG, help="Whether the kernel counted all of them."),
        attribute(
            "live_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="Live memory that slabmon tracks of the whole function: slabs only, since "
            "tracking began, estimated unless it is exact.",
            title="live",
        ),
        attribute(
            "differs_bytes",
            unit=BYTES,
            kind=Kind.GAUGE,
            help="What all lines of the function hold beyond live_bytes: from before tracking "
            "began, in pages, of a function that the compiler put into others, or the error of "
            "the estimate.",
            title="differs",
        ),
    ),
    brief=(
        "place",
        "bytes",
        "growth_bytes_per_hour",
        "history",
        "calls",
        "live_bytes",
        "differs_bytes",
        "function",
        "module",
    ),
    sort="bytes",
    figure="bytes",
    links=(
        Link(
            title="sites",
            view="sites",
            where=(("symbol", attrgetter("function")), ("module", attrgetter("module"))),
        ),
    ),
    note=_note,
)
