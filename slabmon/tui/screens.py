# SPDX-License-Identifier: Apache-2.0
"""Screens above the table: help, and all figures of one row."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static


class TextScreen(ModalScreen[None]):
    """Scrollable plain text."""

    DEFAULT_CSS = """
    TextScreen { align: center middle; }
    #text { width: 90%; height: 90%; border: round; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "app.pop_screen", "Close"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("g", "end(False)", "First", show=False),
        Binding("G", "end(True)", "Last", show=False),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        with VerticalScroll(id="text"):
            yield Static(self._text, markup=False)
        yield Footer()

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_end(self, last: bool) -> None:
        """Scroll to the first or the last line."""
        scroll = self.query_one(VerticalScroll)
        if last:
            scroll.scroll_end(animate=False)
        else:
            scroll.scroll_home(animate=False)
