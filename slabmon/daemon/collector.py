# SPDX-License-Identifier: Apache-2.0
"""The collector: the privileged part of the daemon. It owns the tracker, answers its web process
and does what has to be done in between. It parses nothing that came over a network."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from socket import socket

from slabmon.daemon.governor import Governor
from slabmon.daemon.self_metrics import Sizes, Successors, cpu_seconds
from slabmon.daemon.supervisor import Supervisor
from slabmon.daemon.web_process import WebProcess
from slabmon.kernel.bpf import syscall
from slabmon.kernel.tracker import Tracker
from slabmon.runtime.budget import BudgetSettings
from slabmon.runtime.channel import DETAILED, Answer
from slabmon.runtime.event_loop import Loop
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)

# Whatever the web process asks for, there are no more readings than this.
SPACING_SECONDS = 0.4
DRAIN_SECONDS = 1.0
STATS_PERIOD_SECONDS, STATS_WINDOW_SECONDS = 60.0, 1.0
WALK_PERIOD_SECONDS = 600.0


class Service:
    """One thread: the loop's. The web process starts at once, while the kernel side is set up."""

    def __init__(
        self,
        loop: Loop,
        settings: WebSettings,
        listeners: Sequence[socket],
        on_work: Callable[[], object],
    ) -> None:
        """`on_work` is called after each round of upkeep that succeeded."""
        self._loop = loop
        self._on_work = on_work
        self._tracker: Tracker | None = None
        self.governor: Governor | None = None
        self._old: dict[bytes, Answer] = {}
        self._waiting: list[tuple[WebProcess, bytes]] = []
        self._last_at = -SPACING_SECONDS
        self._last_seconds = 0.0
        self._failures = 0
        self._failing = False
        self._web_cpu = Successors()
        self._sizes = Sizes()
        self.web = Supervisor(loop, settings, listeners, self._command)

    def attend(self, tracker: Tracker, budget: BudgetSettings) -> None:
        """From now on commands are answered, the tracker is kept up and the budget held."""
        self._tracker = tracker
        self.governor = Governor(tracker, budget)
        self._loop.every(DRAIN_SECONDS, self._drain)
        self._loop.every(WALK_PERIOD_SECONDS, tracker.reconcile_devices)
        self._measure(self.governor)
        for process, command in self._waiting:
            self._command(process, command)
        self._waiting = []

    def _command(self, process: WebProcess, command: bytes) -> None:
        if self._tracker is None:
            self._waiting.append((process, command))
            return
        old = self._old.get(command)
        if old and self._since_last() < self._spacing():
            process.answer(replace(old, report=self._report(self._tracker)))
            return
        wait = SPACING_SECONDS - self._since_last()
        if wait > 0:
            self._loop.later(wait, lambda: self._command(process, command))
            return
        answer = self._answer(self._tracker, command)
        self._old = {command: answer} if answer.ok and self._spacing() else {}
        process.answer(answer)

    def _since_last(self) -> float:
        return time.monotonic() - self._last_at

    def _spacing(self) -> float:
        """Seconds for which an answer serves again: none while the budget is held."""
        return self.governor.level.spacing if self.governor else 0.0

    def _drain(self) -> None:
        if self._tracker is not None:
            self._tracker.drain()
            self._on_work()

    def _answer(self, tracker: Tracker, command: bytes) -> Answer:
        start = time.monotonic()
        try:
            body = encode(tracker.snapshot(details=command == DETAILED))
        except Exception as error:  # whatever it is, counting goes on and scrapers learn of it
            self._failures += 1
            if not self._failing:
                log.exception("the kernel's tables cannot be read")
            self._failing = True
            answer = Answer(command, False, self._report(tracker), str(error).encode())
        else:
            if self._failing:
                log.info("the kernel's tables can be read again")
            self._failing = False
            self._last_seconds = time.monotonic() - start
            answer = Answer(command, True, self._report(tracker), body)
        tracker.reader.unmap()
        self._last_at = time.monotonic()
        return answer

    def _report(self, tracker: Tracker) -> dict[str, float]:
        """Figures of the daemon itself, by the names the metric catalogue knows them by."""
        pid, own = self.web.pid or 0, os.getpid()
        programs = tracker.programs
        return {
            "snapshot_seconds": self._last_seconds,
            "snapshot_failures": self._failures,
            "collector_cpu_seconds": cpu_seconds(own),
            "web_cpu_seconds": self._web_cpu.total(pid, cpu_seconds(pid)),
            **self._sizes.report(
                {"collector": own, "web": pid},
                (*programs.maps.values(), *programs.programs.values()),
            ),
            "web_restarts": self.web.restarts,
            "web_configuration_failed": self.web.configuration_failed,
            **(self.governor.report() if self.governor else {}),
        }

    def _measure(self, governor: Governor) -> None:
        """Switches BPF statistics on for a short while, and judges the cost; again and again."""
        try:
            descriptor: int | None = syscall.enable_stats()
        except OSError as error:
            log.warning("BPF statistics cannot be switched on: %s", error.strerror)
            descriptor = None

        def window_ends() -> None:
            if descriptor is not None:
                governor.window_closes()
                os.close(descriptor)
            web_pid = self.web.pid or 0
            web = self._web_cpu.total(web_pid, cpu_seconds(web_pid))
            governor.period(cpu_seconds(os.getpid()), web)

        governor.window_opens()
        self._loop.later(STATS_WINDOW_SECONDS, window_ends)
        self._loop.later(STATS_PERIOD_SECONDS, lambda: self._measure(governor))

    def close(self) -> None:
        """Ends the web process."""
        self.web.close()
