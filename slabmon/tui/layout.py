# SPDX-License-Identifier: Apache-2.0
"""Layout of the table: which columns fit, how wide they are, and the text of the visible rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from slabmon.base.format import TREND_WIDTH
from slabmon.views.cells import texts
from slabmon.views.columns import Column, Kind
from slabmon.views.table import Table

GAP = 2
_MIN_LABEL = 20
_MIN_SENTENCE = 40
DESCENDING, ASCENDING = "▼", "▲"


@dataclass(frozen=True)
class Layout:
    """`starts` holds the screen column at which each of `columns` begins, `rows` one line of text
    per visible row; lines are as wide as the screen."""

    columns: tuple[Column, ...]
    starts: tuple[int, ...]
    heading: str
    rows: tuple[str, ...]

    def column_at(self, x: int) -> Column | None:
        """Return the column shown at screen column `x`."""
        before = [
            column for column, start in zip(self.columns, self.starts, strict=True) if start <= x
        ]
        return before[-1] if before else None


def choices(table: Table) -> tuple[Column, ...]:
    """Return all columns, the brief ones first."""
    brief = table.brief
    return brief + tuple(column for column in table.columns if column not in brief)


def lay_out(
    table: Table,
    order: Sequence[int],
    width: int,
    skip: int = 0,
    sort: tuple[str, bool] = ("", False),
    known: dict[str, int] | None = None,
) -> Layout:
    """Lay out the rows with these numbers in `width` cells.

    Shows the first column, then as many as fit after skipping `skip`; the column that rows are
    sorted by is always among them unless columns were skipped. `sort` is that column, which gets an
    arrow, and whether the order is reversed. `known` holds widths by column between calls, so that
    columns do not jump as values change.
    """
    known = {} if known is None else known
    first, *columns = choices(table)
    layout = _fit(table, order, width, [first, *columns[skip:]], sort, known)
    if not skip and _cramped(layout, width):
        columns.sort(key=lambda column: column.past)
        layout = _fit(table, order, width, [first, *columns], sort, known)
    ordered = [column for column in columns if column.name == sort[0]]
    if skip or not ordered or ordered[0] in layout.columns:
        return layout
    unsorted = [column for column in columns if column not in ordered]
    return _fit(table, order, width, [first, *ordered, *unsorted], sort, known)


def _cramped(layout: Layout, width: int) -> bool:
    """Whether a column of sentences has little room, while one of the past could stand behind."""
    starts = {c: at for c, at in zip(layout.columns, layout.starts, strict=True) if c.wide}
    past = any(column.past for column in layout.columns)
    return past and any(width - at < _MIN_SENTENCE for at in starts.values())


def _fit(
    table: Table,
    order: Sequence[int],
    width: int,
    shown: Sequence[Column],
    sort: tuple[str, bool],
    known: dict[str, int],
) -> Layout:
    cap = max(_MIN_LABEL, width * 3 // 10 if any(c.wide for c in shown) else width * 2 // 5)
    columns: list[Column] = []
    widths: list[int] = []
    lines: list[list[str]] = []
    left = width
    for column in shown:
        cells = [row[0] for row in texts(table, order, [column])]
        heading = _heading(column, sort)
        wide = max([cell_len(heading), *(cell_len(cell) for cell in cells)])
        if column.kind == Kind.HISTORY:
            wide = max(wide, TREND_WIDTH)
        wide = known[column.name] = max(wide, known.get(column.name, 0))
        if not column.unit:
            last = column.wide or (column is shown[-1] and len(columns) > 1)
            wide = min(wide, left if last else cap)
        if columns and wide > left:
            break
        columns.append(column)
        widths.append(min(wide, left))
        lines.append([_fitted(cell, column, widths[-1]) for cell in (heading, *cells)])
        left -= wide + GAP
    starts = [sum(widths[:i]) + GAP * i for i in range(len(widths))]
    whole = [set_cell_size((" " * GAP).join(row), width) for row in zip(*lines, strict=True)]
    return Layout(tuple(columns), tuple(starts), whole[0], tuple(whole[1:]))


def _heading(column: Column, sort: tuple[str, bool]) -> str:
    name, inverted = sort
    if column.name != name:
        return column.heading
    up = inverted if column.unit else not inverted
    return column.heading + (ASCENDING if up else DESCENDING)


def _fitted(cell: str, column: Column, width: int) -> str:
    """Fit a cell to `width`, with an ellipsis where it is cut. A stack is cut at the start, because
    its end is the allocating function."""
    size = cell_len(cell)
    if size > width:
        if column.name == "stack":
            cell = cell[len(cell) - width + 1 :]
            while cell_len(cell) > width - 1:
                cell = cell[1:]
            return set_cell_size("…" + cell, width)
        return set_cell_size(set_cell_size(cell, width - 1).rstrip() + "…", width)
    blank = " " * (width - size)
    return blank + cell if column.unit and column.kind != Kind.HISTORY else cell + blank
