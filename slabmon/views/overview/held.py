# SPDX-License-Identifier: Apache-2.0
"""Figures that are not shown, but kept over the window: what each cache holds, whenever it was
allocated, and how many allocations failed."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from slabmon.views.view import View

if TYPE_CHECKING:
    from slabmon.model import Snapshot

HELD = View(
    name="held",
    title="what each cache holds",
    rows=lambda snapshot: snapshot.caches,
    key=attrgetter("name"),
    columns=(),
    brief=(),
    figure="held_bytes",
)

_ALL, _QUIET = "all", "nowarn"


class _Failed(NamedTuple):
    """Failed allocations since tracking began: all, or those whose callers asked with
    __GFP_NOWARN, because they have another way."""

    name: str
    failed: int


def _rows(snapshot: Snapshot) -> Sequence[_Failed]:
    quiet = sum(row.failed for row in snapshot.modifiers if row.name == _QUIET)
    return (_Failed(_ALL, sum(row.failed for row in snapshot.gfp)), _Failed(_QUIET, quiet))


FAILURES = View(
    name="failures",
    title="allocations that failed",
    rows=_rows,
    key=attrgetter("name"),
    columns=(),
    brief=(),
    figure="failed",
)
