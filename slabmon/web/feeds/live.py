# SPDX-License-Identifier: Apache-2.0
"""What the live page is made of: windows over readings, kept up whether or not anyone looks."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from dataclasses import dataclass

from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.runtime.malloc import give_back, let_go_of_files, settle
from slabmon.views.catalogue import VIEWS
from slabmon.views.chart_history import STEP_SECONDS, Hour
from slabmon.views.window import History, Window
from slabmon.web.feeds.readings import Now, Source

# Pages share a window as long; rates are over at least so much.
SHARED_SECONDS = 3.0
_GIVE_BACK_EVERY = 6
# So many moments are kept for pages that are paused.
_HELD = 2
# A page that is not paused asks again within so long (AGAIN in page.js, with time to spare).
_LOOKED_SECONDS = 15.0
_SAME_SECONDS = 0.001  # times have been text on their way


@dataclass(frozen=True)
class Moment:
    """A window, how many seconds ago it was made, and an empty `problem` or why there is none
    newer. `own_ratio`: CPU time of the daemon's processes per second since the window before,
    None: not known yet; `own_bytes`: their memory and that of the BPF maps (None: not known, of a
    moment that was recorded)."""

    window: Window
    age: float
    problem: str = ""
    own_ratio: float | None = None
    own_bytes: int | None = None

    @property
    def at(self) -> float:
        """Unix time of the window."""
        return self.window.snapshot.taken


class Live:
    """One of these per web process. The past goes with the process."""

    def __init__(self) -> None:
        self._judge = Observer()
        self._history = History(VIEWS.values(), judge=self._judge)
        self.hour = Hour(VIEWS.values())
        self._window: Window | None = None
        self._shown: deque[Moment] = deque(maxlen=2)  # the last ones, while a page is open
        self._looked_at = 0.0
        self._held: deque[Moment] = deque(maxlen=_HELD)
        self._at = 0.0
        self._cpu: tuple[float, float] | None = None  # when, and seconds spent until then
        self._own: tuple[float | None, int | None] = (None, None)

    async def moment(self, source: Source) -> Moment | str:
        """The present, for a page, or why nothing is known of it."""
        problem = await self._renew(source)
        if self._window is None:
            return problem
        found = Moment(self._window, time.monotonic() - self._at, problem, *self._own)
        if not self._shown or self._shown[-1].window is not found.window:
            self._shown.append(found)
        self._looked_at = time.monotonic()
        return found

    async def _renew(self, source: Source) -> str:
        """Takes a reading if it is time for one; why there is none."""
        if self._window is not None and time.monotonic() - self._at <= SHARED_SECONDS:
            return ""
        # Stacks and cgroup paths are always asked for: the past needs names that stay.
        now = await source.now(detailed=True)
        if not now.problem:
            self._take(now)
        return now.problem

    def held(self, at: float) -> Moment | None:
        """A moment that was shown at this Unix time, as long as others do not ask for others."""
        for moment in (*self._held, *self._shown):
            if abs(moment.at - at) < _SAME_SECONDS:
                others = (other for other in self._held if other is not moment)
                self._held = deque((*others, moment), _HELD)
                return moment
        return None

    def assessment(self) -> Assessment:
        """What can be said of leaks now."""
        return self._judge.assess()

    async def keep(self, source: Source) -> None:
        """Goes on taking readings, until cancelled."""
        for turn in itertools.count():
            await self._renew(source)
            if time.monotonic() - self._looked_at > _LOOKED_SECONDS:
                self._shown.clear()
            if turn == 1:
                settle()
                let_go_of_files()
            if turn % _GIVE_BACK_EVERY == 0:
                give_back()
            await asyncio.sleep(STEP_SECONDS)

    def _take(self, now: Now) -> None:
        if now.reading is None or now.reading.at <= self._at:
            return
        self._window = self._history.add(now.reading.snapshot)
        self.hour.add(self._window.now)
        self._own = self._cost(now)
        self._at = now.reading.at

    def _cost(self, now: Now) -> tuple[float | None, int]:
        report = now.report
        known = [
            report[name] for name in ("collector_cpu_seconds", "web_cpu_seconds") if name in report
        ]
        spent, before = sum(known), self._cpu
        self._cpu = (time.monotonic(), spent) if known else None
        ratio = None
        if before is not None and self._cpu is not None:
            ratio = max(0.0, spent - before[1]) / (self._cpu[0] - before[0])
        held = sum(
            report.get(name, 0)
            for name in (
                "collector_proportional_bytes",
                "web_proportional_bytes",
                "bpf_bytes",
            )
        )
        return ratio, int(held)
