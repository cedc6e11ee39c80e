"""Keys, mouse, filter, drill-down, pause, mark, export, and what happens when the daemon goes."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from slabmon.errors import UsageError
from slabmon.export.human import duration
from slabmon.model import Snapshot
from slabmon.sources.replayed import ReplayedSource
from slabmon.store.history import History as Recorder
from slabmon.top.app import TopApp
from slabmon.top.feed import Feed
from slabmon.top.grid import Grid
from slabmon.top.prompt import Prompt
from slabmon.views import VIEWS
from tests.unit.builders import cache, snapshot
from tests.unit.terminal import GONE, Script, Terminal, host, on_terminal, start


def names(terminal: Terminal) -> list[str]:
    browser = terminal.app.browser
    return [browser.name(row) for row in browser.order]


def test_sort_letters_order_and_invert() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("l")
        assert names(terminal)[0] == "dentry"
        assert "live▼" in terminal.text
        await terminal.press("l")
        assert names(terminal)[-1] == "dentry"
        assert "live▲" in terminal.text
        await terminal.press("n")
        assert names(terminal)[1] == "dentry"
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
        return Script(snapshot(caches=tuple(
            cache(name, allocated_bytes=9 - i) for i, name in enumerate(order))))  # fmt: skip

    async def work(terminal: Terminal) -> None:
        later = replace(ranked("b", "c", "a").now, tracking=replace(  # type: ignore[type-var]
            snapshot().tracking, seconds=99.0))  # fmt: skip
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
        assert names(terminal) == ["kmalloc-large"]
        assert "filter: kmalloc live > 10K" in terminal.text
        await terminal.press("2", "1")
        assert names(terminal) == ["kmalloc-large"]
        await terminal.press("escape")
        assert len(names(terminal)) == 4

    on_terminal(work)


def test_a_wrong_filter_says_so_and_changes_nothing() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("slash")
        await terminal.type("colour > 3")
        await terminal.press("enter")
        assert "no column here" in terminal.text
        assert terminal.app.query_one(Prompt).kind == "filter"
        await terminal.press("escape")
        assert not terminal.app.query_one(Prompt).kind
        assert len(names(terminal)) == 4
        await terminal.press("j")
        assert terminal.app.grid.row is not None

    on_terminal(work, size=(140, 24))


def test_down_from_a_cache_to_stacks_and_back() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("l", "j", "enter")  # dentry is first, kmalloc-large next
        assert "caches > kmalloc-large > sites" in terminal.text
        assert "no live object was sampled" in terminal.text
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
        await terminal.press("enter")
        assert "caches > kmalloc-64 > sites" in terminal.text
        await terminal.press("tab")
        assert "caches > kmalloc-64 > processes" in terminal.text
        assert names(terminal) == ["dd", "cat"]
        await terminal.press("shift+tab", "shift+tab")
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


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_what_is_shown_is_exported(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{suffix}"

    async def work(terminal: Terminal) -> None:
        await terminal.press("slash", *"kmalloc", "enter", "n", "e")
        terminal.app.query_one(Input).value = str(path)
        await terminal.press("enter")
        assert "2 rows written" in terminal.text
        await terminal.press("e")
        terminal.app.query_one(Input).value = str(path)
        await terminal.press("enter")
        assert "exists" in terminal.text

    on_terminal(work, size=(140, 24))
    text = path.read_text()
    rows = json.loads(text) if suffix == "json" else list(csv.DictReader(text.splitlines()))
    assert [row["name"] for row in rows] == ["kmalloc-64", "kmalloc-large"]
    assert str(rows[0]["live_bytes"]) == "6400"


@pytest.mark.parametrize("name", ["table.txt", "absent/table.csv"])
def test_an_export_that_cannot_be_says_so(name: str, tmp_path: Path) -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("e")
        terminal.app.query_one(Input).value = str(tmp_path / name)
        await terminal.press("enter")
        assert "must end in" in terminal.text or "cannot write" in terminal.text
        assert terminal.app.query_one(Prompt).kind == "export"

    on_terminal(work, size=(140, 24))
    assert not list(tmp_path.iterdir())


def test_a_vanished_daemon_shows_and_recovers() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.feed(GONE)
        assert "NO ANSWER" in terminal.text
        assert "cannot reach slabmon at unix:/run/x" in terminal.text
        await terminal.press("l", "enter")
        assert "caches > dentry > sites" in terminal.text
        await terminal.press("escape")
        await terminal.feed(host(40))
        assert "NO ANSWER" not in terminal.text
        assert "tracking 40.0s" in terminal.text

    on_terminal(work, size=(140, 24))


def test_a_bug_in_reading_ends_it() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.feed(ZeroDivisionError("a bug"))

    app = on_terminal(work)
    assert isinstance(app.failure, ZeroDivisionError)


def test_a_bug_in_showing_ends_it() -> None:
    apps: list[TopApp] = []

    async def work(terminal: Terminal) -> None:
        apps.append(terminal.app)
        terminal.app.browser.turn = lambda _: 1 // 0  # type: ignore[assignment, method-assign]
        await terminal.press("tab")

    with pytest.raises(ZeroDivisionError):
        on_terminal(work)
    assert isinstance(apps[0].failure, ZeroDivisionError)


def test_a_filter_by_growth_outlives_a_new_session() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.feed(host(20))
        await terminal.press("slash")
        await terminal.type("growth_b > 1K")
        await terminal.press("enter")
        assert names(terminal) == ["kmalloc-64"]
        anew = host(3)
        await terminal.feed(replace(anew, tracking=replace(anew.tracking, since=1.0)))
        assert "no row matches" in terminal.text

    on_terminal(work)


def test_a_source_that_does_not_open_is_the_commands_error() -> None:
    with pytest.raises(UsageError, match="cannot reach"):
        on_terminal(lambda _: None, Script(GONE))  # type: ignore[arg-type, return-value]


def test_the_source_is_closed_in_the_end() -> None:
    source = Script(host())

    async def work(terminal: Terminal) -> None:
        await terminal.press("q")

    app = on_terminal(work, source)
    assert (source.opened, source.closed) == (1, 1)
    assert app.return_value in (0, None)


def test_so_many_readings_and_no_more() -> None:
    async def work(terminal: Terminal) -> None:
        for _ in range(500):
            await terminal.pilot.pause(0.01)
            if terminal.app.return_value is not None:
                break
        assert terminal.app.return_value == 0

    on_terminal(work, begin=start(count=3, delay=0.1))


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


def test_commands_by_name() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("ctrl+p")
        await terminal.type("Order by slab_bytes")
        await terminal.pilot.pause(0.5)
        await terminal.press("enter")
        await terminal.pilot.pause(0.2)
        assert terminal.app.browser.sort == "slab_bytes"

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


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    with Recorder(path) as recorder:
        for number in range(10):
            taken = host(10.0 + number)
            # The recording would refuse a name with control characters.
            taken = replace(taken, caches=taken.caches[:3])
            recorder.append(taken, at=1_700_000_000.0 + 60 * number)
    return path


def test_a_recording_is_gone_through_in_time(recording: Path) -> None:
    source = ReplayedSource(recording, start=1_700_000_000.0 + 301)

    async def work(terminal: Terminal) -> None:
        assert "tracking 15.0s" in terminal.text
        await terminal.press("left_square_bracket")
        await terminal.read()
        assert "tracking 14.0s" in terminal.text
        assert "growth over 4.0s" in terminal.text  # from what was recorded before
        assert "RECORDED" in terminal.text
        await terminal.press("space")  # paused: it would not go on by itself, but a jump shows
        await terminal.press("right_square_bracket")
        await terminal.read()
        assert "tracking 15.0s" in terminal.text
        assert "HELD" in terminal.text
        await terminal.press("t")
        await terminal.type("-2m")
        await terminal.press("enter")
        await terminal.read()
        assert "tracking 13.0s" in terminal.text
        await terminal.press("t")
        await terminal.type("now")
        await terminal.press("enter")
        await terminal.read()
        assert "tracking 19.0s" in terminal.text

    on_terminal(work, source, size=(140, 24))


class WithPast(Script):
    """A daemon that keeps history: a snapshot a minute, of what was so many seconds tracked."""

    def span(self) -> tuple[float, float]:
        return time.time() - 3600, time.time()

    def at(self, moment: float) -> Snapshot:
        return host(1000 - (time.time() - moment) // 60)


def test_a_daemon_with_history_goes_back_in_time_and_returns() -> None:
    async def work(terminal: Terminal) -> None:
        assert "RECORDED" not in terminal.text
        await terminal.press("t")
        await terminal.type("-5m")
        await terminal.press("enter")
        await terminal.read()
        assert "RECORDED" in terminal.text
        assert f"tracking {duration(995)}" in terminal.text or "16m34s" in terminal.text
        assert "growth over" in terminal.text
        await terminal.press("t")
        await terminal.type("now")
        await terminal.press("enter")
        await terminal.read()
        assert "RECORDED" not in terminal.text
        assert "tracking 33m20s" in terminal.text

    on_terminal(work, WithPast(host(2000)), size=(140, 24))


def test_a_daemon_without_history_says_so_and_goes_on() -> None:
    class Forgetful(WithPast):
        def span(self) -> tuple[float, float]:
            raise UsageError("http://x answers: 404 this daemon keeps no history")

    async def work(terminal: Terminal) -> None:
        await terminal.press("t", "minus", "1", "m", "enter")
        await terminal.read()
        assert "keeps no history" in terminal.text
        await terminal.feed(host(60))
        assert "NO ANSWER" not in terminal.text
        assert "tracking 1m00s" in terminal.text

    on_terminal(work, Forgetful(host()), size=(140, 24))


def test_programs_of_its_own_do_not_go_back_in_time() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("t")
        assert "have no past" in terminal.text
        assert not terminal.app.query_one(Prompt).kind

    on_terminal(work)


def test_a_feed_that_is_slow_to_answer_does_not_keep_anyone() -> None:
    """Only opening waits for an answer."""
    feed = Feed(Script(host()), 3600, lambda _: None)
    assert feed.open().window.snapshot.tracking.seconds == 10
    feed.close()
