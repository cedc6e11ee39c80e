# SPDX-License-Identifier: Apache-2.0
"""Moments of the past: how much is read for them, what is kept, what is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from slabmon.model import Snapshot
from slabmon.sources.read_limit import JUDGED, WINDOW, ReadLimit
from slabmon.store.recording import TimedSnapshot
from slabmon.views.catalogue import VIEWS
from slabmon.web.feeds import duty_cycle, past_views
from slabmon.web.feeds.duty_cycle import DutyCycle
from slabmon.web.feeds.past_views import KEPT, PastViews
from tests.support.builders import cache, site, snapshot

BEGIN, STEP, COUNT = 1_700_001_000.0, 10.0, 1000  # at a quarter past the hour of the charts
T = TypeVar("T")


class Kept:
    """A history of a snapshot every ten seconds; in its middle tracking began anew."""

    def __init__(self, rows: int = 1) -> None:
        self.read: list[float] = []
        self._sites = tuple(site(f"f{i}", i) for i in range(rows))

    def span(self) -> tuple[float, float]:
        return BEGIN, BEGIN + (COUNT - 1) * STEP

    def at(self, time: float) -> TimedSnapshot:
        number = min(COUNT - 1, max(0, int((time - BEGIN) // STEP)))
        self.read.append(BEGIN + number * STEP)
        return TimedSnapshot(BEGIN + number * STEP, self._snapshot(number))

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        yield None
        yield self.at(time)

    def times(self, start: float, end: float, most: int) -> list[float]:
        found = [BEGIN + n * STEP for n in range(COUNT) if start <= BEGIN + n * STEP <= end]
        if len(found) <= most:
            return found
        return [found[i * (len(found) - 1) // (most - 1)] for i in range(most)]

    def _snapshot(self, number: int) -> Snapshot:
        since = 0 if number < COUNT // 2 else COUNT // 2
        tracking = replace(
            snapshot().tracking, since=BEGIN + since * STEP, seconds=(number - since) * STEP
        )
        return snapshot(tracking=tracking, caches=(cache("a", allocs=number),), sites=self._sites)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_cycle, "_PAUSE", 0)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_a_window_goes_back_ten_minutes_and_its_rates_over_one_interval() -> None:
    window = run(PastViews(DutyCycle()).window(Kept(), BEGIN + 300 * STEP + 3))
    assert window.snapshot.taken == BEGIN + 300 * STEP
    assert (window.span, window.seconds) == (600.0, STEP)


def test_what_was_read_is_kept_for_the_next_question() -> None:
    past = Kept()

    async def work() -> None:
        found = PastViews(DutyCycle())
        first = await found.window(past, BEGIN + 300 * STEP)
        read = len(past.read)
        assert read <= WINDOW.most + 4
        assert await found.window(past, BEGIN + 300 * STEP + 9) is first
        assert len(past.read) == read + 1  # which snapshot it is
        chart = await found.hour(past, BEGIN + 300 * STEP)
        assert await found.hour(past, BEGIN + 310 * STEP) is chart
        for number in range(6):
            await found.window(past, BEGIN + number * STEP)
        assert len(found._kept["window"]) == KEPT.most

    run(work())


def test_charts_are_of_one_session_and_around_the_moment() -> None:
    past = Kept()
    for number, session in ((COUNT // 2 - 20, BEGIN), (COUNT // 2 + 20, BEGIN + COUNT // 2 * STEP)):
        time = BEGIN + number * STEP
        hour = run(PastViews(DutyCycle()).hour(past, time))
        moments = list(hour.times)
        assert moments == [session + seconds for seconds in hour.moments]
        assert moments[0] < time <= moments[-1] + 900
        assert moments[-1] - moments[0] <= 3600
        assert all((moment < BEGIN + COUNT // 2 * STEP) == (session == BEGIN) for moment in moments)
        assert len(hour.series(VIEWS["caches"], "a")) == len(moments)


def test_less_is_read_of_a_large_host() -> None:
    past = Kept(rows=50_000)

    async def work() -> None:
        found = PastViews(DutyCycle())
        window = await found.window(past, BEGIN + 300 * STEP)
        assert len(past.read) < 12
        assert window.span == 600.0
        for number in range(4):
            await found.window(past, BEGIN + number * STEP)
        assert len(found._kept["window"]) == 1

    run(work())


def test_verdicts_are_made_of_the_hour_before() -> None:
    past = Kept()
    found = run(PastViews(DutyCycle()).assessment(past, BEGIN + 400 * STEP))
    assert found.observed == 3600.0
    assert len(past.read) <= JUDGED.most + 1
    window = run(PastViews(DutyCycle()).window(past, BEGIN + 400 * STEP, judged=True))
    assert window.now.listing(VIEWS["verdicts"]).rows == []


def test_a_snapshot_is_read_in_slices_between_which_others_get_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(past_views, "_SLICE_SECONDS", 0.0)
    duty_cycle = DutyCycle()
    done: list[str] = []

    class Long(Kept):
        def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
            for number in range(3):
                done.append(f"step {number}")
                yield None
            yield self.at(time)

    async def work() -> None:
        views = PastViews(duty_cycle)
        reading = asyncio.create_task(
            views.snapshot(Long(), BEGIN, lambda recorded: recorded.time, client="reader")
        )
        other = asyncio.create_task(duty_cycle.take(lambda: done.append("other"), "other"))
        assert await reading == BEGIN
        await other

    run(work())
    assert done.index("other") < done.index("step 2")


def test_one_snapshot_is_in_memory_however_many_wait_for_one() -> None:
    at_once = most = 0

    class Counting(Kept):
        def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            yield None
            yield self.at(time)

    async def ask(views: PastViews, client: str) -> None:
        nonlocal at_once

        def work(recorded: TimedSnapshot) -> None:
            nonlocal at_once
            at_once -= 1

        await views.snapshot(Counting(), BEGIN, work, client=client)

    async def work() -> None:
        views = PastViews(DutyCycle())
        await asyncio.gather(*(ask(views, str(number % 7)) for number in range(50)))

    run(work())
    assert (at_once, most) == (0, 1)


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_views, "WAIT_SECONDS", 0.05)

    async def work() -> None:
        found = PastViews(DutyCycle())
        async with found._turn.hold("another", 5):
            with pytest.raises(TimeoutError):
                await found.window(Kept(), BEGIN)

    run(work())


def test_depth_has_bounds() -> None:
    limit = ReadLimit(20, 1000, 3)
    for rows, points in ((0, 20), (50, 20), (100, 10), (5000, 3)):
        sites = tuple(site(f"f{i}", i) for i in range(rows))
        host = snapshot(caches=(), devices=(), sites=sites)
        assert limit.points(host) == points, rows
