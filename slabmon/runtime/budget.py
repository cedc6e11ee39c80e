# SPDX-License-Identifier: Apache-2.0
"""The CPU budget: what slabmon may cost and what it gives up to stay within it. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from slabmon.base.limits import Limits, check_limits


class Step(NamedTuple):
    """One thing to give up. `widen`: factor by which the sampling interval grows. `shed`: the
    collector that is stopped. `spacing`: seconds between two readings of the kernel's tables."""

    name: str
    widen: int = 1
    shed: str = ""
    spacing: float = 0.0


# Taken in this order and undone in reverse. Counting allocations and frees is never given up: after
# a gap live memory would be wrong, and a wrong figure is worse than a cost that is exported.
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
# Undoing a step raises the cost again: it is tried only below this share of the budget.
COMFORT = 0.5


@dataclass(frozen=True)
class BudgetSettings:
    """`cpu_percent`: percent of one CPU for each CPU of the host; 0: no limit. `bpf_statistics`:
    measure the run time of BPF programs, which enables statistics for all of the host's."""

    LIMITS: ClassVar[Limits] = {"cpu_percent": (0, 100)}

    cpu_percent: float = 1.0
    bpf_statistics: bool = True

    def __post_init__(self) -> None:
        check_limits(self)

    def limit(self, cpus: int) -> float:
        """Return the budget in CPUs: 0.02 is 2 % of one CPU's time."""
        return self.cpu_percent / 100 * cpus


@dataclass(frozen=True)
class Cost:
    """CPUs used on average over a period, by each process and by the BPF programs (None: not
    measured)."""

    collector: float
    web: float
    bpf: float | None

    @property
    def total(self) -> float:
        """CPUs used by all of them, as far as measured."""
        return self.tracking + self.web

    @property
    def tracking(self) -> float:
        """CPUs that tracking uses, which steps reduce. What clients make the web process do must
        not cost samples."""
        return self.collector + (self.bpf or 0.0)


@dataclass(frozen=True)
class Level:
    """Number of steps taken, and of consecutive periods in which the cost was above the budget or
    well below it. `available`: the steps that have an effect in this session."""

    steps: int = 0
    over: int = 0
    under: int = 0
    available: tuple[Step, ...] = STEPS

    def after(self, cost: float, limit: float) -> Level:
        """Return the level after a period with this cost, in CPUs as the limit is; 0: no limit."""
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
        """The steps taken."""
        return self.available[: self.steps]

    @property
    def widen(self) -> int:
        """Factor by which the sampling interval is longer than configured."""
        return max((step.widen for step in self.taken), default=1)

    @property
    def effects(self) -> tuple[str, ...]:
        """The names of the steps taken, of sampling intervals that of the longest."""
        return tuple(step.name for step in self.taken if step.widen in (1, self.widen))

    @property
    def shed(self) -> frozenset[str]:
        """Collectors that are stopped for now."""
        return frozenset(step.shed for step in self.taken if step.shed)

    @property
    def spacing(self) -> float:
        """Minimum seconds between two readings of the kernel's tables."""
        return max((step.spacing for step in self.taken), default=0.0)
