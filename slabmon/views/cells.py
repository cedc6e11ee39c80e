# SPDX-License-Identifier: Apache-2.0
"""Cells of a table as text. Upper bounds are marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slabmon.base.format import human
from slabmon.base.units import BYTES, Value
from slabmon.views.columns import ALIASES, GROWTH_ERROR, OBSERVABLE, Column, Kind

if TYPE_CHECKING:
    from slabmon.views.table import Order, Table

# Follows a live figure of objects that can be freed without an event: it is an upper bound.
UNSEEN_FREES = "?"
_NAMES_WIDTH = 20
_INDENT = "  "


def texts(table: Table, order: Order, columns: Sequence[Column]) -> list[list[str]]:
    """Return rows of a table as text; live figures that are upper bounds get a mark."""
    seen = [True] * len(order)
    if any(column.name == OBSERVABLE.name for column in table.view.columns):
        seen = table.values(OBSERVABLE.name)[order].tolist()
    cells = [
        [_shown(value, column, sure) for value, column in zip(row, columns, strict=True)]
        for row, sure in zip(table.cells(order, columns), seen, strict=True)
    ]
    for i, column in enumerate(columns):
        if column.depth:
            for row, depth in zip(cells, table.now(column.depth)[order].tolist(), strict=True):
                row[i] = _INDENT * depth + row[i]
    return cells


def shortened(names: str) -> str:
    """Return the first of comma-separated names and how many others there are, in about
    _NAMES_WIDTH characters."""
    parts = names.split(", ")
    shown = next(
        (n for n in range(len(parts), 1, -1) if len(", ".join(parts[:n])) <= _NAMES_WIDTH), 1
    )
    more = len(parts) - shown
    return ", ".join(parts[:shown]) + (f" +{more}" if more else "")


def _shown(value: Value, column: Column, sure: bool) -> str:
    if column.name == GROWTH_ERROR.name:
        return human(value, BYTES)  # an error has no sign
    if column.name == ALIASES and isinstance(value, str):
        return shortened(value)
    text = human(value, column.unit)
    doubtful = not sure and column.kind in (Kind.ESTIMATE, Kind.GROWTH) and text != "-"
    return text + UNSEEN_FREES if doubtful else text
