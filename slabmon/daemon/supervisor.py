# SPDX-License-Identifier: Apache-2.0
"""Keeps one web process running: starts it, replaces it when the files that it was configured from
change, and restarts it with exponential back-off when it dies."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.daemon.spawn import Spawner
from slabmon.daemon.web_process import WebProcess
from slabmon.runtime.channel import Started
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.files import Identity, identity
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
# Checks without a sign of life after which a process counts as hung; checks that a retired process
# has to end in.
SILENT_CHECKS, RETIRED_CHECKS = 15, 5
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
# A process that lived this long did not die of its start: the back-off begins again.
STABLE_SECONDS = 60.0
START_SECONDS = 60.0
_ERRORS: dict[int, type[SlabmonError]] = {
    error.exit_code: error for error in (UsageError, PermissionDenied, UnsupportedHost)
}
_KILLED = f"signal {signal.SIGKILL:d}"


class Supervisor:
    """The web processes of a daemon, of which at most one serves.

    A *candidate* has been started and has not reported yet. It becomes the *current* process, and
    the current one before it is *retired*: it finishes its requests and ends. `on_command` gets the
    commands of any of them and answers them, `on_doubt` the digests of suspects that are in doubt;
    `on_processes` gets the numbers of all that may still
    run, whenever one is added.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: WebSettings,
        listeners: Sequence[socket.socket],
        on_command: Callable[[WebProcess, bytes], None],
        on_doubt: Callable[[bytes], None],
        on_processes: Callable[[Sequence[int]], object],
        spawner: Spawner,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._listeners = listeners
        self._on_command = on_command
        self._on_doubt = on_doubt
        self._on_processes = on_processes
        self._spawner = spawner
        self._delay = FIRST_DELAY
        self._started_at = 0.0
        self._files: Mapping[str, Identity] = {}
        self._first: Started | None = None
        self._retired: list[WebProcess] = []
        self.restarts = 0
        self.configuration_failed = False
        self._current: WebProcess | None = None
        self._candidate: WebProcess | None = None
        self._start()
        loop.every(CHECK_SECONDS, self._check)

    @property
    def pid(self) -> int | None:
        """The process that serves now; None if there is none."""
        return self._current.pid if self._current else None

    @property
    def tls(self) -> bool:
        """Whether TCP clients of the first process had to use TLS."""
        return self._first is not None and self._first.tls

    def _start(self, *, replacement: bool = False) -> None:
        """Start a candidate; `replacement`: with the settings of one that has started before.
        Raises OSError if there is no room for another process."""
        self._started_at = self._loop.time()
        self._candidate = WebProcess(
            self._loop,
            self._settings,
            self._listeners,
            self._spawner,
            self._on_command,
            self._on_doubt,
            self._on_started,
            self._on_gone,
            replacement=replacement,
        )
        self._on_processes([process.pid for process in self._all()])

    def _all(self) -> list[WebProcess]:
        return [p for p in (self._current, self._candidate, *self._retired) if p]

    def wait_until_started(self) -> None:
        """Run the loop until the first process has reported the outcome of its start.

        Raises the error it reported, or SlabmonError after START_SECONDS.
        """
        deadline = self._loop.time() + START_SECONDS
        while self._first is None and self._loop.running and self._loop.time() < deadline:
            self._loop.step(1)
        if self._first is None and self._loop.running:
            raise SlabmonError("the web process did not start in time; see what it logged")
        if self._first and self._first.error:
            raise _ERRORS.get(self._first.exit_code, SlabmonError)(self._first.error)

    def _on_started(self, process: WebProcess, started: Started) -> None:
        self._files = started.files or self._files
        self.configuration_failed = bool(started.error)
        if self._first is None:
            self._first = started
        elif started.error:
            log.error("the web process cannot start: %s", started.error)
        if started.error:
            return  # it ends, and _on_gone follows
        if self._current:
            log.info(
                "web configuration changed: web process %d replaces %d",
                process.pid,
                self._current.pid,
            )
            self._retire(self._current)
        self._current, self._candidate = process, None

    def _on_gone(self, process: WebProcess, reason: str) -> None:
        process.end(0)
        if process is self._candidate:
            self._candidate = None
            if self._current:
                log.error("the web process keeps its old configuration until the new one is valid")
                return
        else:
            self._current = None
            if self._candidate:
                log.error(
                    "web process %d is gone (%s); its successor is starting", process.pid, reason
                )
                return
        if self._first is None:
            self._first = _ended_early(reason)
            return
        if self._loop.time() - self._started_at > STABLE_SECONDS:
            self._delay = FIRST_DELAY
        log.error(
            "web process %d is gone (%s); another starts in %g s", process.pid, reason, self._delay
        )
        self._restart_later()

    def _restart_later(self) -> None:
        self._loop.later(self._delay, self._restart)
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _restart(self) -> None:
        if self._current or self._candidate:
            return
        try:
            self._start(replacement=True)
        except OSError as error:
            log.error(
                "cannot start a web process: %s; next attempt in %g s", error.strerror, self._delay
            )
            self._restart_later()
        else:
            self.restarts += 1

    def _check(self) -> None:
        """Replace the current process if one of its files has changed or if it hangs.

        Silence is counted in checks, not in seconds: while this process was held up, the other one
        was not silent.
        """
        for process in self._retired[:]:
            process.checks += 1
            if process.ended() or process.checks > RETIRED_CHECKS:
                process.end(0)
                self._retired.remove(process)
        for process in filter(None, (self._current, self._candidate)):
            process.checks += 1
            if process.checks > SILENT_CHECKS:
                process.give_up("it does not respond")
        now = {path: identity(path) for path in self._files}
        if self._current and not self._candidate and now != self._files:
            self.reload()

    def reload(self) -> None:
        """Start a process from the files as they are now; the current one serves until it is up."""
        self._reload(replacement=True)

    def _reload(self, *, replacement: bool) -> None:
        if self._candidate:
            return
        try:
            self._start(replacement=replacement)
        except OSError as error:
            log.error("cannot start another web process: %s", error.strerror)
        else:
            self._files = {path: identity(path) for path in self._files}

    def reconfigure(self, settings: WebSettings) -> None:
        """Replace the process by one with other settings, on the same sockets."""
        self._settings = settings
        if self._candidate:  # it has the settings before
            self._retire(self._candidate)
            self._candidate = None
        self._reload(replacement=False)

    def _retire(self, process: WebProcess) -> None:
        process.retire()
        self._retired.append(process)

    def close(self) -> None:
        """End all web processes."""
        processes = self._all()
        for process in processes:
            process.retire()
        for process in processes:
            process.end()


def _ended_early(reason: str) -> Started:
    """Return the outcome of a start whose process ended before it had one."""
    error = f"the web process ended early: {reason}"
    if reason != _KILLED:
        return Started(error=error, exit_code=SlabmonError.exit_code)
    hint = (
        ", as the kernel does when memory runs out; raise the memory limit of the service "
        "(MemoryMax=) or container, or free memory on the host"
    )
    return Started(error=error + hint, exit_code=UnsupportedHost.exit_code)
