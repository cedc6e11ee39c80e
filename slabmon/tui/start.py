# SPDX-License-Identifier: Apache-2.0
"""How top begins: what the command line asks for."""

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
    """`delay` in seconds between readings; `count` of readings, None for no end; `sort` a column
    or a sort letter, with `-` before it inverted, "" for the view's own."""

    delay: float
    count: int | None
    view: str
    sort: str
    filter: str

    def browser(self, window: Window) -> Browser:
        """A browser set up so. Raises UsageError if there is no such column."""
        browser = Browser(window)
        browser.show(self.view)
        if self.sort:
            browser.place.sort = self._column().name
            browser.place.inverted = self.sort.startswith("-")
        browser.place.filter = self.filter.strip()
        browser.refresh()
        return browser

    def check(self) -> None:
        """Raises UsageError if there is no such column; before anything is loaded."""
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
