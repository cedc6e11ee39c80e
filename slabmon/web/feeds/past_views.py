# SPDX-License-Identifier: Apache-2.0
"""Views of past moments, computed from the history in slices so that other requests are served in
between."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.sources import Past
from slabmon.sources.read_limit import JUDGED, JUDGED_SECONDS, WINDOW, ReadLimit
from slabmon.views.catalogue import VIEWS
from slabmon.views.chart_history import SPAN_SECONDS, ChartHistory
from slabmon.views.window import WINDOW_SECONDS, Instant, NoJudge, Window, WindowBuilder
from slabmon.web.feeds.duty_cycle import DutyCycle, FairLock

if TYPE_CHECKING:
    from slabmon.store.recording import TimedSnapshot

_CHARTS = ReadLimit(120, 600_000, 6)
# Charts begin at multiples of this, so that neighbouring moments share them.
_GRID_SECONDS = SPAN_SECONDS / 2
# How many results of each kind are cached; each is as large as the host.
KEPT = ReadLimit(4, 100_000, 1)
WAIT_SECONDS = 25.0
# How long the next slice of a computation may wait: on a large host one slice and the pause after
# it can take seconds.
_PIECE_SECONDS = 60.0


class PastViews:
    """The past views of one web process, cached. Methods raise TimeoutError if too many requests
    wait, and the errors of the history itself."""

    def __init__(self, duty_cycle: DutyCycle) -> None:
        self._duty_cycle = duty_cycle
        self._turn = FairLock()
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {}

    async def window(
        self, past: Past, time: float, judged: bool = False, *, client: str = ""
    ) -> Window:
        """Return the window of a Unix time, with the minutes before it; if `judged`, with the
        assessment of leaks."""
        now = await self._at(past, time, client)

        async def make() -> Window:
            history = WindowBuilder(VIEWS.values(), NoJudge())
            # Rates cover the last interval before, as they did then.
            before = await self._at(past, now.time - 0.001, client)
            points = WINDOW.points(now.snapshot)
            times = past.times(now.time - WINDOW_SECONDS, now.time, points)
            await self._each(past, {*times, before.time, now.time}, history.add, client)
            return history.add(now.snapshot)

        window: Window = await self._once("window", now, now.time, make, client)
        if not judged:
            return window
        assessment = await self.assessment(past, time, client=client)
        return replace(window, now=Instant(now.snapshot, lambda: assessment))

    async def hour(self, past: Past, time: float, *, client: str = "") -> ChartHistory:
        """Return the hour around a Unix time, as far as it is of the same tracking session."""
        now = await self._at(past, time, client)
        session = now.snapshot.host.boot_id, now.snapshot.tracking.since
        begin = now.time // _GRID_SECONDS * _GRID_SECONDS - _GRID_SECONDS / 2
        end = min(begin + SPAN_SECONDS, past.span()[1])

        async def make() -> ChartHistory:
            hour = ChartHistory(VIEWS.values(), float("inf"), 0.0)

            def add(snapshot: Snapshot) -> None:
                if (snapshot.host.boot_id, snapshot.tracking.since) == session:
                    hour.add(Instant(snapshot))

            await self._each(
                past, past.times(begin, end, _CHARTS.points(now.snapshot)), add, client
            )
            return hour

        found: ChartHistory = await self._once("hour", now, (begin, end, session), make, client)
        return found

    async def assessment(self, past: Past, time: float, *, client: str = "") -> Assessment:
        """Return the assessment of leaks at a Unix time, from the hour before it."""
        now = await self._at(past, time, client)

        async def make() -> Assessment:
            judge = Observer()
            times = past.times(now.time - JUDGED_SECONDS, now.time, JUDGED.points(now.snapshot))
            await self._each(past, times, judge.add, client)
            return judge.assess()

        found: Assessment = await self._once("assessment", now, now.time, make, client)
        return found

    async def _at(self, past: Past, time: float, client: str) -> TimedSnapshot:
        return await self._duty_cycle.take(lambda: past.at(time), client)

    async def _each(
        self, past: Past, times: Iterable[float], work: Callable[[Snapshot], object], client: str
    ) -> None:
        for time in sorted(times):
            await self._duty_cycle.take(partial(_apply, work, past, time), client, _PIECE_SECONDS)

    async def _once(
        self,
        kind: str,
        now: TimedSnapshot,
        key: Hashable,
        make: Callable[[], Awaitable[object]],
        client: str,
    ) -> Any:
        """Return the cached result, or make it; one at a time. A client that gives up waiting
        finds it cached the next time."""
        async with self._turn.hold(client, WAIT_SECONDS):
            cache = self._kept.setdefault(kind, OrderedDict())
            if key not in cache:
                while len(cache) >= KEPT.points(now.snapshot):
                    cache.popitem(last=False)
                cache[key] = await make()
            cache.move_to_end(key)
            return cache[key]


def _apply(work: Callable[[Snapshot], object], past: Past, time: float) -> None:
    work(past.at(time).snapshot)
