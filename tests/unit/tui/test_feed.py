# SPDX-License-Identifier: Apache-2.0
"""Where readings come from: sources that fail, end, or come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.base.errors import UsageError
from slabmon.tui.app import TopApp
from slabmon.tui.feed import Feed
from tests.support.terminal import GONE, Script, Terminal, host, on_terminal, start


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


def test_a_local_session_instead_of_the_daemon_shows() -> None:
    async def work(terminal: Terminal) -> None:
        assert f"LOCAL SESSION: {GONE}" in terminal.text

    on_terminal(work, size=(140, 24), instead_of=str(GONE))


def test_a_census_is_requested_when_its_view_is_opened_and_there_is_none() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("9")
        await terminal.read()
        assert terminal.source.censuses == 0
        await terminal.press("tab", "tab")
        await terminal.read()
        assert terminal.source.censuses == 0
        await terminal.feed(replace(host(20), census=None))
        assert terminal.source.censuses == 0
        await terminal.press("tab")
        await terminal.read()
        assert terminal.source.censuses == 1
        assert "no census yet: " in terminal.text
        await terminal.feed(host(30))
        assert "census of 2023-" in terminal.text

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
        assert terminal.names == ["kmalloc-64"]
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


def test_a_feed_that_is_slow_to_answer_does_not_keep_anyone() -> None:
    """Only opening waits for an answer."""
    feed = Feed(Script(host()), 3600, lambda _: None)
    assert feed.open().window.snapshot.tracking.seconds == 10
    feed.close()
