# SPDX-License-Identifier: Apache-2.0
"""Examines suspects that lack stacks or certainty: one at a time, for a limited time, within the
budget. The web process, which judges, asks; what is done is decided here."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from slabmon.base.errors import SlabmonError
from slabmon.daemon.census import BUDGET_SHARE, Budget, CensusTaker
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.daemon.self_metrics import cpu_seconds
from slabmon.kernel.examine.child import Task
from slabmon.kernel.examine.run import ExaminationProcess
from slabmon.model import Examination, Snapshot
from slabmon.runtime.channel import CENSUS_DOUBT, doubt_digest
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import EscalationFigures

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
# Once its time has passed, a process that takes this much longer hangs.
LATE_SECONDS = 120.0
# Examinations kept.
KEPT = 8
# Between looks for the suspect of a digest: each takes a reading.
LOOK_SECONDS = 10.0
# Digests kept of suspects that were not found or could not be examined, and for how long they are
# not looked for again.
REFUSED, REFUSED_SECONDS = 64, 3600.0


class Escalation:
    """Examinations of one session; `done` are the last ones, the newest last."""

    def __init__(
        self,
        loop: EventLoop,
        settings: EscalationSettings,
        budget: Budget,
        census: CensusTaker,
        snapshot: Callable[[], Snapshot],
        start: Callable[[Task], ExaminationProcess] = ExaminationProcess,
    ) -> None:
        """`snapshot` is asked which suspects there are; `start` starts an examination."""
        self._loop = loop
        self.settings = settings
        self._budget = budget
        self._census = census
        self._snapshot = snapshot
        self._start = start
        self._done: deque[Examination] = deque(maxlen=KEPT)
        self._figures = EscalationFigures()
        self._process: ExaminationProcess | None = None
        self._task: Task | None = None
        self._digest = b""
        self._ends = 0.0
        self._not_before = loop.time()
        self._refused: deque[tuple[bytes, float]] = deque(maxlen=REFUSED)  # with until when
        loop.every(CHECK_SECONDS, self._check)

    @property
    def done(self) -> tuple[Examination, ...]:
        """The last examinations, the newest last."""
        return tuple(self._done)

    def figures(self) -> EscalationFigures:
        """Return how the examinations are going."""
        return replace(self._figures, running=self._process is not None)

    def request(self, digest: bytes) -> None:
        """Examine the suspect of this digest (runtime.channel), unless something forbids it now."""
        if not self.settings.enabled or self._process is not None or self._budget.exceeded:
            return
        if self._loop.time() < self._not_before:
            return
        if digest == CENSUS_DOUBT:
            if self._census.request(orphans=True):
                self._not_before = self._loop.time() + self.settings.pause_seconds
                self._count("census")
                log.info("a suspected leak: a census looks for objects that nothing refers to")
            return
        if any(each == digest and self._loop.time() < until for each, until in self._refused):
            return
        self._not_before = self._loop.time() + LOOK_SECONDS
        self._digest = digest
        try:
            snapshot = self._snapshot()
        except Exception:  # of any kind: counting goes on
            log.exception("suspects cannot be read")
            return
        for kind, name in _suspects(snapshot):
            if doubt_digest(kind, name) == digest:
                self._begin(Task(kind=kind, name=name, seconds=self.settings.seconds))
                return
        self._refuse()

    def _refuse(self) -> None:
        self._refused.append((self._digest, self._loop.time() + REFUSED_SECONDS))

    def _begin(self, task: Task) -> None:
        now = self._loop.time()
        self._task, self._ends = task, now + task.seconds + LATE_SECONDS
        self._not_before = now + self.settings.pause_seconds
        try:
            self._process = self._start(task)
        except OSError as error:
            self._fail(f"cannot start a process: {error.strerror}")
            return
        log.info(
            "a suspected leak: %s %s is tracked exactly for %g s",
            task.kind,
            task.name,
            task.seconds,
        )
        self._loop.watch(self._process.channel, self._receive)

    def _receive(self) -> None:
        process = self._process
        assert process is not None
        if not process.receive():
            return
        try:
            report = process.result()
        except SlabmonError as error:
            self._end(0.0)
            self._fail(str(error))
            return
        self._end(report.bpf_seconds)
        if report.found is None:
            self._fail(report.error)
            return
        self._done.append(report.found)
        self._count("exact")
        log.info(
            "%s %s: %d objects of %d allocations survived",
            report.found.kind,
            report.found.name,
            report.found.survivors,
            report.found.allocs,
        )

    def _check(self) -> None:
        if self._process is not None and self._loop.time() > self._ends:
            self._end(0.0)
            self._fail(f"it took {LATE_SECONDS:g} s longer than it should")

    def _end(self, bpf_seconds: float) -> None:
        """End the process, and let its cost be made up for."""
        process, self._process = self._process, None
        assert process is not None
        self._loop.unwatch(process.channel)
        cost = bpf_seconds + cpu_seconds(process.pid, children=True)
        process.close()
        limit = self._budget.limit * BUDGET_SHARE
        if limit:
            self._not_before = max(self._not_before, self._loop.time() + cost / limit)
        self._figures = replace(self._figures, cpu_seconds=self._figures.cpu_seconds + cost)

    def _count(self, kind: str) -> None:
        number = dict(self._figures.number)
        number[kind] += 1
        self._figures = replace(self._figures, number=number)

    def _fail(self, problem: str) -> None:
        assert self._task is not None
        self._refuse()
        self._figures = replace(self._figures, failures=self._figures.failures + 1)
        log.warning("%s %s could not be tracked: %s", self._task.kind, self._task.name, problem)

    def close(self) -> None:
        """End an examination that is under way."""
        if self._process is not None:
            self._loop.unwatch(self._process.channel)
            self._process.close()
            self._process = None


def _suspects(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield kind and name of all that can be examined."""
    for cache in snapshot.caches:
        yield "cache", cache.name
    for site in snapshot.sites:
        yield "site", site.full_label
