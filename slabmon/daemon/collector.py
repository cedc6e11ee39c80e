# SPDX-License-Identifier: Apache-2.0
"""The collector: the privileged part of the daemon. It owns the tracker, answers its web process
and does the upkeep in between. It parses nothing that came over a network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from socket import socket

from slabmon.base.clock import suspended
from slabmon.daemon.census import CensusTaker
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.escalation import Escalation
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.daemon.governor import Governor
from slabmon.daemon.self_metrics import CumulativeCpuTime, MemorySizes, cpu_seconds
from slabmon.daemon.spawn import Spawner
from slabmon.daemon.supervisor import Supervisor
from slabmon.daemon.waking import Waking
from slabmon.daemon.web_process import WebProcess
from slabmon.kernel.bpf import syscall
from slabmon.kernel.tracker import Tracker
from slabmon.kernel.wake_sources import WakeSources
from slabmon.runtime.budget import BudgetSettings
from slabmon.runtime.channel import CENSUS, DETAILED, TAKE_CENSUS, WANTED, Answer
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import DaemonFigures
from slabmon.runtime.tuning import RELEASE_SECONDS, release_memory
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)

# The kernel's tables are read no more often than this, however often the web process asks.
SPACING_SECONDS = 0.4
DRAIN_SECONDS = 1.0
STATS_PERIOD_SECONDS, STATS_WINDOW_SECONDS = 60.0, 1.0
WALK_PERIOD_SECONDS = 600.0


class Collector:
    """Runs in the one thread of the loop. Its web process starts at once; commands wait until
    start_tracking()."""

    def __init__(
        self,
        loop: EventLoop,
        settings: WebSettings,
        listeners: Sequence[socket],
        on_work: Callable[[], object],
        on_processes: Callable[[Sequence[int]], object],
        spawner: Spawner,
    ) -> None:
        """`on_work` is called after each round of upkeep that succeeded, `on_processes` with the
        numbers of the web processes whenever one is added."""
        self._loop = loop
        self._on_work = on_work
        self._tracker: Tracker | None = None
        self.governor: Governor | None = None
        self.census: CensusTaker | None = None
        self.escalation: Escalation | None = None
        self._waking: Waking | None = None
        self._last_answer: tuple[bytes, Answer] | None = None  # with its command
        self._waiting: list[tuple[WebProcess, bytes]] = []
        self._last_at, self._suspended_before = -SPACING_SECONDS, suspended()
        self._snapshot_seconds = 0.0
        self._failing = False
        self._web_cpu = CumulativeCpuTime()
        self._memory = MemorySizes()
        self.web = Supervisor(
            loop, settings, listeners, self._command, self._doubt, on_processes, spawner
        )

    def start_tracking(
        self,
        tracker: Tracker,
        budget: BudgetSettings,
        census: ScheduleSettings,
        escalation: EscalationSettings,
    ) -> None:
        """Begin to answer commands, to keep the tracker up to date, to take censuses, to examine
        suspects and to hold the budget."""
        self._tracker = tracker
        self.governor = Governor(tracker, budget)
        self.census = CensusTaker(self._loop, census, self.governor)
        self.escalation = Escalation(
            self._loop, escalation, self.governor, self.census, lambda: tracker.snapshot()
        )
        self._waking = Waking(self._loop, tracker, tracker.plan.settings, WakeSources(tracker))
        self._loop.every(DRAIN_SECONDS, self._drain)
        self._loop.every(WALK_PERIOD_SECONDS, tracker.reconcile_devices)
        self._loop.every(RELEASE_SECONDS, release_memory)
        self._measure(self.governor)
        waiting, self._waiting = self._waiting, []
        for process, command in waiting:
            self._command(process, command)

    def _command(self, process: WebProcess, command: bytes) -> None:
        if command == WANTED:
            if self._waking is not None:
                self._waking.request()
            return
        if self._tracker is None:
            self._waiting.append((process, command))
            return
        if command in (CENSUS, TAKE_CENSUS):
            process.answer(self._census_answer(self._tracker, command))
            return
        if self._last_answer is not None and self._since_last() < self._spacing():
            last_command, answer = self._last_answer
            if last_command == command:
                process.answer(replace(answer, figures=self._figures(self._tracker)))
                return
        wait = SPACING_SECONDS - self._since_last()
        if wait > 0:
            self._loop.later(wait, lambda: self._command(process, command))
            return
        answer = self._answer(self._tracker, command)
        self._last_answer = (command, answer) if answer.ok and self._spacing() else None
        process.answer(answer)

    def _doubt(self, digest: bytes) -> None:
        if self.escalation is not None:
            self.escalation.request(digest)

    def _since_last(self) -> float:
        """Seconds since the last answer; while the host was suspended it grew old as well."""
        return self._loop.time() - self._last_at + suspended() - self._suspended_before

    def _spacing(self) -> float:
        """Seconds for which an answer is repeated; 0 while the budget is held."""
        return self.governor.level.spacing if self.governor else 0.0

    def _drain(self) -> None:
        if self._tracker is not None:
            self._tracker.drain()
            self._on_work()

    def _answer(self, tracker: Tracker, command: bytes) -> Answer:
        start = self._loop.time()
        try:
            examinations = self.escalation.done if self.escalation else ()
            snapshot = tracker.snapshot(details=command == DETAILED)
            body = encode(replace(snapshot, examinations=examinations))
        except Exception as error:  # of any kind: counting continues, and scrapers learn of it
            if not self._failing:
                log.exception("the kernel's tables cannot be read")
            self._failing = True
            answer = Answer(command, False, self._figures(tracker), str(error).encode())
        else:
            if self._failing:
                log.info("the kernel's tables can be read again")
            self._failing = False
            self._snapshot_seconds = self._loop.time() - start
            answer = Answer(command, True, self._figures(tracker), body)
        tracker.reader.unmap()
        self._last_at, self._suspended_before = self._loop.time(), suspended()
        return answer

    def _census_answer(self, tracker: Tracker, command: bytes) -> Answer:
        assert self.census is not None
        if command == TAKE_CENSUS:
            self.census.request()
        body = self.census.latest if command == CENSUS else b""
        return Answer(command, True, self._figures(tracker), body)

    def _figures(self, tracker: Tracker) -> DaemonFigures:
        assert self.governor is not None
        assert self.census is not None
        assert self.escalation is not None
        pid, web_pid = os.getpid(), self.web.pid or 0
        programs = tracker.programs
        return DaemonFigures(
            snapshot_seconds=self._snapshot_seconds,
            collector_cpu_seconds=cpu_seconds(pid),
            web_cpu_seconds=self._web_cpu_seconds(),
            memory=self._memory.figures(
                pid, web_pid, (*programs.maps.values(), *programs.programs.values())
            ),
            budget=self.governor.figures(),
            web_restarts=self.web.restarts,
            web_configuration_failed=self.web.configuration_failed,
            census=self.census.figures(),
            escalation=self.escalation.figures(),
        )

    def _web_cpu_seconds(self) -> float:
        pid = self.web.pid or 0
        return self._web_cpu.total(pid, cpu_seconds(pid))

    def _measure(self, governor: Governor) -> None:
        """Enable BPF statistics for a short window, if allowed, then judge the cost; repeat every
        period."""
        descriptor = self._enable_statistics() if governor.measures_bpf else None

        def window_ends() -> None:
            if descriptor is not None:
                governor.window_closes()
                os.close(descriptor)
            governor.period(cpu_seconds(os.getpid()), self._web_cpu_seconds())

        if descriptor is not None:
            governor.window_opens()
        self._loop.later(STATS_WINDOW_SECONDS, window_ends)
        self._loop.later(STATS_PERIOD_SECONDS, lambda: self._measure(governor))

    def _enable_statistics(self) -> int | None:
        """Return the descriptor that keeps BPF statistics enabled, or None if they cannot be."""
        try:
            return syscall.enable_stats()
        except OSError as error:
            log.warning(
                "BPF statistics cannot be enabled: %s; the run time of BPF programs is not "
                "measured (budget.bpf_statistics = false avoids the attempt)",
                error.strerror,
            )
            return None

    def close(self) -> None:
        """End the web process, and a census or an examination that is under way."""
        if self.escalation is not None:
            self.escalation.close()
        if self.census is not None:
            self.census.close()
        self.web.close()
