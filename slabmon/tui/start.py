# SPDX-License-Identifier: Apache-2.0
"""The initial state of top, from the command line."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.base.errors import UsageError
from slabmon.tui.browser import SORT_LETTERS, Browser, letter_column
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import Column
from slabmon.views.filtering import find_column
from slabmon.views.window import Window


@dataclass(frozen=True)
class Start:
    """Options of the command line.

    delay: seconds between readings.
    count: number of readings, None for no limit.
    view: name of the first view.
    sort: a column or a sort letter, reversed with a leading `-`; "" for the view's own order.
    filter: see views.filtering.
    """

    delay: float
    count: int | None
    view: str
    sort: str
    filter: str

    def browser(self, window: Window) -> Browser:
        """Return a browser in this state. Raises UsageError for an unknown column or bad filter."""
        browser = Browser(window)
        browser.show(self.view)
        if self.sort:
            browser.place.sort = self._column().name
            browser.place.inverted = self.sort.startswith("-")
        browser.place.filter = self.filter.strip()
        browser.refresh()
        return browser

    def check(self) -> None:
        """Raise UsageError for an unknown column, before anything is loaded."""
        if self.sort:
            self._column()

    def _column(self) -> Column:
        name = self.sort.removeprefix("-")
        if name == "n" or name in SORT_LETTERS:
            column = letter_column(VIEWS[self.view], name)
            if column is None:
                raise UsageError(f"-s {name}: the view {self.view} has no such column")
            return column
        return find_column(VIEWS[self.view].columns, name)
