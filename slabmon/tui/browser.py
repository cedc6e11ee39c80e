# SPDX-License-Identifier: Apache-2.0
"""What top shows and where one is in it, without a terminal: views, order, filter, drill-down."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.escape import printable
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import Column, Kind
from slabmon.views.drilldown import follow_link
from slabmon.views.filtering import find_column, mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

# slabtop's sort letters, and the first of these columns that a view has. Letters for what slabmon
# does not know (objects and pages per slab, slab counts) are given to its own figures.
SORT_LETTERS: dict[str, tuple[str, ...]] = {
    "a": ("active_objects", "live_objects", "resources", "allocs"),
    "b": ("allocated_bytes", "bytes", "managed_bytes"),
    "c": ("slab_bytes", "bytes"),
    "l": ("live_bytes", "managed_bytes"),
    "v": ("allocs_per_second", "count_per_second"),
    "o": ("total_objects", "live_objects", "resources", "count"),
    "p": ("growth_bytes_per_hour",),
    "s": ("object_size", "le", "order"),
    "u": ("use_ratio", "waste_ratio"),
}


@dataclass
class Place:
    """One view as it is looked at. `siblings` are the views that the same row leads to, with
    their titles; `row` is the name of that row."""

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
    """`window` is what is shown; `order` the numbers of the rows shown, in their order."""

    window: Window
    mark: Instant | None = None
    places: list[Place] = field(default_factory=list)
    roots: dict[str, Place] = field(default_factory=dict)
    table: Table = field(init=False)
    order: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.show(next(iter(VIEWS)))

    @property
    def place(self) -> Place:
        """The view looked at."""
        return self.places[-1]

    def refresh(self, window: Window | None = None) -> None:
        """Computes the table anew, from this window on."""
        self.window = window or self.window
        self.table = Table(self.place.view, self.window, self.mark)
        self._arrange()

    def _arrange(self) -> None:
        keep: np.ndarray | None = None
        if self.place.filter:
            keep = mask(self.place.filter, self.table)
        past = {column.name for column in self.table.columns}
        sort = self.place.sort if self.place.sort in past else ""
        self.order = self.table.order(sort, self.place.inverted, keep)

    @property
    def sort(self) -> str:
        """Name of the column that rows are ordered by, "" for none."""
        return self.place.sort or self.place.view.sort

    def show(self, name: str) -> None:
        """Goes to a standing view, as it was left."""
        self.places = [self.roots.setdefault(name, Place(VIEWS[name]))]
        self.refresh()

    def turn(self, step: int) -> None:
        """The next view: among those that the same row leads to, else of all."""
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
        """Orders by a column (see find_column); the same one again inverts."""
        column = find_column(self.table.columns, name)
        self.place.inverted = column.name == self.sort and not self.place.inverted
        self.place.sort = column.name
        self._arrange()

    def sort_letter(self, letter: str) -> bool:
        """Orders by what this letter means in this view; False if it means nothing."""
        column = letter_column(self.place.view, letter)
        if column is None or column not in self.table.columns:
            return False
        self.sort_by(column.name)
        return True

    def filter(self, text: str) -> None:
        """Shows only rows that match. Raises UsageError and changes nothing if it cannot."""
        mask(text, self.table)
        self.place.filter = text.strip()
        self._arrange()

    def enter(self, row: int) -> bool:
        """Goes to what belongs to a row; False if nothing does."""
        view = self.place.view
        subject = self.table.listing.rows[row]
        found = tuple((link.title, follow_link(link, view, subject, VIEWS)) for link in view.links)
        if not found:
            return False
        self.place.cursor = self.table.key(row)
        # What is empty can be seen all the same, but not at first.
        full = (v for _, v in found if len(Table(v, self.window)))
        self.places.append(Place(next(full, found[0][1]), self.name(row), found))
        self.refresh()
        return True

    def back(self) -> bool:
        """Back to where one came from; False at the top."""
        if len(self.places) == 1:
            return False
        self.places.pop()
        self.refresh()
        return True

    def name(self, row: int) -> str:
        """What a row is called."""
        labels = [
            column
            for column in self.table.columns
            if column.kind == Kind.LABEL and column.name in self.place.view.brief
        ]
        (cells,) = self.table.cells([row], labels)
        found = (
            ""
            if not cells
            else next(
                (
                    str(value)
                    for column, value in zip(labels, cells, strict=True)
                    if column.name in ("name", "release") and value
                ),
                str(cells[0]),
            )
        )
        return printable(found)

    @property
    def crumbs(self) -> str:
        """The way here: view, row, view, row, view."""
        parts = [self.places[0].view.name]
        for place in self.places[1:]:
            titles = {view.name: title for title, view in place.siblings}
            parts += [place.row, titles[place.view.name]]
        return " > ".join(parts)

    @property
    def nothing(self) -> str:
        """Why no row is shown."""
        if self.place.filter and len(self.table):
            return "no row matches the filter"
        tracking = self.window.snapshot.tracking
        if self.place.view.details and tracking.mode != "exact":
            return f"no live object was sampled here, one in {tracking.sample_bytes:,} bytes is"
        return "nothing here"


def letter_column(view: View, letter: str) -> Column | None:
    """The column that a sort letter means in a view: `n` the name, else see SORT_LETTERS."""
    if letter == "n":
        return next(
            (c for c in view.columns if c.kind == Kind.LABEL and c.name in ("name", "release")),
            view.columns[0],
        )
    names = {column.name: column for column in view.columns}
    return next((names[name] for name in SORT_LETTERS[letter] if name in names), None)
