# SPDX-License-Identifier: Apache-2.0
"""Holds slabmon to its budget of CPU time: measures, decides (slabmon.budget), applies."""

from __future__ import annotations

import logging
import time

from slabmon.kernel.bpf import syscall
from slabmon.kernel.shedding import sample_every, shed
from slabmon.kernel.tracker import Tracker
from slabmon.runtime.budget import STEPS, BudgetSettings, Cost, Level

log = logging.getLogger(__name__)


class Governor:
    """One for a session. Between two calls of period() lies a period; BPF run time is measured in
    a window of it, from window_opens() to window_closes()."""

    def __init__(self, tracker: Tracker, settings: BudgetSettings) -> None:
        self._tracker = tracker
        self._settings = settings
        self.sample_bytes = tracker.plan.settings.sample_bytes
        own = tracker.plan.settings
        self.level = Level(
            available=tuple(
                step
                for step in STEPS
                if not (step.widen > 1 and own.exact)
                and not (step.shed == "pages" and not own.pages)
            )
        )
        self._bpf = 0.0
        self._window = (0.0, 0.0)  # when it opened, run time then
        self._processes: tuple[float, float, float] | None = None
        self.cost: Cost | None = None
        self._helpless = False

    @property
    def limit(self) -> float:
        """In CPUs; 0: none."""
        return self._settings.limit(self._tracker.facts.cpus)

    def _run_seconds(self) -> float:
        programs = self._tracker.programs.programs.values()
        return sum(syscall.program_info(program).run_seconds for program in programs)

    def window_opens(self) -> None:
        """BPF statistics are on from now."""
        self._window = time.monotonic(), self._run_seconds()

    def window_closes(self) -> None:
        """They are about to go off."""
        opened, run = self._window
        self._bpf = (self._run_seconds() - run) / max(time.monotonic() - opened, 1e-3)

    def period(self, collector: float, web: float) -> None:
        """A period is over. CPU seconds of the two processes since they started; counters."""
        now, before = (time.monotonic(), collector, web), self._processes
        self._processes = now
        if before is None:
            return
        seconds = max(now[0] - before[0], 1e-3)
        self.cost = Cost((now[1] - before[1]) / seconds, (now[2] - before[2]) / seconds, self._bpf)
        self._set(self.level.after(self.cost.total, self.limit))

    def _set(self, level: Level) -> None:
        old, self.level = self.level, level
        exceeded = bool(self.cost and 0 < self.limit < self.cost.total)
        helpless = exceeded and old.steps == len(old.available)
        if level.steps != old.steps:
            assert self.cost is not None
            step = max(level.taken, old.taken, key=len)[-1]
            log.log(
                logging.WARNING if level.steps > old.steps else logging.INFO,
                "cost %.2f %% of a CPU, budget %.2f %%: %s%s",
                100 * self.cost.total,
                100 * self.limit,
                step.name,
                "" if level.steps > old.steps else ", undone",
            )
            self._apply()
        elif helpless and not self._helpless:
            log.warning(
                "the cost is above the budget and nothing is left to give up: counting "
                "itself goes on"
            )
        self._helpless = helpless

    def reconfigure(self, settings: BudgetSettings, sample_bytes: int) -> None:
        """Takes other settings."""
        self._settings, self.sample_bytes = settings, sample_bytes
        self._apply()

    def _apply(self) -> None:
        sample_every(self._tracker, self.sample_bytes * self.level.widen)
        shed(self._tracker, self.level.shed)

    def report(self) -> dict[str, float]:
        """Figures by the names the metric catalogue knows them by."""
        found = {"budget_cpus": self.limit}
        for number, step in enumerate(STEPS):
            found[f"budget_step_{number}"] = float(step in self.level.taken)
        if self.cost is not None:
            found |= {
                f"{part}_cpus": getattr(self.cost, part) for part in ("collector", "web", "bpf")
            }
        return found
