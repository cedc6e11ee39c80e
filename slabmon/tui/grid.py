# SPDX-License-Identifier: Apache-2.0
"""The table on the screen: visible rows only, a cursor, keys and mouse. Text is never markup."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from slabmon.tui.browser import Browser
from slabmon.tui.layout import Layout, choices, lay_out

_HEADING = Style(bold=True, underline=True)
_CURSOR = Style(reverse=True)
_PLAIN = Style()
# Rows by their state, in the terminal's own colours.
_STATES = {"warn": Style(color="yellow"), "crit": Style(color="red", bold=True)}


class Grid(Widget, can_focus=True):
    """Shows the browser's place, which holds cursor and scroll position."""

    DEFAULT_CSS = "Grid { height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("home,g", "move(-1000000000)", "First", show=False),
        Binding("end,G", "move(1000000000)", "Last", show=False),
        Binding("right", "skip(1)", "Columns right", show=False),
        Binding("left", "skip(-1)", "Columns left", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """The user opened the row under the cursor."""

    class HeadingClicked(Message):
        """The user clicked a column's heading."""

        def __init__(self, column: str) -> None:
            self.column = column
            super().__init__()

    class Drawn(Message):
        """The range of visible rows may have changed."""

    def __init__(self, browser: Browser) -> None:
        super().__init__()
        self.browser = browser
        self._layout = Layout((), (), "", ())
        self._states: list[str] = []
        self._widths: dict[str, dict[str, int]] = {}
        self._skip = 0
        self._at = 0

    @property
    def row(self) -> int | None:
        """Number of the row under the cursor, None if there is no row."""
        order = self.browser.order
        return int(order[self._at]) if len(order) else None

    @property
    def visible_rows(self) -> tuple[int, int]:
        """Positions of the first and the last visible row, from 1."""
        top = self.browser.place.top
        return min(top + 1, len(self.browser.order)), top + len(self._layout.rows)

    def redraw(self) -> None:
        """Show what the browser holds now. The cursor follows its row; at the top it stays there,
        whichever row comes first."""
        browser, place = self.browser, self.browser.place
        order, height = browser.order, max(1, self.size.height - 1)
        if place.cursor is not None:
            number = browser.table.listing.position.get(place.cursor, -1)
            self._at = next(iter(np.flatnonzero(order == number).tolist()), self._at)
        self._at = max(0, min(self._at, len(order) - 1))
        place.cursor = browser.table.key(int(order[self._at])) if self._at else None
        place.top = max(0, min(place.top, len(order) - height))
        if self._at < place.top:
            place.top = self._at
        elif self._at >= place.top + height:
            place.top = self._at - height + 1
        widths = self._widths.setdefault(f"{place.view.name} {self.size.width}", {})
        visible = order[place.top : place.top + height].tolist()
        self._states = browser.states(visible)
        self._layout = lay_out(
            browser.table,
            visible,
            self.size.width,
            self._skip,
            (browser.sort, place.inverted),
            widths,
        )
        self.refresh()
        self.post_message(self.Drawn())

    def arrive(self) -> None:
        """Show another place, with its own cursor and from the first column."""
        self._skip = 0
        if self.browser.place.cursor is None:
            self._at = 0
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """Return one line of the screen."""
        width = self.size.width
        if y == 0:
            text, style = self._layout.heading, _HEADING
        elif y - 1 < len(self._layout.rows):
            text = self._layout.rows[y - 1]
            style = _STATES.get(self._states[y - 1], _PLAIN)
            if self.browser.place.top + y - 1 == self._at:
                style += _CURSOR
        else:
            text, style = self.browser.empty_reason if y == 1 else "", _PLAIN
        return Strip([Segment(text, style)]).adjust_cell_length(width, _PLAIN)

    def on_resize(self) -> None:
        """Redraw at the new size."""
        self.redraw()

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._at = max(0, min(self._at + rows, len(self.browser.order) - 1))
        self.browser.place.cursor = None
        self.redraw()

    def action_page(self, pages: int) -> None:
        """Move the cursor by screens."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_skip(self, columns: int) -> None:
        """Scroll columns; the first stays."""
        most = len(choices(self.browser.table)) - 2
        self._skip = max(0, min(self._skip + columns, most))
        self.redraw()

    def action_open(self) -> None:
        """Open the row."""
        if self.row is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading, select a row, or open the selected one."""
        if event.y == 0:
            column = self._layout.column_at(event.x)
            if column is not None:
                self.post_message(self.HeadingClicked(column.name))
        elif event.y - 1 < len(self._layout.rows):
            place = self.browser.place.top + event.y - 1
            if place == self._at or event.chain > 1:
                self.action_open()
            else:
                self.action_move(place - self._at)

    def on_mouse_scroll_down(self) -> None:
        """Scroll."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Scroll."""
        self.action_move(-3)
