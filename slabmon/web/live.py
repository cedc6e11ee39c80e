"""What the live page is made of: windows over readings, kept up whether or not anyone looks."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

from slabmon.analysis.hour import STEP_SECONDS, Hour
from slabmon.analysis.verdicts.finding import Assessment
from slabmon.analysis.window import History, Window
from slabmon.memory import give_back, let_go_of_files, settle
from slabmon.views import VIEWS
from slabmon.web.readings import Now, Source

# Pages share a window as long; rates are over at least so much.
SHARED_SECONDS = 3.0
_GIVE_BACK_EVERY = 6


@dataclass(frozen=True)
class Moment:
    """A window, how many seconds ago it was made, and an empty `problem` or why there is none
    newer. `own_ratio`: CPU time of the daemon's processes per second since the window before,
    None: not known yet; `own_bytes`: their memory and that of the BPF maps."""

    window: Window
    age: float
    problem: str = ""
    own_ratio: float | None = None
    own_bytes: int = 0


class Live:
    """One of these per web process. The past goes with the process."""

    def __init__(self) -> None:
        self._history = History(VIEWS.values())
        self.hour = Hour(VIEWS.values())
        self._window: Window | None = None
        self._at = 0.0
        self._cpu: tuple[float, float] | None = None  # when, and seconds spent until then
        self._own: tuple[float | None, int] = (None, 0)

    async def moment(self, source: Source) -> Moment | str:
        """The present, or why nothing is known of it."""
        problem = ""
        if self._window is None or time.monotonic() - self._at > SHARED_SECONDS:
            # Stacks and cgroup paths are always asked for: the past needs names that stay.
            now = await source.now(detailed=True)
            problem = now.problem
            if not problem:
                self._take(now)
        if self._window is None:
            return problem
        return Moment(self._window, time.monotonic() - self._at, problem, *self._own)

    def assessment(self) -> Assessment:
        """What can be said of leaks now."""
        return self._history.assess()

    async def keep(self, source: Source) -> None:
        """Goes on taking readings, until cancelled."""
        for turn in itertools.count():
            await self.moment(source)
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
        known = [report[name] for name in ("collector_cpu_seconds", "web_cpu_seconds")
                 if name in report]  # fmt: skip
        spent, before = sum(known), self._cpu
        self._cpu = (time.monotonic(), spent) if known else None
        ratio = None
        if before is not None and self._cpu is not None:
            ratio = max(0.0, spent - before[1]) / (self._cpu[0] - before[0])
        held = sum(report.get(name, 0) for name in (
            "collector_proportional_bytes", "web_proportional_bytes", "bpf_bytes",
        ))  # fmt: skip
        return ratio, int(held)
