# SPDX-License-Identifier: Apache-2.0
"""The Textual application of top: shows what browser, header and layout compute."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.base.parse import moment
from slabmon.sources import SnapshotSource
from slabmon.tui.browser import SORT_LETTERS
from slabmon.tui.feed import Feed, Reading
from slabmon.tui.grid import Grid
from slabmon.tui.header import alarms, facts, joined, where
from slabmon.tui.help import help_text, row_text
from slabmon.tui.keys import BINDINGS, COMMANDS
from slabmon.tui.prompt import Prompt
from slabmon.tui.screens import TextScreen
from slabmon.tui.start import Start
from slabmon.tui.tabs import Tabs
from slabmon.views.catalogue import VIEWS
from slabmon.views.summary import summarize

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TopApp(App[int]):
    """Shows readings of a feed until the user quits or `count` of them have been shown.

    `instead_of` says why a local session is shown and not the daemon, empty if it is as it should
    be.
    """

    CSS = """
    Screen { layout: vertical; }
    #facts, #where { height: auto; }
    #where { text-style: bold; }
    #where.warn { color: ansi_yellow; }
    #where.crit { color: ansi_red; }
    """
    BINDINGS: ClassVar[list[BindingType]] = list(BINDINGS)

    class Read(Message):
        """The feed has a new reading."""

        def __init__(self, reading: Reading) -> None:
            self.reading = reading
            super().__init__()

    def __init__(self, source: SnapshotSource, start: Start, instead_of: str = "") -> None:
        # The terminal's own 16 colours, and none with NO_COLOR. Textual decides this in the
        # constructor; setting a theme later is not enough.
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._start = start
        self._instead_of = instead_of
        self.feed = Feed(source, start.delay, self._post_reading)
        self._count = 1
        self._suspended = False  # by SIGTSTP, and not resumed yet
        self._ended = False  # by a signal, before it was mounted
        self._stopped = ""  # PAUSED: the display; HELD: the replay
        self.failure: BaseException | None = None

    def open(self) -> None:
        """Open the source. Raises SlabmonError if that fails; call close() in any case."""
        self.reading = self.feed.open()
        self.browser = self._start.browser(self.reading.window)

    def close(self) -> None:
        """Close the source."""
        self.feed.close()

    def remember_signals(self) -> None:
        """Remember signals that end the process until it can leave the terminal in order. Call it
        in the main thread, before run()."""

        def remember(*_: object) -> None:
            self._ended = True

        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, remember)

    def compose(self) -> ComposeResult:
        """Yield the widgets."""
        yield Static(id="facts", markup=False)
        yield Tabs(list(VIEWS))
        yield Static(id="where", markup=False)
        yield Grid(self.browser)
        yield Prompt()
        yield Footer(show_command_palette=True)

    def on_mount(self) -> None:
        """Start."""
        with contextlib.suppress(ValueError, RuntimeError):  # tests run beside the main thread
            self._handle_signals()
            self._end_with_terminal()
        self.set_interval(1.0, self._update_header)
        self.grid.focus()
        self._prepare_view()
        self._count_down()
        if self._ended:
            self.exit(0)

    def _handle_signals(self) -> None:
        """Leave the terminal in order on every signal that ends or stops the process. The event
        loop calls the handlers: one that interrupts Textual could wait for a lock it holds."""
        loop = asyncio.get_running_loop()
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self.exit, 0)
        if self._driver is not None and self._driver.can_suspend:
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
            loop.add_signal_handler(signal.SIGCONT, self._resume)

    def _end_with_terminal(self) -> None:
        """Exit when the terminal is gone. Without a signal (nohup, or not the controlling terminal)
        Textual would read its end for ever."""
        if self._driver is None or self._driver.is_headless or sys.__stdin__ is None:
            return
        loop = asyncio.get_running_loop()
        hang_up = select.epoll()
        hang_up.register(sys.__stdin__, 0)  # a hang-up is told without being asked for

        def leave() -> None:
            loop.remove_reader(hang_up)
            self.exit(0)

        loop.add_reader(hang_up, leave)

    def _suspend(self) -> None:
        """Restore the terminal, then stop."""
        assert self._driver is not None
        self._driver.suspend_application_mode()
        self._suspended = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def _resume(self) -> None:
        """Take the terminal again. Textual's own handler would take it twice, and not restore it
        at the end, after a SIGCONT that follows no SIGTSTP: after SIGSTOP, or on its own."""
        assert self._driver is not None
        if not self._suspended:
            self._driver.suspend_application_mode()
        self._suspended = False
        self._driver.resume_application_mode()
        self.refresh(layout=True)

    def _post_reading(self, reading: Reading) -> None:
        """Hand a reading over from the feed's thread."""
        self.post_message(self.Read(reading))

    @property
    def grid(self) -> Grid:
        """The table."""
        return self.screen_stack[0].query_one(Grid)

    @property
    def _is_drawn(self) -> bool:
        """Whether the table is there. Readings also arrive before it is mounted, and while the app
        ends."""
        return bool(self.is_running and self.screen_stack and self.screen_stack[0].query(Grid))

    def _update_header(self) -> None:
        """Write the lines above the table."""
        if not self._is_drawn:
            return
        screen, browser, width = self.screen_stack[0], self.browser, max(20, self.size.width)
        parts = facts(summarize(browser.window), self.reading.own_ratio)
        screen.query_one("#facts", Static).update("\n".join(joined(parts, width)))
        screen.query_one(Tabs).show(browser.places[0].view.name)
        line = [
            *alarms(self.reading, browser, self._stopped, self._start.delay, self._instead_of),
            *where(browser, self.grid.visible_rows),
        ]
        here = screen.query_one("#where", Static)
        here.update("\n".join(joined(line, width)))
        worst = browser.worst_state
        for state in ("warn", "crit"):
            here.set_class(state == worst, state)

    def _show(self, arrived: bool = False) -> None:
        """Redraw the table; `arrived`: for the first time at this place."""
        if not self._is_drawn:
            return
        if arrived:
            self._prepare_view()
            self.grid.arrive()
        else:
            self.grid.redraw()
        self._update_header()

    def _prepare_view(self) -> None:
        """Let the feed have what the present view needs beside snapshots."""
        view = self.browser.place.view
        self.feed.judge(view.judged or view.windowed, past=view.judged)
        present = self.reading.moment is None
        if view.census and present and self.browser.window.snapshot.census is None:
            self.feed.take_census()

    def _fatal_error(self) -> None:
        """Override Textual's hook, which prints a traceback: the command reports the error instead,
        once the terminal is restored."""
        self.failure = self._exception
        self._close_messages_no_wait()

    def on_grid_drawn(self) -> None:
        """Show the new range of visible rows."""
        self._update_header()

    def on_top_app_read(self, message: Read) -> None:
        """Show a new window, or why there is none."""
        self.reading = message.reading
        error = self.reading.error
        if error is not None and not isinstance(error, SlabmonError):
            self.failure = error
            self.exit(70)
        if self.reading.refused:
            self.notify(self.reading.refused, severity="error", markup=False)
        if error is None:
            self._count += 1
            if self._stopped != "PAUSED":
                self.browser.refresh(self.reading.window)
                self._show()
        self._update_header()
        self._count_down()

    def _count_down(self) -> None:
        if self._start.count is not None and self._count >= self._start.count:
            self.set_timer(self._start.delay, partial(self.exit, 0))  # time to read it

    def on_key(self, event: events.Key) -> None:
        """Handle sort letters and view numbers."""
        if self.focused is not self.grid:
            return
        letter = event.character or ""
        if letter.isascii() and letter.isdecimal():
            self.show_view(list(VIEWS)[int(letter)])
        elif letter == "n" or letter in SORT_LETTERS:
            if not self.browser.sort_letter(letter):
                self.notify(f"{letter}: no such column in this view", severity="warning")
            self._show()

    def show_view(self, name: str) -> None:
        """Go to a view."""
        self.browser.show(name)
        self._show(arrived=True)

    def sort_by(self, name: str) -> None:
        """Sort by a column."""
        self.browser.sort_by(name)
        self._show()

    def on_grid_heading_clicked(self, message: Grid.HeadingClicked) -> None:
        """Sort by the clicked column."""
        self.sort_by(message.column)

    def on_tabs_chosen(self, message: Tabs.Chosen) -> None:
        """Go to the clicked view."""
        self.show_view(message.name)

    def on_grid_opened(self) -> None:
        """Show what belongs to the row, or all of its figures if nothing does."""
        row = self.grid.row
        if row is not None and self.browser.enter(row):
            self._show(arrived=True)
        else:
            self.action_row()

    def action_turn(self, step: int) -> None:
        """Go to the next view."""
        if self.focused is self.grid:
            self.browser.turn(step)
            self._show(arrived=True)

    async def action_back(self) -> None:
        """Close the prompt, else go back, else clear the filter."""
        if self.query_one(Prompt).kind:
            self._close_prompt()
        elif self.browser.back():
            self._show(arrived=True)
        elif self.browser.place.filter:
            self.browser.filter("")
            self._show()

    def action_pause(self) -> None:
        """Pause or resume the display and, if it is one, the replay."""
        self._stopped = "" if self._stopped else "PAUSED"
        self.feed.play(0.0 if self._stopped else 1.0)
        if not self._stopped:
            self.browser.refresh(self.reading.window)
        self._show()

    def action_mark(self, mark: bool) -> None:
        """Show differences from now on, or totals again."""
        self.browser.mark = self.browser.window.now if mark else None
        self.browser.refresh()
        self._show()

    def action_row(self) -> None:
        """Show all figures of the row."""
        row = self.grid.row
        if row is not None:
            self.push_screen(TextScreen(row_text(self.browser, row, self._text_width)))

    def action_help(self) -> None:
        """Show keys, filters and columns."""
        self.push_screen(TextScreen(help_text(self.browser.place.view, self._text_width)))

    @property
    def _text_width(self) -> int:
        """Width of the text in a TextScreen."""
        return max(20, self.size.width * 9 // 10 - 6)

    def action_step(self, seconds: int) -> None:
        """Move through the past by `seconds`."""
        if self._can_jump():
            self._jump(self._moment + seconds)

    @property
    def _moment(self) -> float:
        """The Unix time of what is shown."""
        return time.time() if self.reading.moment is None else self.reading.moment

    def _jump(self, moment: float | None) -> None:
        """Go to a Unix time, None: the present. If the display was paused, the replay is held there
        instead, so that the jump is visible."""
        self._stopped = "HELD" if self._stopped else ""
        self.feed.jump(moment)

    def _can_jump(self) -> bool:
        if not self.feed.seekable:
            self.notify(
                "a local session has no past; use a recording, or a daemon that keeps history",
                severity="warning",
            )
        return self.feed.seekable

    def action_prompt(self, kind: str) -> None:
        """Ask for a filter, a file or a time."""
        if kind != "jump" or self._can_jump():
            view = self.browser.place.view
            values = {
                "filter": self.browser.place.filter,
                "export": f"slabmon-{view.origin or view.name.split()[0]}.csv",
            }
            self.query_one(Prompt).ask(kind, values.get(kind, ""))

    def _close_prompt(self) -> None:
        self.query_one(Prompt).close()
        self.grid.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Act on the input; the prompt stays open if that fails."""
        kind, text = self.query_one(Prompt).kind, event.value
        try:
            if kind == "filter":
                self.browser.filter(text)
            elif kind == "export":
                self.notify(self.browser.export(Path(text).expanduser()), markup=False)
            else:
                self._jump(None if text.strip() == "now" else moment(text, self._moment))
        except UsageError as error:
            self.notify(str(error), severity="error", markup=False)
        else:
            self._close_prompt()
            self._show()

    def action_command_palette(self) -> None:
        """Open the palette above the table, so that the effect of a command is visible."""
        if isinstance(self.screen, TextScreen):
            self.pop_screen()
        super().action_command_palette()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield the entries of the command palette."""
        for name, view in VIEWS.items():
            yield SystemCommand(f"View {name}", view.title, partial(self.show_view, name))
        for column in self.browser.table.columns:
            yield SystemCommand(
                f"Sort by {column.name}", column.help, partial(self.sort_by, column.name)
            )
        for title, help, action in COMMANDS:
            yield SystemCommand(title, help, partial(self.run_action, action))
