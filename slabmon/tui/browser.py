# SPDX-License-Identifier: Apache-2.0
"""State of top, independent of the terminal: view, order, filter, drill-down, export."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slabmon.base.arrays import I64, Bool
from slabmon.base.errors import UsageError
from slabmon.base.escape import printable
from slabmon.export.text import rows_to_json, to_csv
from slabmon.model import Mode
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import Column, Kind
from slabmon.views.drilldown import follow_link
from slabmon.views.filtering import find_column, mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

# slabtop's sort letters, each for the first of these columns that a view has. Letters of figures
# that slabmon does not have (objects and pages per slab, number of slabs) stand for its own.
SORT_LETTERS: dict[str, tuple[str, ...]] = {
    "a": ("active_objects", "live_objects", "resources", "allocs", "in_use"),
    "b": ("allocated_bytes", "bytes", "managed_bytes"),
    "c": ("slab_bytes", "bytes"),
    "l": ("live_bytes", "managed_bytes"),
    "v": ("allocs_per_second", "count_per_second"),
    "o": ("total_objects", "live_objects", "resources", "count", "objects"),
    "p": ("growth_bytes_per_hour",),
    "s": ("object_size", "le", "order"),
    "u": ("use_ratio", "waste_ratio"),
}

_NAME_COLUMNS = ("name", "release")
_EXPORTS = {".csv": to_csv, ".json": rows_to_json}


@dataclass
class Place:
    """A view with the user's order, filter and cursor.

    `siblings` are the views that the same row leads to, with their titles; `row` is the name of
    that row. `cursor` is the key of the selected row, `top` the position of the first visible one.
    """

    view: View
    row: str = ""
    siblings: tuple[tuple[str, View], ...] = ()
    sort: str = ""
    inverted: bool = False
    filter: str = ""
    cursor: Hashable = None
    top: int = 0


@dataclass
class Browser:
    """`window` is what is shown, `order` holds the numbers of the shown rows, in order.

    `places` is the way from a standing view to the present one, `roots` the standing views as they
    were left.
    """

    window: Window
    mark: Instant | None = None
    places: list[Place] = field(default_factory=list)
    roots: dict[str, Place] = field(default_factory=dict)
    table: Table = field(init=False)
    order: I64 = field(init=False)

    def __post_init__(self) -> None:
        self.show(next(iter(VIEWS)))

    @property
    def place(self) -> Place:
        """The present view."""
        return self.places[-1]

    def refresh(self, window: Window | None = None) -> None:
        """Recompute the table, from a new window if one is given."""
        self.window = window or self.window
        self.table = Table(self.place.view, self.window, self.mark)
        self._arrange()

    def _arrange(self) -> None:
        keep: Bool | None = None
        if self.place.filter:
            keep = mask(self.place.filter, self.table)
        names = {column.name for column in self.table.columns}
        sort = self.place.sort if self.place.sort in names else ""
        self.order = self.table.order(sort, self.place.inverted, keep)

    @property
    def sort(self) -> str:
        """Name of the column that rows are sorted by, "" for none."""
        return self.place.sort or self.place.view.sort

    def show(self, name: str) -> None:
        """Go to a standing view, as it was left."""
        self.places = [self.roots.setdefault(name, Place(VIEWS[name]))]
        self.refresh()

    def turn(self, step: int) -> None:
        """Go `step` views on: among those that the same row leads to, else among all."""
        place = self.place
        if not place.siblings:
            names = list(VIEWS)
            self.show(names[(names.index(place.view.name) + step) % len(names)])
            return
        at = [view.name for _, view in place.siblings].index(place.view.name)
        view = place.siblings[(at + step) % len(place.siblings)][1]
        self.places[-1] = Place(view, place.row, place.siblings)
        self.refresh()

    def sort_by(self, name: str) -> None:
        """Sort by a column (see find_column); the same column again reverses the order."""
        column = find_column(self.table.columns, name)
        self.place.inverted = column.name == self.sort and not self.place.inverted
        self.place.sort = column.name
        self._arrange()

    def sort_letter(self, letter: str) -> bool:
        """Sort by the column of a letter; return False if this view has none."""
        column = letter_column(self.place.view, letter)
        if column is None or column not in self.table.columns:
            return False
        self.sort_by(column.name)
        return True

    def filter(self, text: str) -> None:
        """Show only matching rows. An invalid filter raises UsageError and changes nothing."""
        mask(text, self.table)
        self.place.filter = text.strip()
        self._arrange()

    def enter(self, row: int) -> bool:
        """Go to what belongs to a row; return False if nothing does."""
        view = self.place.view
        subject = self.table.listing.rows[row]
        siblings = tuple(
            (link.title, follow_link(link, view, subject, VIEWS))
            for link in view.links
            if link.applies(subject)
        )
        if not siblings:
            return False
        self.place.cursor = self.table.key(row)
        # Start with one that is not empty, or will be filled; the others can be reached.
        uncounted = self.window.snapshot.census is None
        full = (v for _, v in siblings if len(Table(v, self.window)) or (v.census and uncounted))
        self.places.append(Place(next(full, siblings[0][1]), self.name(row), siblings))
        self.refresh()
        return True

    def back(self) -> bool:
        """Go back; return False at the top."""
        if len(self.places) == 1:
            return False
        self.places.pop()
        self.refresh()
        return True

    def name(self, row: int) -> str:
        """Return the name of a row."""
        labels = [
            column
            for column in self.table.columns
            if column.kind == Kind.LABEL and column.name in self.place.view.brief
        ]
        if not labels:
            return ""
        (cells,) = self.table.cells([row], labels)
        named = (
            value
            for column, value in zip(labels, cells, strict=True)
            if column.name in _NAME_COLUMNS and value
        )
        return printable(str(next(named, cells[0])))

    def states(self, rows: Sequence[int]) -> list[str]:
        """Return the states of these rows, "" where they have none."""
        if all(column.name != "state" for column in self.table.columns):
            return [""] * len(rows)
        return [state or "" for state in self.table.values("state")[rows].tolist()]

    @property
    def worst_state(self) -> str:
        """What the worst row needs: "crit", "warn", or "" for nothing."""
        states = self.states(range(len(self.table)))
        return next((state for state in ("crit", "warn") if state in states), "")

    def export(self, path: Path) -> str:
        """Write the shown rows, with all columns, to a new file; return a message for the user.

        The format follows from the file's name. Raises UsageError if it cannot be written.
        """
        if path.suffix not in _EXPORTS:
            raise UsageError("the file name must end in .csv or .json")
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(_EXPORTS[path.suffix](self.table, self.order))
        except FileExistsError:
            raise UsageError(f"{path} exists; choose another name") from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None
        return f"{len(self.order):,} rows written to {path}"

    @property
    def crumbs(self) -> str:
        """The way to the present place: view, row, view, row, view."""
        parts = [self.places[0].view.name]
        for place in self.places[1:]:
            titles = {view.name: title for title, view in place.siblings}
            parts += [place.row, titles[place.view.name]]
        return " > ".join(parts)

    @property
    def empty_reason(self) -> str:
        """Why no row is shown."""
        if self.place.filter and len(self.table):
            return "no row matches the filter"
        tracking = self.window.snapshot.tracking
        if self.place.view.details and tracking.mode != Mode.EXACT:
            return f"no live objects sampled (one sample per {tracking.sample_bytes:,} bytes)"
        return "no rows"


def letter_column(view: View, letter: str) -> Column | None:
    """Return the column of a sort letter in a view: `n` is the name, else see SORT_LETTERS."""
    if letter == "n":
        return next(
            (c for c in view.columns if c.kind == Kind.LABEL and c.name in _NAME_COLUMNS),
            view.columns[0],
        )
    names = {column.name: column for column in view.columns}
    return next((names[name] for name in SORT_LETTERS[letter] if name in names), None)
