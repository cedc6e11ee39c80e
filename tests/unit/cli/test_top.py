# SPDX-License-Identifier: Apache-2.0
"""What top does before anything is shown."""

from __future__ import annotations

import gc
import importlib.metadata
import io
import sys
from collections.abc import Iterator

import pytest

from slabmon.cli import top
from slabmon.cli.main import main
from slabmon.sources.live import LiveSource
from slabmon.tui import batch
from slabmon.tui.start import Start
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def gc_as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # the interpreter's own
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Runs top; not a fixture, because pytest sets the streams again after fixtures."""
    monkeypatch.setattr(sys, "stdin", TerminalStream())
    monkeypatch.setattr(sys, "stdout", TerminalStream())
    monkeypatch.setattr(top, "open_nearest", lambda *_: None)
    return main(["top", *options])


def test_garbage_is_collected_as_rarely_as_snapshots_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(top, "open_nearest", lambda _, settings: LiveSource(settings))
    monkeypatch.setattr(batch, "run", lambda *_: 0)
    assert main(["top", "-b"]) == 0
    assert gc.get_threshold()[0] > 700


@pytest.mark.parametrize("present", ["2.1.2", "7.9", None])
def test_a_missing_or_old_textual_is_an_error_that_says_so(
    present: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if present is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return present

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert on_a_terminal(monkeypatch) == 4
    error = capsys.readouterr().err
    assert error.startswith("slabmon: error: the terminal view needs Textual 8 or newer")
    assert (present or "not installed") in error
    assert "-b" in error


def test_the_installed_textual_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "_on_screen", lambda *_: 0)
    assert on_a_terminal(monkeypatch) == 0


def test_the_debian_package_does_not_recommend_a_textual_that_is_too_old() -> None:
    assert "textual" not in (ROOT / "packaging/debian/control").read_text()


@pytest.mark.parametrize(
    ("options", "view"),
    [
        ([], "overview"),
        (["--view", "sites", "-b"], "sites"),
        (["-b"], "caches"),
        (["-s", "live"], "caches"),
        (["--filter", "live > 1k"], "caches"),
    ],
)
def test_the_first_view_is_the_overview_but_for_scripts(
    options: list[str], view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Start] = []

    def begin(_: object, start: Start) -> int:
        started.append(start)
        return 0

    monkeypatch.setattr(top, "_on_screen", begin)
    monkeypatch.setattr(batch, "run", begin)
    monkeypatch.setenv("TERM", "xterm")
    on_a_terminal(monkeypatch, *options)
    assert [start.view for start in started] == [view]
