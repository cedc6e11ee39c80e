# SPDX-License-Identifier: Apache-2.0
"""The line of views, with the present one highlighted; as many as fit around it."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

_ACTIVE = Style(reverse=True, bold=True)
_OTHER = Style()


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
        """Return names and texts of the views from the first that lets the active one fit."""
        labels = [
            (name, f"{number if number < 10 else ''}{' ' if number < 10 else ''}{name}")
            for number, name in enumerate(self._names)
        ]
        active = self._names.index(self._active)
        first = 0
        while sum(len(text) + 2 for _, text in labels[first : active + 1]) > self.size.width:
            first += 1
        return labels[first:]

    def render_line(self, y: int) -> Strip:
        """Return the line."""
        segments = []
        for name, text in self._visible():
            segments.append(Segment(f" {text} ", _ACTIVE if name == self._active else _OTHER))
        return Strip(segments).adjust_cell_length(self.size.width, _OTHER)

    def on_click(self, event: events.Click) -> None:
        """Report which view was clicked."""
        x = 0
        for name, text in self._visible():
            x += len(text) + 2
            if event.x < x:
                self.post_message(self.Chosen(name))
                return
