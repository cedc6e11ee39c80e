# SPDX-License-Identifier: Apache-2.0
"""Keys of the application (those of the table are in grid.py), and the command palette."""

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
    Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True),
    Binding("M", "mark(False)", "No mark", show=False),
    Binding("i", "row", "All figures", show=False),
    Binding("t", "prompt('jump')", "Jump to a time", show=False),
    Binding("left_square_bracket", "step(-60)", "A minute back", show=False),
    Binding("right_square_bracket", "step(60)", "A minute forward", show=False),
    Binding("tab", "turn(1)", "Next view", show=False, priority=True),
    Binding("shift+tab", "turn(-1)", "Previous view", show=False, priority=True),
)
# Title, help, action.
COMMANDS = (
    ("Filter", "Show only some rows", "prompt('filter')"),
    ("Export", "Write what is shown to a file", "prompt('export')"),
    ("Jump", "Go to a time in the past, or to now", "prompt('jump')"),
    ("Pause", "Pause or resume the display", "pause"),
    ("Mark", "Show differences from now on", "mark(True)"),
    ("No mark", "Show totals", "mark(False)"),
    ("All figures", "Show all figures of the row under the cursor", "row"),
    ("Help", "Show keys, filters, columns", "help"),
    ("Quit", "Leave slabmon top", "quit"),
)
