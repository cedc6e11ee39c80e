# SPDX-License-Identifier: Apache-2.0
"""Views of past moments, computed from the history in slices so that other requests are served in
between."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from slabmon.base.errors import DamagedSnapshot
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.sources import SteppedPast
from slabmon.sources.read_limit import JUDGED, JUDGED_SECONDS, WINDOW, ReadLimit
from slabmon.views.catalogue import VIEWS
from slabmon.views.chart_history import SPAN_SECONDS, ChartHistory
from slabmon.views.window import WINDOW_SECONDS, Instant, NoJudge, Window, WindowBuilder
from slabmon.web.feeds.duty_cycle import PATIENCE_SECONDS, DutyCycle, FairLock

if TYPE_CHECKING:
    from slabmon.store.recording import TimedSnapshot

T = TypeVar("T")

_CHARTS = ReadLimit(120, 600_000, 6)
# Charts begin at multiples of this, so that neighbouring moments share them.
_GRID_SECONDS = SPAN_SECONDS / 2
# How many results of each kind are cached; each is as large as the host.
KEPT = ReadLimit(4, 100_000, 1)
WAIT_SECONDS = 25.0
# How long the next slice of a computation may wait: on a large host one slice and the pause after
# it can take seconds.
_PIECE_SECONDS = 60.0
# How long a snapshot is unpacked before others get their turn.
_SLICE_SECONDS = 0.05


class PastViews:
    """The past views of one web process, cached. Methods raise TimeoutError if too many requests
    wait, and the errors of the history itself.

    One view is computed at a time, and one snapshot read, so that few snapshots are in memory,
    however many requests there are.
    """

    def __init__(self, duty_cycle: DutyCycle) -> None:
        self._duty_cycle = duty_cycle
        self._turn, self._reading = FairLock(), FairLock()
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {}

    async def window(
        self, past: SteppedPast, time: float, judged: bool = False, *, client: str = ""
    ) -> Window:
        """Return the window of a Unix time, with the minutes before it; if `judged`, with the
        assessment of leaks."""

        async def make(now: TimedSnapshot) -> Window:
            history = WindowBuilder(VIEWS.values(), NoJudge())
            # Rates cover the last interval before, as they did then.
            points = WINDOW.points(now.snapshot)
            times = {*past.times(now.time - WINDOW_SECONDS, now.time, points), now.time}
            with suppress(DamagedSnapshot):
                times.add(
                    await self.snapshot(past, now.time - 0.001, attrgetter("time"), client=client)
                )
            await self._each(past, times, history.add, client)
            return history.add(now.snapshot)

        window: Window = await self._once("window", past, time, client, lambda now: now.time, make)
        if not judged:
            return window
        assessment = await self.assessment(past, time, client=client)
        return replace(window, now=Instant(window.snapshot, lambda: assessment))

    async def hour(self, past: SteppedPast, time: float, *, client: str = "") -> ChartHistory:
        """Return the hour around a Unix time, as far as it is of the same tracking session."""

        def key(now: TimedSnapshot) -> tuple[float, float, tuple[str, float]]:
            begin = now.time // _GRID_SECONDS * _GRID_SECONDS - _GRID_SECONDS / 2
            return begin, min(begin + SPAN_SECONDS, past.span()[1]), _session(now.snapshot)

        async def make(now: TimedSnapshot) -> ChartHistory:
            begin, end, session = key(now)
            hour = ChartHistory(VIEWS.values(), float("inf"), 0.0)

            def add(snapshot: Snapshot) -> None:
                if _session(snapshot) == session:
                    hour.add(Instant(snapshot))

            times = past.times(begin, end, _CHARTS.points(now.snapshot))
            await self._each(past, times, add, client)
            return hour

        hour: ChartHistory = await self._once("hour", past, time, client, key, make)
        return hour

    async def assessment(self, past: SteppedPast, time: float, *, client: str = "") -> Assessment:
        """Return the assessment of leaks at a Unix time, from the hour before it."""

        async def make(now: TimedSnapshot) -> Assessment:
            judge = Observer()
            times = past.times(now.time - JUDGED_SECONDS, now.time, JUDGED.points(now.snapshot))
            await self._each(past, times, judge.add, client)
            return judge.assess()

        assessment: Assessment = await self._once(
            "assessment", past, time, client, lambda now: now.time, make
        )
        return assessment

    async def snapshot(
        self,
        past: SteppedPast,
        time: float,
        work: Callable[[TimedSnapshot], T],
        *,
        client: str = "",
        patience: float = PATIENCE_SECONDS,
        finish: Callable[[T], object] | None = None,
    ) -> T:
        """Return the result of `work` with the last snapshot not after `time`; `finish` is called
        with it (see DutyCycle.take). The snapshot is unpacked in slices; `patience` is for the turn
        before the first."""
        async with self._reading.hold(client, patience):
            steps = past.steps(time)
            recorded = None
            while recorded is None:
                recorded = await self._duty_cycle.take(
                    partial(_advance, steps), client, _PIECE_SECONDS
                )
            return await self._duty_cycle.take(
                partial(work, recorded), client, _PIECE_SECONDS, finish
            )

    async def _each(
        self,
        past: SteppedPast,
        times: Iterable[float],
        work: Callable[[Snapshot], object],
        client: str,
    ) -> None:
        """Call `work` with the snapshots of these times; those that are damaged are left out."""

        def add(recorded: TimedSnapshot) -> None:
            work(recorded.snapshot)

        for time in sorted(times):
            with suppress(DamagedSnapshot):
                await self.snapshot(past, time, add, client=client, patience=_PIECE_SECONDS)

    async def _once(
        self,
        kind: str,
        past: SteppedPast,
        time: float,
        client: str,
        key_of: Callable[[TimedSnapshot], Hashable],
        make: Callable[[TimedSnapshot], Awaitable[object]],
    ) -> Any:
        """Return the cached result for the snapshot at `time`, or make it; one at a time. A client
        that gives up waiting finds it cached the next time."""
        async with self._turn.hold(client, WAIT_SECONDS):
            now = await self.snapshot(past, time, _same, client=client)
            cache, key = self._kept.setdefault(kind, OrderedDict()), key_of(now)
            if key not in cache:
                while len(cache) >= KEPT.points(now.snapshot):
                    cache.popitem(last=False)
                cache[key] = await make(now)
            cache.move_to_end(key)
            return cache[key]


def _same(recorded: TimedSnapshot) -> TimedSnapshot:
    return recorded


def _session(snapshot: Snapshot) -> tuple[str, float]:
    return snapshot.host.boot_id, snapshot.tracking.since


def _advance(steps: Iterator[TimedSnapshot | None]) -> TimedSnapshot | None:
    """Take steps for _SLICE_SECONDS. Returns the snapshot if that was enough."""
    end = monotonic() + _SLICE_SECONDS
    for recorded in steps:
        if recorded is not None or monotonic() >= end:
            return recorded
    raise RuntimeError("a history ended without a snapshot")
