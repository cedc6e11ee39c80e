# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on terminals only, and only for waits."""

from __future__ import annotations

import itertools
import sys
import time

import pytest

from slabmon.runtime import progress


class Clock:
    """Time that passes only by sleeping, or by `step` with every look at it."""

    def __init__(self, step: float = 0) -> None:
        self.now, self.step = 100.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def on_terminal(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: answer, raising=False)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("step", [0, 0.3, 5])
def test_items_pass_unchanged(monkeypatch: pytest.MonkeyPatch, terminal: bool, step: float) -> None:
    on_terminal(monkeypatch, terminal)
    monkeypatch.setattr(time, "monotonic", Clock(step).monotonic)
    for count in (0, 1, 7):
        assert list(progress.track(iter(range(count)), count, "reading")) == list(range(count))


def test_nothing_is_shown_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, False)
    monkeypatch.setattr(time, "monotonic", Clock(5).monotonic)
    list(progress.track(range(9), 9, "reading"))
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_for_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, True)
    monkeypatch.setattr(time, "monotonic", itertools.count(step=5).__next__)
    list(progress.track(range(9), 9, "reading"))
    output, errors = capsys.readouterr()
    assert output == ""
    assert "reading" in errors


def test_nothing_is_shown_for_what_is_quick(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, True)
    list(progress.track(range(9), 9, "reading"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("terminal", "step"), [(True, 5), (True, 0.01), (False, 5)])
def test_a_share_is_shown_on_a_terminal_once_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    step: float,
) -> None:
    on_terminal(monkeypatch, terminal)
    monkeypatch.setattr(time, "monotonic", Clock(step).monotonic)
    with progress.share_bar("reading slabs") as show:
        for share in (0.0, 0.25, 1.0):
            show(share)
    output, errors = capsys.readouterr()
    assert output == ""
    assert ("reading slabs" in errors) == (terminal and step > 1)


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 2.25, 60])
@pytest.mark.parametrize("terminal", [False, True])
def test_waiting_takes_as_long_as_asked(
    monkeypatch: pytest.MonkeyPatch, seconds: float, terminal: bool
) -> None:
    clock = Clock()
    real = time.sleep
    on_terminal(monkeypatch, terminal)
    monkeypatch.setattr(progress, "time", clock)
    progress.wait(seconds, "watching")
    assert clock.now == pytest.approx(100 + seconds, abs=0.11)
    assert clock.now >= 100 + seconds - 1e-9
    assert time.sleep is real
