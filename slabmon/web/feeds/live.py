# SPDX-License-Identifier: Apache-2.0
"""Windows over the readings, for the live page and for verdicts. They are kept up to date whether
or not a page is open."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from slabmon.analysis.grouping import group_live
from slabmon.base.activity import Activity
from slabmon.base.clock import boottime
from slabmon.base.workloads import Workload
from slabmon.leaks.doubts import doubts
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.memory.growth import UncountedHistory
from slabmon.model import Snapshot
from slabmon.sources import Past
from slabmon.sources.lookback import readable
from slabmon.sources.read_limit import WINDOW
from slabmon.state.checkpoint_file import CheckpointFile
from slabmon.store.recording import TimedSnapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.chart_history import STEP_SECONDS, ChartHistory
from slabmon.views.window import WINDOW_SECONDS, Window, WindowBuilder
from slabmon.web.feeds.readings import Now, ReadingSource
from slabmon.web.feeds.verdict_state import VerdictState

# Pages share a window for this long, and rates cover at least this long.
SHARED_SECONDS = 3.0
# How many moments are held for paused pages.
_HELD = 2
# A page that is not paused asks again within this time (AGAIN in page.js, with time to spare).
_LOOKED_SECONDS = 15.0
# Between readings while no page is open and tracking is asleep, when memory that is exhausted is
# found within minutes, and while it is off.
_ASLEEP_SECONDS, _OFF_SECONDS = 20.0, 60.0
_SAME_SECONDS = 0.001  # times travel as text


@dataclass(frozen=True)
class PageMoment:
    """A window as the page shows it.

    `age` is in seconds; `problem` says why there is no newer window, empty if this is the newest.
    `own_ratio` is the CPU time of the daemon's processes per second since the previous window,
    None while unknown. `own_bytes` is their memory and that of the BPF maps, None for a recorded
    moment.
    """

    window: Window
    age: float
    problem: str = ""
    own_ratio: float | None = None
    own_bytes: int | None = None

    @property
    def at(self) -> float:
        """Unix time of the window."""
        return self.window.snapshot.taken


class LiveViews:
    """The windows of one web process. They end with it; what verdicts have watched need not."""

    def __init__(self) -> None:
        self._judge = Observer()
        self._state: VerdictState | None = None
        self._history = WindowBuilder(VIEWS.values(), self._judge)
        self.hour = ChartHistory(VIEWS.values())
        self.uncounted = UncountedHistory()
        self._window: Window | None = None
        self._shown: deque[PageMoment] = deque(maxlen=2)  # the newest, while a page is open
        self._looked_at = 0.0
        self._doubted = 0  # how often
        self._held: deque[PageMoment] = deque(maxlen=_HELD)
        self._at = 0.0
        self._cpu: tuple[float, float] | None = None  # monotonic time, CPU seconds until then
        self._own: tuple[float | None, int | None] = (None, None)
        self._callers: tuple[Window | None, Mapping[str, float]] = (None, {})
        self._cgroups: tuple[Window | None, Mapping[Workload, float]] = (None, {})

    async def resume(self, file: CheckpointFile, source: ReadingSource) -> None:
        """Have verdicts go on where they were saved last, with a reading of now, and save them to
        this file from then on."""
        self._state = VerdictState(file, self._judge)
        self._state.restore()
        await self._renew(source)

    def begin(self, past: Past, now: TimedSnapshot) -> None:
        """Begin with the window that ends at this moment of the past, as if it had been read."""
        times = past.times(now.time - WINDOW_SECONDS, now.time, WINDOW.points(now.snapshot))
        for recorded in readable(past, times, {}):
            self._add(recorded.snapshot)

    async def moment(self, source: ReadingSource) -> PageMoment | str:
        """Return the present moment, or why there is none."""
        problem = await self._renew(source)
        if self._window is None:
            return problem
        source.want_tracking()
        present = PageMoment(self._window, boottime() - self._at, problem, *self._own)
        if not self._shown or self._shown[-1].window is not present.window:
            self._shown.append(present)
        self._looked_at = time.monotonic()
        return present

    async def _renew(self, source: ReadingSource) -> str:
        """Take a reading if one is due. Returns why there is none, empty if there is."""
        if self._window is not None and boottime() - self._at <= SHARED_SECONDS:
            return ""
        # Always detailed: history needs the names of stacks and cgroups.
        now = await source.now(detailed=True)
        if not now.problem:
            self._take(now)
        return now.problem

    def held(self, at: float) -> PageMoment | None:
        """Return the moment shown with this Unix time and hold on to it, or None if it is gone: the
        _HELD moments asked for last are held."""
        for moment in (*self._held, *self._shown):
            if abs(moment.at - at) < _SAME_SECONDS:
                others = (other for other in self._held if other is not moment)
                self._held = deque((*others, moment), _HELD)
                return moment
        return None

    def callers(self) -> Mapping[str, float]:
        """Return live bytes by caller in the newest window; {} while there is none."""
        if self._window is not self._callers[0]:
            rows = group_live(self._window.snapshot, ("caller",)) if self._window else []
            self._callers = self._window, {row.labels[0]: float(row.live.bytes) for row in rows}
        return self._callers[1]

    def cgroups(self) -> Mapping[Workload, float]:
        """Return live bytes by cgroup in the newest window; {} while there is none."""
        window = self._window
        if window is not None and window is not self._cgroups[0]:
            rows = group_live(window.snapshot, ("cgroup",))
            workload = window.snapshot.workload
            live = {workload(row.labels[0]): float(row.live.bytes) for row in rows}
            self._cgroups = window, live
        return self._cgroups[1]

    def assessment(self) -> Assessment:
        """Return the present assessment of leaks."""
        return self._judge.assess()

    async def keep(self, source: ReadingSource) -> None:
        """Take readings until cancelled."""
        while True:
            await self._renew(source)
            looked = time.monotonic() - self._looked_at <= _LOOKED_SECONDS
            if not looked:
                self._shown.clear()
            if self._judge.suspicious:
                source.want_tracking()
                self._look_closer(source)
            await asyncio.sleep(STEP_SECONDS if looked else self._pause())

    def _look_closer(self, source: ReadingSource) -> None:
        """Ask for what would tell more of a suspect."""
        if self._window is None:
            return
        found = list(doubts(self._judge.assess(), self._window.snapshot))
        if found:  # in turn: not all can be examined
            self._doubted += source.doubt(*found[self._doubted % len(found)])

    def _pause(self) -> float:
        """Return the seconds until the next reading while no page is open."""
        if self._window is None:
            return STEP_SECONDS
        activity = self._window.snapshot.tracking.activity
        pauses = {Activity.ASLEEP: _ASLEEP_SECONDS, Activity.OFF: _OFF_SECONDS}
        return pauses.get(activity, STEP_SECONDS)

    def _take(self, now: Now) -> None:
        if now.reading is None or now.reading.at <= self._at:
            return
        self._add(now.reading.snapshot)
        self._own = self._cost(now)
        self._at = now.reading.at
        if self._state is not None:
            self._state.save()

    def _add(self, snapshot: Snapshot) -> None:
        self._window = self._history.add(snapshot)
        self.hour.add(self._window.now)
        if snapshot.memory is not None:
            self.uncounted.add(snapshot.memory)

    def _cost(self, now: Now) -> tuple[float | None, int | None]:
        figures, before = now.figures, self._cpu
        if figures is None:
            self._cpu = None
            return None, None
        spent = figures.collector_cpu_seconds + figures.web_cpu_seconds
        self._cpu = (time.monotonic(), spent)
        ratio = None
        if before is not None:
            ratio = max(0.0, spent - before[1]) / (self._cpu[0] - before[0])
        memory = figures.memory
        held = memory.collector.proportional + memory.web.proportional + memory.bpf_bytes
        return ratio, held
