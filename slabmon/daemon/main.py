# SPDX-License-Identifier: Apache-2.0
"""The daemon from start to end: lock, sockets, kept state, collector, service manager."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.daemon.collector import Collector
from slabmon.daemon.config import Config
from slabmon.daemon.lock import only_daemon
from slabmon.kernel.session import open_tracker
from slabmon.kernel.tracker import Tracker
from slabmon.runtime import listeners, logs
from slabmon.runtime.channel import ORPHAN_SECONDS
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.systemd import Notifier, watchdog_seconds
from slabmon.runtime.tuning import limit_malloc_caching, raise_gc_threshold
from slabmon.state.continuity import find_continuity
from slabmon.web.settings import ProcessSettings, WebSettings, parse_address

log = logging.getLogger(__name__)

STATUS_SECONDS = 60.0
# Signs of life in each interval of the watchdog.
_SIGNS = 4


class Daemon:
    """Runs until SIGINT or SIGTERM. `read` reads the configuration again, for SIGHUP; without it
    SIGHUP ends the daemon, as a closed terminal should."""

    def __init__(self, config: Config, read: Callable[[], Config] | None) -> None:
        self._config = config
        self._read = read
        self._notifier = Notifier.from_environment()
        self._life_every = (watchdog_seconds() or 0) / _SIGNS
        self._life_at = 0.0
        self._collector: Collector | None = None

    def run(self) -> None:
        """Binds first, so that a busy port costs nothing; then tracks until told to stop."""
        config = self._config
        limit_malloc_caching()
        raise_gc_threshold()
        with ExitStack() as stack:
            crashed = stack.enter_context(only_daemon(Path(config.state.lock_file)))
            passed = listeners.inherited()
            patience = ORPHAN_SECONDS + 2 if crashed else 0.0
            sockets = [stack.enter_context(s) for s in _listen(config.web, passed, patience)]
            loop = stack.enter_context(EventLoop())
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.on_signal(number, loop.stop)
            loop.on_signal(signal.SIGHUP, self._reload if self._read else loop.stop)
            served = ProcessSettings.of(config.web, config.history)
            collector = self._collector = Collector(loop, served, sockets, self._alive)
            stack.callback(collector.close)
            continuity = find_continuity(config.state, self._notifier, passed)
            if continuity is not None:
                stack.push(lambda kind, *_: continuity.close(wanted=kind is None))
            tracker = stack.enter_context(open_tracker(config.tracking, continuity))
            collector.web.wait_until_started()
            collector.start_tracking(tracker, config.budget)
            if not self._notifier.send("READY=1"):  # nobody but a person at a terminal
                shown = _greeting(config.web, sockets, collector.web.tls)
                sys.stdout.write("".join(f"{line}\n" for line in shown))
                sys.stdout.flush()
            log.info("tracking since %s", _when(tracker.since))
            loop.every(STATUS_SECONDS, lambda: self._tell(tracker))
            self._tell(tracker)
            loop.run()
            self._notifier.send("STOPPING=1", "STATUS=stopping")
            log.info("stopping")

    def _alive(self) -> None:
        """The collector did a round of its work."""
        now = time.monotonic()
        if self._life_every and now - self._life_at >= self._life_every:
            self._life_at = now
            self._notifier.send("WATCHDOG=1")

    def _tell(self, tracker: Tracker) -> None:
        governor = self._collector.governor if self._collector else None
        if governor is None:
            return
        cost = ""
        if governor.cost:
            cost = f" Cost {100 * governor.cost.total:.2f} % of a CPU"
            cost += f", budget {100 * governor.limit:.2f} %." if governor.limit else "."
        steps = "".join(f" Over it: {step.name}." for step in governor.level.taken)
        self._notifier.status(f"Tracking since {_when(tracker.since)}.{cost}{steps}")

    def _reload(self) -> None:
        assert self._read is not None
        old = self._config
        try:
            new = self._read()
        except SlabmonError as error:
            log.error("the configuration stays as it was: %s", error)
            return
        changes = old.changes(new)
        self._config = old.reloaded(new)
        waiting = [option.key for option in changes if not option.live]
        if waiting:
            log.warning("these changes wait for a restart: %s", ", ".join(waiting))
        changed = [option.key for option in changes if option.live]
        log.info("configuration read again; changed: %s", ", ".join(changed) or "nothing")
        if self._config.log != old.log:
            logs.set_up(self._config.log)
        collector = self._collector
        served = ProcessSettings.of(self._config.web, self._config.history)
        if collector is not None and served != ProcessSettings.of(old.web, old.history):
            collector.web.reconfigure(served)
        if collector is not None and collector.governor is not None:
            collector.governor.reconfigure(self._config.budget, self._config.tracking.sample_bytes)


def _when(unix_time: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(unix_time))


def _listen(
    web: WebSettings, passed: list[tuple[str, int]], patience: float
) -> list[socket.socket]:
    """Sockets of systemd if it passed some, else those of the settings. A web process that lost
    its collector holds them for a while: so long it is worth trying again."""
    found = listeners.activated(passed)
    if found:
        if web.listen_address != WebSettings.listen_address:
            log.warning(
                "systemd passed sockets: web.listen_address is not used; "
                "see systemctl edit slabmon.socket"
            )
        return found
    deadline = time.monotonic() + patience
    while not found:
        try:
            found = listeners.bind_tcp(*parse_address(web.listen_address))
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    if web.socket_path is None:
        found += filter(None, [listeners.bind_default_unix()])
    elif web.socket_path:
        found.append(listeners.bind_unix(Path(web.socket_path)))
    return found


def _greeting(web: WebSettings, sockets: list[socket.socket], tls: bool) -> list[str]:
    """Where to look, for whoever started it by hand."""
    lines = []
    scheme = "https" if tls else "http"
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            lines.append(f"Local clients find it at unix:{sock.getsockname()}")
            continue
        host, port = sock.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        lines += [
            f"slabmon is tracking kernel memory. Open {url}/ in a browser;",
            f"metrics for Prometheus: {url}{web.telemetry_path}. Stop with Ctrl-C.",
        ]
    return lines
