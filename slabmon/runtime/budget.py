# SPDX-License-Identifier: Apache-2.0
"""What slabmon may cost, and what it gives up when it costs more: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from slabmon.base.limits import Limits, check_limits


class Step(NamedTuple):
    """One thing given up. `widen`: the sampling interval becomes so many times longer. `shed`:
    this is done no more. `spacing`: the kernel's tables are read at most every so many seconds."""

    name: str
    widen: int = 1
    shed: str = ""
    spacing: float = 0.0


# In this order, and undone backwards. Counting allocations and frees is never given up: after a
# gap live memory would be wrong, and a wrong figure is worse than a cost that is exported.
STEPS = (
    Step("sampling interval x4", widen=4),
    Step("sampling interval x16", widen=16),
    Step("sampling interval x64", widen=64),
    Step("page allocator events off", shed="pages"),
    Step("slabinfo not read", shed="slabinfo"),
    Step("tables read every 15 s at most", spacing=15.0),
)
# Periods over the budget before a step is taken, periods well below before one is undone.
PATIENCE_UP, PATIENCE_DOWN = 2, 5
# Undoing a step raises the cost again: only below this share of the budget it is tried.
COMFORT = 0.5


@dataclass(frozen=True)
class BudgetSettings:
    """`cpu_percent`: of one CPU, for each CPU of the host; 0: no limit."""

    LIMITS: ClassVar[Limits] = {"cpu_percent": (0, 100)}

    cpu_percent: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self)

    def limit(self, cpus: int) -> float:
        """In CPUs: 0.02 is two hundredths of one CPU's time."""
        return self.cpu_percent / 100 * cpus


@dataclass(frozen=True)
class Cost:
    """CPUs used on average over a period, by the two processes and by BPF programs."""

    collector: float
    web: float
    bpf: float

    @property
    def total(self) -> float:
        return self.collector + self.web + self.bpf


@dataclass(frozen=True)
class Level:
    """How many of the steps are taken, and for how many periods in a row the cost was too high or
    comfortably low. `available`: the steps that make sense in this session."""

    steps: int = 0
    over: int = 0
    under: int = 0
    available: tuple[Step, ...] = STEPS

    def after(self, cost: float, limit: float) -> Level:
        """The level after a period with this cost; both in CPUs. A limit of 0 is none."""
        if limit > 0 and cost > limit:
            if self.over + 1 >= PATIENCE_UP and self.steps < len(self.available):
                return self._at(self.steps + 1)
            return replace(self, over=min(self.over + 1, PATIENCE_UP), under=0)
        if (limit > 0 and cost > limit * COMFORT) or not self.steps:
            return self._at(self.steps)
        if self.under + 1 >= PATIENCE_DOWN or limit == 0:
            return self._at(self.steps - 1)
        return replace(self, over=0, under=self.under + 1)

    def _at(self, steps: int) -> Level:
        return Level(steps, available=self.available)

    @property
    def taken(self) -> tuple[Step, ...]:
        return self.available[: self.steps]

    @property
    def widen(self) -> int:
        """By how much the sampling interval is longer than asked for."""
        return max((step.widen for step in self.taken), default=1)

    @property
    def shed(self) -> frozenset[str]:
        """What is not done for now."""
        return frozenset(step.shed for step in self.taken if step.shed)

    @property
    def spacing(self) -> float:
        """Seconds at least between two readings of the kernel's tables."""
        return max((step.spacing for step in self.taken), default=0.0)
