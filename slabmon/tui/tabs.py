# SPDX-License-Identifier: Apache-2.0
"""The line of views, with the present one highlighted; as many as fit around it, and marks where
there are more."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

_ACTIVE = Style(reverse=True, bold=True)
_OTHER = Style()
_MORE = "…"  # at an end of the line where there are more views


class Tabs(Widget):
    """A click selects a view."""

    DEFAULT_CSS = "Tabs { height: 1; }"

    class Chosen(Message):
        """The user clicked a view."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names
        self._active = names[0]

    def show(self, name: str) -> None:
        """Highlight this view."""
        self._active = name
        self.refresh()

    def _visible(self) -> list[tuple[str, str]]:
        """Return names and texts of the views that fit, from the first that lets the active one
        fit; of those to either side, one mark with the name of the nearest."""
        labels = [
            (name, f" {number} {name} " if number < 10 else f" {name} ")
            for number, name in enumerate(self._names)
        ]
        active, count = self._names.index(self._active), len(labels)

        def width(first: int, end: int) -> int:
            marks = (first > 0) + (end < count)
            return sum(len(text) for _, text in labels[first:end]) + marks * len(_MORE)

        first, end = 0, active + 1
        while first < active and width(first, end) > self.size.width:
            first += 1
        while end < count and width(first, end + 1) <= self.size.width:
            end += 1
        before = [(self._names[first - 1], _MORE)] if first else []
        after = [(self._names[end], _MORE)] if end < count else []
        return [*before, *labels[first:end], *after]

    def render_line(self, y: int) -> Strip:
        """Return the line."""
        segments = [
            Segment(text, _ACTIVE if name == self._active else _OTHER)
            for name, text in self._visible()
        ]
        return Strip(segments).adjust_cell_length(self.size.width, _OTHER)

    def on_click(self, event: events.Click) -> None:
        """Report which view was clicked."""
        x = 0
        for name, text in self._visible():
            x += len(text)
            if event.x < x:
                self.post_message(self.Chosen(name))
                return
