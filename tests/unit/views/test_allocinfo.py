# SPDX-License-Identifier: Apache-2.0
"""The kernel's profile of allocations beside what slabmon tracks, as view, metrics and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from slabmon.export.memory import from_json, to_json
from slabmon.export.metrics import MEMORY
from slabmon.export.series import MAX_LINES, OTHER
from slabmon.memory.ledger import account
from slabmon.memory.reading import AllocTag, MemoryReading
from slabmon.model import Live, Snapshot
from slabmon.views.allocinfo import ALLOCINFO, NO_TAG, rows
from tests.support.builders import site, snapshot

TAGS = (
    AllocTag(file="a.c", line=3, function="take", module="net", bytes=7000, calls=7),
    AllocTag(file="a.c", line=9, function="take", module="net", bytes=1000, calls=1),
    AllocTag(file="b.c", line=4, function="keep", bytes=500, calls=5, accurate=False),
)


def shown(tags: tuple[AllocTag, ...] | None) -> Snapshot:
    reading = MemoryReading(taken=1.0, amounts={"MemTotal": 1 << 30}, allocinfo=tags)
    return snapshot(
        memory=reading,
        sites=(
            site("take.isra.0", 16, "net", live=Live(3, 3000)),
            site("take", 64, "net", live=Live(1, 2000)),
            site("keep", 8, None, live=Live(1, 500)),
            site("inlined", 8, None, live=Live(1, 300)),
        ),
    )


def test_each_line_has_what_differs_from_what_is_tracked_of_its_function() -> None:
    first, second, third, rest = rows(shown(TAGS))
    assert (first.place, first.bytes, first.calls) == ("a.c:3", 7000, 7)
    assert (first.live_bytes, first.differs_bytes) == (5000, 3000)
    assert (second.live_bytes, second.differs_bytes) == (5000, 3000), "of the whole function"
    assert (third.live_bytes, third.differs_bytes, third.accurate) == (500, 0, False)
    assert (rest.place, rest.live_bytes, rest.differs_bytes) == (NO_TAG, 300, -300)


def test_each_row_has_a_key_of_its_own() -> None:
    """A line of a header has a tag in each file that includes it, and two functions or modules can
    have the same one."""
    line = AllocTag(file="include/a.h", line=3, function="take", module="net", bytes=100, calls=1)
    tags = (
        line,
        replace(line, module="raid"),
        replace(line, function="take_more"),
        replace(line, bytes=20, calls=2, accurate=False),
    )
    found = rows(shown(tags))
    assert len({ALLOCINFO.key(row) for row in found}) == len(found) == 4
    assert (found[0].bytes, found[0].calls, found[0].accurate) == (120, 3, False)
    assert (found[1].bytes, found[2].bytes) == (100, 100)


def test_a_kernel_without_a_profile_has_no_rows() -> None:
    assert rows(shown(None)) == ()
    assert rows(snapshot(memory=None)) == ()
    assert ALLOCINFO.sort == "bytes"


def test_json_has_every_line() -> None:
    reading = shown(TAGS).memory
    assert reading is not None
    ledger = account(reading)
    document = json.loads(to_json(ledger))
    assert document["allocinfo"][0] == {
        "file": "a.c",
        "line": 3,
        "function": "take",
        "module": "net",
        "bytes": 7000,
        "calls": 7,
        "accurate": True,
    }
    assert from_json(to_json(ledger).encode(), "here").allocinfo == TAGS


def test_metrics_have_the_largest_lines_and_the_sum_of_the_others() -> None:
    many = tuple(
        AllocTag(file="c.c", line=i + 1, function="f", bytes=1000 - i, calls=1)
        for i in range(MAX_LINES + 5)
    )
    reading = MemoryReading(taken=1.0, amounts={"MemTotal": 1 << 30}, allocinfo=many)
    (metric,) = (m for m in MEMORY if m.name.endswith("allocinfo_bytes"))
    found = dict(metric.rows(account(reading)))
    assert len(found) == MAX_LINES + 1
    assert found["c.c:1", "f", ""] == 1000
    assert found[OTHER, OTHER, OTHER] == sum(1000 - MAX_LINES - i for i in range(5))
    assert sum(found.values()) == sum(tag.bytes for tag in many)
