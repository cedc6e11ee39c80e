# SPDX-License-Identifier: Apache-2.0
"""Keys of the application (those of the table are in grid), and what the command palette offers."""

from __future__ import annotations

from textual.binding import Binding, BindingType

BINDINGS: tuple[BindingType, ...] = (
    Binding("slash", "prompt('filter')", "Filter", key_display="/"),
    Binding("escape,backspace", "back", "Back"),
    Binding("space", "pause", "Pause", key_display="space"),
    Binding("m", "mark(True)", "Mark"),
    Binding("e", "prompt('export')", "Export"),
    Binding("question_mark", "help", "Help", key_display="?"),
    Binding("q", "quit", "Quit"),
    Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    Binding("M", "mark(False)", "No mark", show=False),
    Binding("i", "row", "All figures", show=False),
    Binding("t", "prompt('jump')", "Jump to a time", show=False),
    Binding("left_square_bracket", "step(-60)", "A minute back", show=False),
    Binding("right_square_bracket", "step(60)", "A minute on", show=False),
    Binding("tab", "turn(1)", "Next view", show=False, priority=True),
    Binding("shift+tab", "turn(-1)", "View before", show=False, priority=True),
)
# Title, help, action.
COMMANDS = (
    ("Filter", "Show only some rows", "prompt('filter')"),
    ("Export", "Write what is shown to a file", "prompt('export')"),
    ("Jump", "To a time in the past, or to now", "prompt('jump')"),
    ("Pause", "Freeze the display, or go on", "pause"),
    ("Mark", "Show differences from now on", "mark(True)"),
    ("No mark", "Show totals", "mark(False)"),
    ("All figures", "Of the row under the cursor", "row"),
    ("Help", "Keys, filters, columns", "help"),
    ("Quit", "Leave", "quit"),
)
