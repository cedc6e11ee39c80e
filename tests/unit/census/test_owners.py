# SPDX-License-Identifier: Apache-2.0
"""Owners summed by type and module."""

from __future__ import annotations

from slabmon.census.model import Certainty, OwnedObjects
from slabmon.census.owners import by_module, by_type


def row(
    cache: str,
    size: int,
    *,
    kind: str | None = None,
    module: str | None = None,
    certainty: Certainty = Certainty.LIKELY,
) -> OwnedObjects:
    return OwnedObjects(
        cache=cache,
        type=kind,
        module=module,
        signature="-",
        certainty=certainty,
        objects=size // 8,
        objects_stderr=3.0,
        bytes=size,
    )


ROWS = (
    row("filp", 80, kind="file", certainty=Certainty.EXACT),
    row("kmalloc-8", 16, kind="file"),
    row("kmalloc-8", 160, module="ext4"),
    row("kmalloc-16", 800, module="ext4"),
    row("kmalloc-16", 40, certainty=Certainty.UNKNOWN),
    row("dentry", 8, kind="dentry", certainty=Certainty.EXACT),
)


def test_a_struct_is_one_row_as_sure_as_its_least_sure_part() -> None:
    rows = by_type(ROWS)
    assert [(r.type, r.certainty, r.objects, r.bytes) for r in rows] == [
        (None, Certainty.LIKELY, 120, 960),
        ("file", Certainty.LIKELY, 12, 96),
        (None, Certainty.UNKNOWN, 5, 40),
        ("dentry", Certainty.EXACT, 1, 8),
    ]
    assert rows[1].cache == "filp, kmalloc-8"
    assert rows[1].objects_stderr == 18**0.5


def test_a_module_is_one_row_with_its_largest_caches_first() -> None:
    first = by_module(ROWS)[0]
    assert (first.module, first.bytes, first.cache) == ("ext4", 960, "kmalloc-16, kmalloc-8")
