# SPDX-License-Identifier: Apache-2.0
"""Runs scenarios through the engine and scores what it says."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from slabmon.leaks.finding import Finding
from slabmon.leaks.observer import Observer
from tests.scenarios.catalogue import Entry
from tests.scenarios.host import Simulation
from tests.scenarios.sleeping import SleepingHost

ASSESS_SECONDS = 60.0


@dataclass
class Outcome:
    """One run. `hits` and `alarms` are the right and the wrong suspects ever named, with the time
    of their first verdict; `delay` seconds from the leak's beginning to the first right one.
    `covered`: whether the interval of each right finding held the true growth, where that is
    known. `as_one`: whether what leaks in lockstep is one finding in the end (None: nothing
    does)."""

    entry: Entry
    seed: int
    leaks: bool
    hits: dict[tuple[str, str], float] = field(default_factory=dict)
    alarms: dict[tuple[str, str], tuple[float, Finding]] = field(default_factory=dict)
    delay: float | None = None
    covered: list[bool] = field(default_factory=list)
    dismissed: dict[str, str] = field(default_factory=dict)
    as_one: bool | None = None
    named_last: float = 0.0  # time of the last early finding
    cpu: list[float] = field(default_factory=list)
    awake: float = 1.0  # share of the time


def run(entry: Entry, seed: int, *, sleeps: bool = False) -> Outcome:
    """One scenario with one seed. Every verdict at any time counts, be it withdrawn later. If it
    `sleeps`, tracking wakes as the daemon's does with tracking.when = "auto"."""
    rng = np.random.default_rng([seed, *entry.name.encode()])
    scenario = entry.make(rng)
    outcome = Outcome(entry, seed, bool(scenario.truth or scenario.exhausts))
    observer = Observer()
    due = 0.0
    host = Simulation(scenario.world, rng)
    sleeping = SleepingHost(host, scenario.world.memory) if sleeps else None
    for number, shown in enumerate((sleeping or host).run(scenario.end, scenario.step)):
        now = (number + 1) * scenario.step
        begin = time.process_time()
        observer.add(shown)
        if sleeping and observer.suspicious:
            sleeping.request()
        outcome.awake = shown.tracking.counted / shown.tracking.seconds
        if now < due:
            continue
        due = now + min(ASSESS_SECONDS, scenario.step)
        assessment = observer.assess()
        outcome.cpu.append(time.process_time() - begin)
        outcome.dismissed = {f"{f.kind} {f.name}": f.dismissed for f in assessment.dismissed}
        if assessment.exhausting:
            outcome.named_last = now
        for finding in assessment.exhausting:
            suspect = str(finding.kind), finding.name
            if suspect not in scenario.exhausts:
                outcome.alarms.setdefault(suspect, (now, finding))
                continue
            outcome.hits.setdefault(suspect, now)
            if outcome.delay is None:
                outcome.delay = now - scenario.starts
            if scenario.exhausts_per_hour and finding.kind == "cache":
                outcome.covered.append(finding.low <= scenario.exhausts_per_hour <= finding.high)
        if scenario.together:
            outcome.as_one = any(
                scenario.together <= {(str(part.kind), part.name) for part in finding.parts}
                for finding in assessment.verdicts
            )
        for finding in assessment.verdicts:
            suspect = str(finding.kind), finding.name
            if suspect not in scenario.truth:
                outcome.alarms.setdefault(suspect, (now, finding))
                continue
            outcome.hits.setdefault(suspect, now)
            if outcome.delay is None:
                outcome.delay = now - scenario.starts
            if scenario.per_hour and finding.kind != "driver":
                outcome.covered.append(finding.low <= scenario.per_hour <= finding.high)
    return outcome


@dataclass(frozen=True)
class Score:
    """Recall: leaks found, of all leaks. Precision: leaks found, of those and of all wrong
    suspects ever named; a leak counts once, however many right suspects stand for it."""

    wrong: int
    found: int
    leaks: int

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Score:
        """Over these runs."""
        listed = list(outcomes)
        return cls(
            sum(len(outcome.alarms) for outcome in listed),
            sum(bool(outcome.hits) for outcome in listed if outcome.leaks),
            sum(outcome.leaks for outcome in listed),
        )

    @property
    def precision(self) -> float:
        """1 where nothing was named."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """1 where nothing leaks."""
        return self.found / self.leaks if self.leaks else 1.0
