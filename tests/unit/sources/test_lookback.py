# SPDX-License-Identifier: Apache-2.0
"""Verdicts that are asked for: only while they are wanted, and for a small share of the time."""

from __future__ import annotations

import pytest

from slabmon.base.errors import UsageError
from slabmon.leaks.finding import Assessment
from slabmon.model import Snapshot
from slabmon.sources.daemon import DaemonSource
from slabmon.sources.lookback import PolledJudge, fill_present
from slabmon.store.recording import TimedSnapshot
from slabmon.tui import batch
from slabmon.views.catalogue import VIEWS
from slabmon.views.window import NoJudge, Window, WindowBuilder
from slabmon.views.window_past import WindowPast
from tests.support.builders import snapshot, window_of
from tests.support.terminal import host, start

FOUND = Assessment(observed=1.0, needed=2.0, series=0, left_out=0, memory=0)


class Polls:
    """Counts polls, each of which takes `cost` seconds of a clock that stands still otherwise."""

    def __init__(self, cost: float) -> None:
        self.now, self.count, self._cost = 1000.0, 0, cost

    def poll(self) -> Assessment:
        self.count += 1
        self.now += self._cost
        return FOUND


@pytest.mark.parametrize(("cost", "wait"), [(0.1, 10.0), (3.0, 60.0)])
def test_polls_that_take_long_are_rare(
    cost: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Polls(cost)
    monkeypatch.setattr("slabmon.sources.lookback.time.monotonic", lambda: polls.now)
    judge = PolledJudge(polls.poll)
    judge.add(snapshot())
    assert (polls.count, judge.assess()) == (0, None), "nobody wants it"
    judge.wanted = True
    judge.add(snapshot())
    assert (polls.count, judge.assess()) == (1, FOUND)
    polls.now += wait - 0.1
    judge.add(snapshot())
    assert polls.count == 1
    polls.now += 0.2
    judge.add(snapshot())
    assert polls.count == 2
    judge.forget()
    assert judge.assess() is None


class Daemon(DaemonSource):
    """A daemon that has tracked this host for 190 s, and keeps history or not."""

    def __init__(self, keeps_history: bool, has_window: bool = True) -> None:
        super().__init__("unix:/absent")
        self._keeps_history, self._has_window = keeps_history, has_window

    def snapshot(self, details: bool = False) -> Snapshot:
        return host(190)

    def times(self, start: float, end: float, most: int) -> list[float]:
        return [10.0, 100.0]

    def at(self, time: float) -> TimedSnapshot:
        if not self._keeps_history:
            raise UsageError("this daemon keeps no history")
        return TimedSnapshot(time, host(min(time, 190.0)))

    def window(self) -> WindowPast:
        if not self._has_window:
            raise UsageError("404 Not Found")
        return window_of(*map(host, (20.0, 30.0, 190.0))).past


def begun(source: Daemon) -> Window:
    history = WindowBuilder(VIEWS.values(), NoJudge())
    fill_present(history, source)
    return history.add(source.snapshot(details=True))


def test_a_window_begins_with_the_history_or_with_that_of_the_page() -> None:
    assert begun(Daemon(keeps_history=True)).moments == (10.0, 100.0)
    assert begun(Daemon(keeps_history=False)).moments == (20.0, 30.0)
    assert begun(Daemon(keeps_history=False, has_window=False)).moments == ()


def test_a_single_page_of_the_overview_knows_the_minutes_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Daemon(keeps_history=False)
    assert batch.run(source, start(view="overview", count=1)) == 0
    output = capsys.readouterr().out
    assert "growth over 2m50s" in output
    assert "watched 0" not in output
