# SPDX-License-Identifier: Apache-2.0
"""The input line for a filter, a file or a time."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Static

_HINTS = {
    "filter": "kmalloc live > 1M /regex/ module ~ nvme",
    "export": "NAME.csv or NAME.json",
    "jump": "03:00, 2026-01-31 03:00, -5m, now",
}


class Prompt(Horizontal):
    """Hidden until it asks. `kind` is "filter", "export" or "jump" while it does, else ""."""

    DEFAULT_CSS = """
    Prompt { display: none; height: 1; }
    Prompt.open { display: block; }
    Prompt Static { width: auto; text-style: bold; }
    Prompt Input { width: 1fr; }
    """

    kind = ""

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield Static(markup=False)
        yield Input(compact=True)

    def ask(self, kind: str, value: str) -> None:
        """Open with this text."""
        self.kind = kind
        self.query_one(Static).update(f"{kind}: ")
        field = self.query_one(Input)
        field.value = value
        field.placeholder = _HINTS[kind]
        self.add_class("open")
        field.focus()

    def close(self) -> None:
        """Hide it."""
        self.kind = ""
        self.remove_class("open")
