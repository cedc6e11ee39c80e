# SPDX-License-Identifier: Apache-2.0
"""Keys, mouse, order, filter, drill-down, pause, mark."""

from __future__ import annotations

from dataclasses import replace

from slabmon.tui.grid import Grid
from slabmon.tui.prompt import Prompt
from slabmon.tui.screens import TextScreen
from slabmon.views.catalogue import VIEWS
from tests.support.builders import cache, snapshot
from tests.support.terminal import Script, Terminal, host, on_terminal


def test_sort_letters_order_and_invert() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("l")
        assert terminal.names[0] == "dentry"
        assert "live▼" in terminal.text
        await terminal.press("l")
        assert terminal.names[-1] == "dentry"
        assert "live▲" in terminal.text
        await terminal.press("n")
        assert terminal.names[1] == "dentry"
        await terminal.press("p")
        assert "no such column" in terminal.text  # growth needs a past

    on_terminal(work)


def test_rows_are_moved_through() -> None:
    many = snapshot(caches=tuple(cache(f"c{i:03}", allocated_bytes=1000 - i) for i in range(200)))

    async def work(terminal: Terminal) -> None:
        grid = terminal.app.screen.query_one(Grid)
        await terminal.press("j", "j", "down", "k")
        assert grid.row == 2
        await terminal.press("G")
        assert grid.row == 199
        assert "of 200" in terminal.text
        assert terminal.row("c199")
        await terminal.press("g", "pagedown")
        assert grid.row is not None
        assert 5 < grid.row < 24
        await terminal.press("end", "up", "home")
        assert grid.row == 0

    on_terminal(work, Script(many))


def test_the_cursor_follows_its_row_but_stays_at_the_top() -> None:
    def ranked(*order: str) -> Script:
        return Script(
            snapshot(
                caches=tuple(cache(name, allocated_bytes=9 - i) for i, name in enumerate(order))
            )
        )

    async def work(terminal: Terminal) -> None:
        later = replace(
            ranked("b", "c", "a").now,
            tracking=replace(  # type: ignore[type-var]
                snapshot().tracking, seconds=99.0
            ),
        )
        await terminal.press("j")
        assert terminal.app.browser.name(terminal.app.grid.row or 0) == "b"
        await terminal.feed(later)
        assert terminal.app.browser.name(terminal.app.grid.row or 0) == "b"
        await terminal.press("g")
        assert terminal.app.browser.name(terminal.app.grid.row or 0) == "b"

    on_terminal(work, ranked("a", "b", "c"))


def test_columns_scroll_and_the_first_stays() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("right", "right", "right")
        heading = terminal.row("name")
        assert "live" not in heading
        await terminal.press("left", "left", "left", "left")
        assert "live" in terminal.row("name")

    on_terminal(work)


def test_a_filter_is_typed_kept_shown_and_cleared() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("slash")
        await terminal.type("kmalloc live > 10K")
        await terminal.press("enter")
        assert terminal.names == ["kmalloc-large"]
        assert "filter: kmalloc live > 10K" in terminal.text
        await terminal.press("2", "1")
        assert terminal.names == ["kmalloc-large"]
        await terminal.press("escape")
        assert len(terminal.names) == 4

    on_terminal(work)


def test_a_wrong_filter_says_so_and_changes_nothing() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("slash")
        await terminal.type("colour > 3")
        await terminal.press("enter")
        assert "unknown column" in terminal.text
        assert terminal.app.query_one(Prompt).kind == "filter"
        await terminal.press("escape")
        assert not terminal.app.query_one(Prompt).kind
        assert len(terminal.names) == 4
        await terminal.press("j")
        assert terminal.app.grid.row is not None

    on_terminal(work, size=(140, 24))


def test_down_from_a_cache_to_stacks_and_back() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("l", "j", "enter")  # dentry is first, kmalloc-large next
        assert "caches > kmalloc-large > sites" in terminal.text
        assert "no live objects sampled" in terminal.text
        await terminal.press("escape", "g", "enter", "enter")
        assert "caches > dentry > sites > nvme_probe+0x1c [nvme] > stacks" in terminal.text
        await terminal.press("enter")  # nothing belongs to a stack: its figures
        assert "really_probe" in terminal.text
        await terminal.press("escape", "backspace", "escape")
        assert "caches | 1-4 of 4" in terminal.text
        assert "live▼" in terminal.text

    on_terminal(work, size=(140, 24))


def test_what_belongs_to_a_row_is_turned_through() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("j", "enter")  # dentry holds more
        assert "caches > kmalloc-64 > sites" in terminal.text
        await terminal.press("tab")
        assert "caches > kmalloc-64 > callers" in terminal.text
        await terminal.press("tab")
        assert "caches > kmalloc-64 > processes" in terminal.text
        assert terminal.names == ["dd", "cat"]
        await terminal.press("shift+tab", "shift+tab", "shift+tab")
        assert "caches > kmalloc-64 > census" in terminal.text
        await terminal.press("shift+tab")
        assert "caches > kmalloc-64 > owners" in terminal.text
        await terminal.press("shift+tab")
        assert "caches > kmalloc-64 > stacks" in terminal.text

    on_terminal(work)


