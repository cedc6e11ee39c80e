# SPDX-License-Identifier: Apache-2.0
"""top on a real (pseudo) terminal: it starts, obeys, and leaves it as it was."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.store.writer import RecordingWriter
from tests.support.pseudoterminal import COLOURS, on_terminal
from tests.support.terminal import host

pytestmark = pytest.mark.slow  # each test starts a process, or more


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "recording"
    with RecordingWriter(path) as history:
        taken = host(30)  # 60 lost events, which is a warning
        history.append(replace(taken, caches=taken.caches[:3]), at=1e9)
    return str(path)


@pytest.mark.parametrize("way", ["q", "\x03", signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_the_terminal_as_it_was(recording: str, way: str | signal.Signals) -> None:
    with on_terminal("top", "--replay", recording) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        if isinstance(way, str):
            terminal.type(way)
        else:
            terminal.process.send_signal(way)
        assert terminal.end() == 0
        assert terminal.restored
        assert "Traceback" not in terminal.output


def test_it_ends_with_a_terminal_that_is_not_its_controlling_one(recording: str) -> None:
    """No signal says that it is gone."""
    with on_terminal("top", "--replay", recording) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        terminal.hang_up()
        assert terminal.process.wait(30) == 0


@pytest.mark.parametrize("way", ["\x1a", signal.SIGTSTP, signal.SIGSTOP])
def test_it_is_suspended_and_resumed(recording: str, way: str | signal.Signals) -> None:
    with on_terminal("top", "--replay", recording) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        if isinstance(way, str):
            terminal.type(way)
        else:
            terminal.process.send_signal(way)
        terminal.wait_until_stopped()
        if way != signal.SIGSTOP:  # which nobody can handle; a shell resets its terminal itself
            assert terminal.restored
        before, terminal.output = terminal.output, ""
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        terminal.output = before + terminal.output
        assert not terminal.restored
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.restored


def test_to_continue_what_is_running_changes_nothing(recording: str) -> None:
    with on_terminal("top", "--replay", recording) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        for _ in range(10):
            before, terminal.output = terminal.output, ""
            terminal.process.send_signal(signal.SIGCONT)
            terminal.wait_for("palette")  # a key that comes earlier would be lost
            terminal.output = before + terminal.output
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.restored


@pytest.mark.parametrize("term", ["xterm", "linux", "vt100"])
def test_without_colour_no_colour_is_set(recording: str, term: str) -> None:
    with on_terminal("top", "--replay", recording, NO_COLOR="1", TERM=term) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.wait_for("palette")
        assert "WARN" in terminal.text
        terminal.type("q")
        assert terminal.end() == 0
        assert not COLOURS.search(terminal.output)


def test_sixteen_colours_are_enough(recording: str) -> None:
    with on_terminal("top", "--replay", recording, TERM="xterm-16color") as terminal:
        terminal.wait_for("palette")  # the footer is what has colours
        terminal.type("q")
        assert terminal.end() == 0
        assert COLOURS.search(terminal.output)
        assert not re.search(r"[\[;][34]8;[25];", terminal.output)


def test_an_error_leaves_the_terminal_alone(tmp_path: Path) -> None:
    with on_terminal("top", "--replay", str(tmp_path / "absent")) as terminal:
        assert terminal.end() == 2
        assert "slabmon: error: " in terminal.output
        assert "\x1b[?1049h" not in terminal.output


def test_help_is_scrolled_on_a_small_terminal(recording: str) -> None:
    with on_terminal("top", "--replay", recording, columns=60, lines=16) as terminal:
        terminal.wait_for("kmalloc-large")
        terminal.type("?")
        terminal.wait_for("Keys")
        terminal.type("G")
        terminal.wait_for("growth_bytes_per_hour")
        terminal.type("qq")
        assert terminal.end() == 0
