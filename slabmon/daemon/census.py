# SPDX-License-Identifier: Apache-2.0
"""Takes censuses in the daemon: one at a time, on request and at intervals, within the budget."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from slabmon.base.errors import SlabmonError
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.self_metrics import cpu_seconds
from slabmon.kernel.census.run import CensusProcess
from slabmon.kernel.census.settings import CensusSettings
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import CensusFailure, CensusFigures

log = logging.getLogger(__name__)

# Between looks at whether a census is due. The first one is, once the daemon has settled.
CHECK_SECONDS = 10.0
FIRST_SECONDS = 60.0
# A census begins no sooner after the one before, and no sooner than after it all would have taken
# BUDGET_SHARE of the budget.
SPACING_SECONDS = 30.0
BUDGET_SHARE = 0.5
# For so long after one was to look for orphans all do: the next one would replace what it found.
ORPHANS_SECONDS = 86400.0
# A process that takes longer hangs.
LONGEST_SECONDS = 300.0


class Budget(Protocol):
    """The part of Governor that decides on censuses."""

    @property
    def limit(self) -> float:
        """The budget in CPUs; 0: no limit."""
        ...

    @property
    def exceeded(self) -> bool:
        """Whether something was given up to stay within the budget."""
        ...


class CensusTaker:
    """Takes censuses; `latest` is the last one, encoded, b"" before the first."""

    def __init__(
        self,
        loop: EventLoop,
        settings: ScheduleSettings,
        budget: Budget,
        start: Callable[[CensusSettings], CensusProcess] = CensusProcess,
    ) -> None:
        """`start` starts the process that takes a census."""
        self._loop = loop
        self.settings = settings
        self._budget = budget
        self._start = start
        self.latest = b""
        self._figures = CensusFigures()
        self._process: CensusProcess | None = None
        self._began = loop.time()
        self._due = self._began + FIRST_SECONDS
        self._cost = 0.0  # CPU seconds of the last census
        self._not_before = self._began
        self._orphans_until = self._began
        loop.every(CHECK_SECONDS, self._check)

    def request(self, *, orphans: bool = False) -> bool:
        """Begin a census and return True; False if one is under way or it is too soon. It looks for
        `orphans` whatever the settings say, and so do those of the next ORPHANS_SECONDS."""
        if self._process is not None or self._held_off():
            return False
        now = self._loop.time()
        if orphans:
            self._orphans_until = now + ORPHANS_SECONDS
        self._begin(self.settings.orphans or now < self._orphans_until)
        return True

    def figures(self) -> CensusFigures:
        """Return how the censuses are going."""
        process = self._process
        held_off = self._held_off()
        return replace(
            self._figures,
            running=process is not None,
            done=process.done if process else 0.0,
            held_off=held_off,
            not_before_seconds=max(0.0, self._not_before - self._loop.time()),
        )

    def _held_off(self) -> bool:
        return self._loop.time() < self._not_before or self._budget.exceeded

    def _check(self) -> None:
        now = self._loop.time()
        if self._process is not None:
            if now - self._began > LONGEST_SECONDS:
                error = SlabmonError(f"census: it took longer than {LONGEST_SECONDS:g} s")
                self._end(error, CensusFailure.TIMEOUT)
            return
        interval = self.settings.interval_seconds
        if interval and now >= min(self._due, self._began + interval):
            self.request()

    def _begin(self, orphans: bool) -> None:
        self._began = self._loop.time()
        self._due = self._began + (self.settings.interval_seconds or FIRST_SECONDS)
        self._cost = 0.0
        settings = CensusSettings(self.settings.cpu_seconds, self.settings.memory_mib, orphans)
        try:
            self._process = self._start(settings)
        except OSError as error:
            self._end(SlabmonError(f"census: cannot start a process: {error.strerror}"))
            return
        self._loop.watch(self._process.channel, self._receive)

    def _receive(self) -> None:
        process = self._process
        assert process is not None
        try:
            if not process.receive():
                return
            self.latest = process.result()
        except SlabmonError as error:
            self._end(error, process.failure)
        else:
            self._end(None)

    def _end(
        self, error: SlabmonError | None, failure: CensusFailure = CensusFailure.OTHER
    ) -> None:
        if self._process is not None:
            self._loop.unwatch(self._process.channel)
            self._cost = cpu_seconds(self._process.pid, children=True)
            self._process.close()
            self._process = None
        limit = self._budget.limit * BUDGET_SHARE
        spacing = max(SPACING_SECONDS, self._cost / limit if limit else 0.0)
        self._not_before = self._began + spacing
        before = self._figures
        failures = dict(before.failures)
        failures[failure] += error is not None
        self._figures = replace(
            before,
            number=before.number + (error is None),
            failures=failures,
            cpu_seconds=before.cpu_seconds + self._cost,
            error=str(error or ""),
        )
        if error is not None and before.error != str(error):
            log.error("%s", error)
        elif error is None and before.error:
            log.info("a census could be taken again")

    def close(self) -> None:
        """End a census that is under way."""
        if self._process is not None:
            self._loop.unwatch(self._process.channel)
            self._process.close()
            self._process = None
