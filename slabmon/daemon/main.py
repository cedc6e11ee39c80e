# SPDX-License-Identifier: Apache-2.0
"""The daemon from start to end: lock, sockets, kept state, collector, service manager."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.daemon.collector import Collector
from slabmon.daemon.config import Config
from slabmon.daemon.lock import DaemonLock, only_daemon
from slabmon.daemon.orphans import end_orphan
from slabmon.daemon.spawn import Child, spawn
from slabmon.kernel.session import open_tracker
from slabmon.kernel.tracker import Tracker
from slabmon.runtime import listeners, logs
from slabmon.runtime.channel import ORPHAN_SECONDS
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.systemd import Notifier, watchdog_seconds
from slabmon.runtime.tuning import limit_malloc_caching, raise_gc_threshold
from slabmon.state.checkpoint_file import open_checkpoint_file
from slabmon.state.continuity import find_continuity
from slabmon.web.settings import ProcessSettings, WebSettings, parse_address

log = logging.getLogger(__name__)

STATUS_SECONDS = 60.0
_RETRY_SECONDS = 0.2  # between attempts to bind a busy address
_SIGNS_PER_WATCHDOG = 4  # signs of life in each interval of the watchdog


class Daemon:
    """Runs until SIGINT or SIGTERM.

    `read` reads the configuration again, on SIGHUP. Without it SIGHUP ends the daemon, as the end
    of a terminal session should.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config] | None,
        spawner: Callable[[int, int, Sequence[int]], Child] = spawn,
    ) -> None:
        self._config = config
        self._read = read
        self._spawner = spawner
        self._notifier = Notifier.from_environment()
        self._watchdog_period = (watchdog_seconds() or 0) / _SIGNS_PER_WATCHDOG
        self._watchdog_at = 0.0
        self._collector: Collector | None = None

    def run(self) -> None:
        """Bind and have the web process check its settings first, so that errors of these cost
        nothing; then track until asked to stop."""
        config = self._config
        limit_malloc_caching()
        raise_gc_threshold()
        with ExitStack() as stack:
            lock = stack.enter_context(only_daemon(Path(config.state.lock_file)))
            passed = listeners.inherited()
            patience = _end_orphans(lock)
            sockets = [stack.enter_context(s) for s in _listen(config.web, passed, patience)]
            checkpoint = stack.enter_context(
                open_checkpoint_file(config.state, bool(self._notifier))
            )
            loop = stack.enter_context(EventLoop())
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.on_signal(number, loop.stop)
            loop.on_signal(signal.SIGHUP, self._reload if self._read else loop.stop)
            collector = self._collector = Collector(
                loop,
                ProcessSettings.of(config.web, config.history),
                sockets,
                self._sign_of_life,
                lock.record,
                partial(self._spawner, checkpoint),
            )
            stack.callback(collector.close)
            continuity = find_continuity(config.state, self._notifier, passed)
            if continuity is not None:
                stack.push(lambda kind, *_: continuity.close(requested=kind is None))
            tracker = stack.enter_context(
                open_tracker(config.tracking, continuity, collector.web.wait_until_started)
            )
            collector.start_tracking(tracker, config.budget, config.census, config.escalation)
            if not self._notifier.send("READY=1"):  # started by hand
                lines = _greeting(config.web, sockets, collector.web.tls)
                sys.stdout.write("".join(f"{line}\n" for line in lines))
                sys.stdout.flush()
            if continuity is not None:
                continuity.outlast()
            log.info("tracking since %s", _local_time(tracker.since))
            loop.every(STATUS_SECONDS, lambda: self._show_status(tracker))
            self._show_status(tracker)
            loop.run()
            self._notifier.send("STOPPING=1", "STATUS=stopping")
            log.info("stopping")

    def _sign_of_life(self) -> None:
        """Report to the watchdog that the collector has done a round of its work."""
        now = time.monotonic()
        if self._watchdog_period and now - self._watchdog_at >= self._watchdog_period:
            self._watchdog_at = now
            self._notifier.send("WATCHDOG=1")

    def _show_status(self, tracker: Tracker) -> None:
        governor = self._collector.governor if self._collector else None
        if governor is None:
            return
        cost = ""
        if governor.cost:
            cost = f" Cost {100 * governor.cost.total:.2f} % of a CPU"
            cost += f", budget {100 * governor.limit:.2f} %." if governor.limit else "."
        steps = "".join(f" Over budget: {step.name}." for step in governor.level.taken)
        self._notifier.status(f"Tracking since {_local_time(tracker.since)}.{cost}{steps}")

    def _reload(self) -> None:
        assert self._read is not None
        before = self._config
        try:
            new = self._read()
        except SlabmonError as error:
            log.error("the configuration stays as it was: %s", error)
            return
        changes = before.changes(new)
        self._config = before.reloaded(new)
        waiting = [option.key for option in changes if not option.live]
        if waiting:
            log.warning("these changes wait for a restart: %s", ", ".join(waiting))
        changed = [option.key for option in changes if option.live]
        log.info("configuration read again; changed: %s", ", ".join(changed) or "nothing")
        if self._config.log != before.log:
            logs.set_up(self._config.log)
        collector = self._collector
        if collector is None:
            return
        served = ProcessSettings.of(self._config.web, self._config.history)
        if served != ProcessSettings.of(before.web, before.history):
            collector.web.reconfigure(served)
        if collector.governor is not None:
            collector.governor.reconfigure(self._config.budget, self._config.tracking.sample_bytes)
        if collector.census is not None:
            collector.census.settings = self._config.census
        if collector.escalation is not None:
            collector.escalation.settings = self._config.escalation


def _end_orphans(lock: DaemonLock) -> float:
    """End the web processes of a daemon that was killed: they hold its sockets. Return for how many
    seconds to wait for those that could not be ended, or were not recorded."""
    ended = [end_orphan(orphan) for orphan in lock.orphans]
    if not lock.crashed or (ended and all(ended)):
        return 0.0
    return ORPHAN_SECONDS + 2


def _local_time(unix_time: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(unix_time))


def _listen(
    web: WebSettings, passed: list[tuple[str, int]], patience: float
) -> list[socket.socket]:
    """Return the sockets that systemd passed, else those of the settings, for which it tries up to
    `patience` seconds."""
    sockets = listeners.activated(passed)
    if sockets:
        if web.listen_address != WebSettings.listen_address:
            log.warning(
                "systemd passed sockets: web.listen_address is not used; "
                "see systemctl edit slabmon.socket"
            )
        return sockets
    deadline = time.monotonic() + patience
    while not sockets:
        try:
            sockets = listeners.bind_tcp(*parse_address(web.listen_address))
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if web.socket_path is None:
        sockets += filter(None, [listeners.bind_default_unix()])
    elif web.socket_path:
        sockets.append(listeners.bind_unix(Path(web.socket_path)))
    return sockets


def _greeting(web: WebSettings, sockets: list[socket.socket], tls: bool) -> list[str]:
    """Return the lines that show a person at a terminal where to look."""
    lines = []
    for url in listeners.urls(sockets, "https" if tls else "http"):
        lines += [
            f"slabmon is tracking kernel memory. Open {url}/ in a browser;",
            f"metrics for Prometheus: {url}{web.telemetry_path}. Stop with Ctrl-C.",
        ]
    lines += [
        f"Local clients find it at unix:{sock.getsockname()}"
        for sock in sockets
        if sock.family == socket.AF_UNIX
    ]
    return lines
