# SPDX-License-Identifier: Apache-2.0
"""top goes back in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.base.format import duration
from slabmon.sources.recording import RecordingSource
from slabmon.store.writer import RecordingWriter
from slabmon.tui.prompt import Prompt
from tests.support import conditions
from tests.support.terminal import Terminal, WithPast, host, on_terminal


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    with RecordingWriter(path) as recorder:
        for number in range(10):
            taken = host(10.0 + number)
            # The recording would refuse a name with control characters.
            taken = replace(taken, caches=taken.caches[:3])
            recorder.append(taken, at=1_700_000_000.0 + 60 * number)
    return path


def test_a_recording_is_gone_through_in_time(recording: Path) -> None:
    source = RecordingSource(recording, start=1_700_000_000.0 + 301)

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


def test_a_daemon_with_history_goes_back_in_time_and_returns() -> None:
    async def work(terminal: Terminal) -> None:
        assert "RECORDED" not in terminal.text
        assert "growth over" in terminal.text  # from history, at once
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
            raise UsageError("http://x answered: 404 this daemon keeps no history")

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
        assert "has no past" in terminal.text
        assert not terminal.app.query_one(Prompt).kind

    on_terminal(work)


def test_verdicts_at_the_end_of_a_recording_come_when_they_are_known(tmp_path: Path) -> None:
    source = RecordingSource(conditions.record(tmp_path)["fast-leak"])

    async def work(terminal: Terminal) -> None:
        terminal.app.show_view("verdicts")
        await terminal.read()
        await terminal.read()
        assert "kmalloc-1k  early" in terminal.text
        assert "backup 100%" in terminal.text, "whose it is, on a plain terminal"
        assert "leaks: too early: 2m50s of 21m00s" in terminal.text

    on_terminal(work, source)
