# SPDX-License-Identifier: Apache-2.0
"""Holds slabmon to its CPU budget: measures the cost, decides (slabmon.runtime.budget), applies."""

from __future__ import annotations

import logging
import time

from slabmon.kernel.bpf import syscall
from slabmon.kernel.tracker import Tracker
from slabmon.model import BUDGET, FeatureState, State
from slabmon.runtime.budget import STEPS, BudgetSettings, Cost, Level
from slabmon.runtime.figures import BudgetFigures

log = logging.getLogger(__name__)


class Governor:
    """The budget of one session.

    Call period() once per period. BPF run time is measured in a window of it, between
    window_opens() and window_closes().
    """

    def __init__(self, tracker: Tracker, settings: BudgetSettings) -> None:
        self._tracker = tracker
        self._settings = settings
        tracking, features = tracker.plan.settings, tracker.plan.features
        self.sample_bytes = tracking.sample_bytes
        self.level = Level(
            available=tuple(
                step
                for step in STEPS
                if not (step.widen > 1 and tracking.exact)
                and not (step.shed == "pages" and features["pages"].state == State.OFF)
            )
        )
        self._bpf_cpus: float | None = None  # in the last window
        self._window = (0.0, 0.0)  # when it opened (monotonic seconds), BPF run seconds then
        self._processes: tuple[float, float, float] | None = None
        self.cost: Cost | None = None
        self._helpless = False

    @property
    def limit(self) -> float:
        """The budget in CPUs; 0: no limit."""
        return self._settings.limit(self._tracker.facts.cpus)

    @property
    def exceeded(self) -> bool:
        """Whether steps are taken to stay within the budget."""
        return self.level.steps > 0

    def _run_seconds(self) -> float:
        programs = self._tracker.programs.programs.values()
        return sum(syscall.program_info(program).run_seconds for program in programs)

    @property
    def measures_bpf(self) -> bool:
        """Whether BPF run time is to be measured."""
        return self._settings.bpf_statistics

    def window_opens(self) -> None:
        """Start measuring BPF run time; statistics have just been enabled."""
        self._window = time.monotonic(), self._run_seconds()

    def window_closes(self) -> None:
        """Stop measuring BPF run time; statistics are about to be disabled."""
        opened, run_seconds = self._window
        elapsed = max(time.monotonic() - opened, 1e-3)
        self._bpf_cpus = (self._run_seconds() - run_seconds) / elapsed

    def period(self, collector: float, web: float) -> None:
        """End a period, with the CPU seconds that the two processes have used since they started:
        compute its cost, and take or undo a step where that is due."""
        now, before = (time.monotonic(), collector, web), self._processes
        self._processes = now
        bpf, self._bpf_cpus = self._bpf_cpus, None
        if before is None:
            return
        seconds = max(now[0] - before[0], 1e-3)
        self.cost = Cost(
            collector=(now[1] - before[1]) / seconds,
            web=(now[2] - before[2]) / seconds,
            bpf=bpf,
        )
        self._set(self.level.after(self.cost.tracking, self.limit))

    def _set(self, level: Level) -> None:
        before, self.level = self.level, level
        exceeded = bool(self.cost and 0 < self.limit < self.cost.tracking)
        helpless = exceeded and before.steps == len(before.available)
        if level.steps != before.steps:
            assert self.cost is not None
            step = max(level.taken, before.taken, key=len)[-1]
            log.log(
                logging.WARNING if level.steps > before.steps else logging.INFO,
                "tracking costs %.2f %% of a CPU, budget %.2f %%: %s%s",
                100 * self.cost.tracking,
                100 * self.limit,
                step.name,
                "" if level.steps > before.steps else ", undone",
            )
            self._apply()
        elif helpless and not self._helpless:
            log.warning(
                "tracking costs more than the budget and nothing is left to give up: counting "
                "itself continues"
            )
        self._helpless = helpless

    def reconfigure(self, settings: BudgetSettings, sample_bytes: int) -> None:
        """Apply other settings; the steps taken stay taken."""
        self._settings, self.sample_bytes = settings, sample_bytes
        self._apply()

    def _apply(self) -> None:
        self._tracker.set_sample_interval(self.sample_bytes * self.level.widen)
        self._tracker.shed_load(self.level.shed)
        if self.level.steps:
            reason = f"exceeded: {', '.join(self.level.effects)}"
            self._tracker.features[BUDGET] = FeatureState(State.DEGRADED, reason)
        else:
            self._tracker.features.pop(BUDGET, None)

    def figures(self) -> BudgetFigures:
        """Return the figures to export."""
        return BudgetFigures(
            limit_cpus=self.limit,
            cost=self.cost,
            steps_taken=tuple(step.name for step in self.level.taken),
        )
