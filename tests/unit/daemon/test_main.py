# SPDX-License-Identifier: Apache-2.0
"""The daemon from start to end, without a kernel side and with a fake web process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.daemon import collector, main
from slabmon.daemon.collector import Collector
from slabmon.daemon.config import Config
from slabmon.daemon.lock import only_daemon
from slabmon.daemon.main import Daemon
from slabmon.daemon.orphans import PROGRAM, ProcessIdentity
from slabmon.kernel.bpf import syscall
from slabmon.kernel.settings import Settings
from slabmon.model import FeatureState, State
from slabmon.runtime.channel import Started
from slabmon.runtime.logs import LogSettings
from slabmon.runtime.systemd import Notifier
from slabmon.state.settings import StateSettings
from slabmon.web.settings import ProcessSettings, WebSettings
from tests.support.children import FakeChild, FakeSpawner


class FakeTracker:
    """A tracker that does something at each of its rounds of work: `rounds`, in order."""

    def __init__(self) -> None:
        self.since = 1_700_000_000.0
        self.rounds: list[Callable[[], object]] = []
        self.facts = SimpleNamespace(cpus=2)
        self.plan = SimpleNamespace(
            settings=Settings(), features={"pages": FeatureState(State.OFF, "not asked for")}
        )
        self.programs = SimpleNamespace(maps={}, programs={})
        self.reader = SimpleNamespace(control={}, unmap=lambda: None)
        self.closed = False
        self.features: dict[str, object] = {}
        self.ledger = None
        self.awake, self.memory_bytes = True, 1 << 30
        self.memory = SimpleNamespace(uncounted=lambda: None)
        self.shed: frozenset[str] = frozenset()

    def set_sample_interval(self, sample_bytes: int) -> None:
        self.reader.control["sample_interval"] = sample_bytes

    def shed_load(self, collectors: frozenset[str]) -> None:
        self.shed = collectors

    def drain(self) -> None:
        if self.rounds:
            self.rounds.pop(0)()
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    def reconcile_devices(self) -> None:
        pass


class Host:
    """A daemon's surroundings: configuration, service manager, kernel and web process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = folder / "lock"
        self.config = Config(
            web=WebSettings(listen_address="127.0.0.1:0", socket_path=""),
            state=StateSettings(keep=False, lock_file=str(self.lock)),
        )
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        self.started = Started()
        self.spawner = FakeSpawner(self._start)
        self.tracker = FakeTracker()
        self.read: Callable[[], Config] | None = None
        self.opened = False

    def _start(self, child: FakeChild) -> None:
        child.start(self.started)

    @contextmanager
    def open_tracker(
        self, settings: Settings, checkpoint: Any, before_loading: Callable[[], object]
    ) -> Iterator[FakeTracker]:
        before_loading()
        self.opened = True
        try:
            yield self.tracker
        finally:
            self.tracker.closed = True

    def run(self, *rounds: Callable[[], object]) -> None:
        """Run the daemon: these rounds of work, then SIGTERM."""
        self.tracker.rounds = list(rounds)

        def spawn(checkpoint: int, channel: int, listeners: Sequence[int]) -> FakeChild:
            self.checkpoint = checkpoint
            return self.spawner(channel, listeners)

        Daemon(self.config, self.read, spawn).run()

    def messages(self) -> list[str]:
        """Return what the service manager was sent."""
        lines = []
        while True:
            try:
                lines += self.manager.recv(65536).decode().splitlines()
            except BlockingIOError:
                return lines


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    result = Host(tmp_path, monkeypatch)
    monkeypatch.setattr(main, "open_tracker", result.open_tracker)
    monkeypatch.setattr(main, "limit_malloc_caching", lambda: None)
    monkeypatch.setattr(main, "raise_gc_threshold", lambda: None)
    monkeypatch.setattr(collector, "DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(Notifier, "barrier", lambda _: True)
    monkeypatch.setattr(syscall, "enable_stats", lambda: os.open(os.devnull, os.O_RDONLY))
    yield result
    result.spawner.close()
    result.manager.close()


def send(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def test_it_reports_to_the_service_manager_and_leaves_nothing(host: Host) -> None:
    seen: list[str] = []
    host.run(lambda: seen.append(host.lock.read_text()))
    assert seen == [f"{os.getpid()}\n"]
    messages = host.messages()
    assert messages[0] == "READY=1"
    assert messages[1].startswith("STATUS=Tracking since 2023-11-1")
    assert messages[-2:] == ["STOPPING=1", "STATUS=stopping"]
    assert host.tracker.closed
    assert host.lock.read_text() == ""
    assert host.spawner.last.killed, "it did not end when it was asked to"


def test_started_by_hand_it_says_where_to_look(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    host.started = Started(tls=True)
    host.run()
    output = capsys.readouterr().out
    assert "https://127.0.0.1:" in output
    assert "/metrics" in output


def test_the_web_process_gets_the_sockets_and_the_settings(host: Host) -> None:
    ports: list[int] = []

    def look() -> None:
        (number,) = host.spawner.last.listeners
        listener = socket.socket(fileno=os.dup(number))
        ports.append(listener.getsockname()[1])
        listener.close()

    host.config = replace(host.config, web=replace(host.config.web, max_series=3000))
    host.run(look)
    assert ports[0] > 0
    settings = ProcessSettings.unpack(host.spawner.last.settings())
    assert settings.max_series == 3000


def test_what_verdicts_have_watched_is_left_for_the_next_process_of_the_service(host: Host) -> None:
    host.config = replace(host.config, state=replace(host.config.state, keep=True))
    host.run(lambda: os.pwrite(host.checkpoint, b"watched", 0))
    assert Path(f"{host.lock}.verdicts").read_bytes() == b"watched"


def test_an_error_of_the_web_process_ends_the_start(host: Host) -> None:
    host.started = Started(error="web.yml: line 1", exit_code=2)
    with pytest.raises(UsageError, match=r"web\.yml: line 1"):
        host.run()
    assert not host.opened, "programs were loaded"
    assert "READY=1" not in host.messages()


@pytest.mark.parametrize("up", [True, False])
def test_a_session_outlasts_a_daemon_that_was_up_only(
    host: Host, monkeypatch: pytest.MonkeyPatch, up: bool
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    calls: list[object] = []
    continuity = SimpleNamespace(
        outlast=lambda: calls.append("outlast"), close=lambda requested: calls.append(requested)
    )
    monkeypatch.setattr(main, "find_continuity", lambda *_: continuity)
    if not up:
        monkeypatch.setattr(Collector, "start_tracking", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        host.run(fail)
    assert calls == (["outlast", False] if up else [False])


def test_a_busy_port_is_an_error_before_anything_starts(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        host.config = replace(host.config, web=replace(host.config.web, listen_address=address))
        with pytest.raises(UsageError, match="cannot listen on"):
            host.run()
    assert not host.spawner.children


def test_a_second_daemon_is_refused(host: Host) -> None:
    with only_daemon(host.lock), pytest.raises(UsageError, match="another slabmon daemon"):
        host.run()


def test_sighup_ends_it_without_a_configuration_file(host: Host) -> None:
    host.run(send(signal.SIGHUP), lambda: pytest.fail("it went on"))
    assert "STOPPING=1" in host.messages()


def test_sighup_applies_what_can_change(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    new = replace(
        host.config,
        web=replace(host.config.web, max_series=6000, listen_address="127.0.0.1:1"),
        log=LogSettings(level="info"),
    )
    host.read = lambda: new
    host.run(send(signal.SIGHUP), lambda: None, lambda: None)
    assert "wait for a restart: web.listen_address" in caplog.text
    assert "changed: web.max_series" in caplog.text
    assert len(host.spawner.children) == 2
    assert ProcessSettings.unpack(host.spawner.last.settings()).max_series == 6000


def test_a_configuration_that_is_wrong_changes_nothing(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong() -> Config:
        raise UsageError("slabmon.toml: unknown key")

    host.read = wrong
    host.run(send(signal.SIGHUP), lambda: None)
    assert "stays as it was: slabmon.toml: unknown key" in caplog.text
    assert len(host.spawner.children) == 1


def test_the_watchdog_hears_of_work_only(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    host.run(*[lambda: None] * 5)
    assert host.messages().count("WATCHDOG=1") >= 4


def test_a_fault_of_the_collector_ends_it_with_everything_closed(host: Host) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        host.run(fail)
    assert host.tracker.closed
    assert host.lock.read_text() == ""


def test_orphans_of_a_daemon_that_was_killed_are_ended_first(host: Host) -> None:
    program = "import time; print(flush=True); time.sleep(60)"
    orphan = subprocess.Popen([sys.executable, "-c", program, PROGRAM], stdout=subprocess.PIPE)
    try:
        assert orphan.stdout
        orphan.stdout.readline()
        identity = ProcessIdentity.of(orphan.pid)
        host.lock.write_text(f"123456789\n{identity}\n")
        host.run()
        assert orphan.wait(10) == -signal.SIGTERM
    finally:
        orphan.kill()
        orphan.wait()
        orphan.stdout.close()  # type: ignore[union-attr]


def test_a_web_process_that_dies_at_once_is_an_error(host: Host) -> None:
    host.spawner.prepare = lambda child: child.exit(1)
    with pytest.raises(SlabmonError, match="ended early: exit code 1"):
        host.run()