def test_a_driver_without_devices_opens_its_sites() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("6", "slash", *"core", "enter", "enter")
        assert "drivers > [core kernel] > sites" in terminal.text

    on_terminal(work)


def test_a_pause_is_visible_and_all_else_goes_on() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("space")
        await terminal.feed(host(50))
        assert "PAUSED" in terminal.text
        assert "tracking 10.0s" in terminal.text
        await terminal.press("l", "j", "enter")
        assert "caches > kmalloc-large > sites" in terminal.text
        assert "PAUSED" in terminal.text
        await terminal.press("space")
        assert "PAUSED" not in terminal.text
        assert "tracking 50.0s" in terminal.text

    on_terminal(work)


def test_a_mark_shows_what_changed_since() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("m")
        await terminal.feed(host(15))
        assert "CHANGE over 5.0s" in terminal.text
        assert "3.1 KiB" in terminal.row("kmalloc-64")  # live: 5 * 640 bytes
        anew = host(3)
        anew = replace(anew, tracking=replace(anew.tracking, since=1.0))
        await terminal.feed(anew)
        assert "MARK void" in terminal.text
        await terminal.press("M")
        assert "MARK" not in terminal.text

    on_terminal(work)


def test_clicks_order_select_open_and_choose_views() -> None:
    async def work(terminal: Terminal) -> None:
        lines = terminal.lines
        heading = next(i for i, line in enumerate(lines) if line.startswith("name"))
        await terminal.pilot.click(offset=(lines[heading].index("live") + 1, heading))
        await terminal.pilot.pause()
        assert "live▼" in terminal.text
        await terminal.pilot.click(offset=(2, heading + 2))
        await terminal.pilot.pause()
        assert terminal.app.browser.name(terminal.app.grid.row or 0) == "kmalloc-large"
        await terminal.pilot.click(offset=(2, heading + 2))
        await terminal.pilot.pause()
        assert "caches > kmalloc-large > sites" in terminal.text
        tabs = next(i for i, line in enumerate(lines) if "3 devices" in line)
        await terminal.pilot.click(offset=(lines[tabs].index("devices"), tabs))
        await terminal.pilot.pause()
        assert "0000:00:04.0" in terminal.text

    on_terminal(work)


def test_the_bar_shows_that_there_are_more_views_and_leads_to_them() -> None:
    async def work(terminal: Terminal) -> None:
        def bar() -> tuple[int, str]:
            return next((i, x) for i, x in enumerate(terminal.lines) if " devices " in x)

        row, line = bar()
        assert line.endswith(" 6 drivers …")
        await terminal.pilot.click(offset=(line.index("…"), row))
        await terminal.pilot.pause()
        row, line = bar()
        assert line.startswith("… ")
        assert " 7 cgroups " in line
        assert line.endswith(" …")
        await terminal.pilot.click(offset=(0, row))
        await terminal.pilot.pause()
        assert bar()[1].startswith(" 0 overview  1 caches  2 sites ")

    on_terminal(work)


def test_commands_by_name() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("ctrl+p")
        await terminal.type("Sort by slab_bytes")
        await terminal.pilot.pause(0.5)
        await terminal.press("enter")
        await terminal.pilot.pause(0.2)
        assert terminal.app.browser.sort == "slab_bytes"

    on_terminal(work, size=(100, 30))


def test_a_command_chosen_above_help_is_seen() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("question_mark", "ctrl+p")
        await terminal.type("View gfp")
        await terminal.pilot.pause(0.5)
        await terminal.press("enter")
        await terminal.pilot.pause(0.2)
        assert not isinstance(terminal.app.screen, TextScreen)
        assert terminal.app.browser.place.view.name == "gfp"

    on_terminal(work, size=(100, 30))


def test_names_are_never_markup_nor_control_characters() -> None:
    async def work(terminal: Terminal) -> None:
        for keys in ((), ("slash", *"red", "enter"), ("enter",), ("tab",), ("escape", "i")):
            await terminal.press(*keys)
            assert "\x1b" not in terminal.text
        assert "[red]x[/red]\\x1b[31m\\n[/]" in terminal.text

    on_terminal(work, size=(140, 24))


def test_every_view_can_be_seen_and_opened() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.feed(host(20))
        seen = set()
        for _name in VIEWS:
            terminal.app.action_turn(1)
            seen.add(terminal.app.browser.place.view.name)
            for _ in range(3):
                terminal.app.on_grid_opened()
                await terminal.pilot.pause()
                if len(terminal.app.screen_stack) > 1:
                    terminal.app.pop_screen()
                    await terminal.pilot.pause()
            for _ in range(3):
                await terminal.app.action_back()
        assert seen == set(VIEWS)

    on_terminal(work)
