# SPDX-License-Identifier: Apache-2.0
"""Verdicts that are asked for: only while they are wanted, and for a small share of the time."""

from __future__ import annotations

import pytest

from slabmon.leaks.finding import Assessment
from slabmon.sources.lookback import PolledJudge
from tests.support.builders import snapshot

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
