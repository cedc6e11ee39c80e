"""The daemon over kill -9, a second daemon, a reload, and an end on request."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.kernel import program_names
from tests.live.workload import messages

pytestmark = pytest.mark.live

PINS = Path("/sys/fs/bpf/slabmon-daemon-test")
BEFORE, DEAD, AFTER = 1013, 2003, 503  # primes
COUNTER = 'slabmon_cache_allocations_total{cache="msg_msg-1k"}'


class Daemon:
    """`slabmon serve` with a lock, pins and a configuration file of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.config = folder / "slabmon.toml"
        self._log = folder / "log"
        self._url = f"http://127.0.0.1:{port}/metrics"
        self.command = [
            sys.executable, "-m", "slabmon", "serve", "--config", str(self.config),
            "--web.listen-address", f"127.0.0.1:{port}", "--web.socket-path", "",
            "--state.lock-file", str(folder / "lock"), "--state.pin-directory", str(PINS),
        ]  # fmt: skip
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log,
                                            text=True)  # fmt: skip
        assert self.process.stdout is not None
        assert "tracking" in self.process.stdout.readline(), self.log()

    def log(self) -> str:
        return self._log.read_text()

    def scrape(self) -> dict[str, float]:
        with urllib.request.urlopen(self._url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}  # fmt: skip

    def scrape_until(self, name: str, value: float) -> dict[str, float]:
        """Readings are shared and may be old: scrapes until this one has arrived there."""
        deadline = time.monotonic() + 30
        while True:
            found = self.scrape()
            time.sleep(0.1)
            if found.get(name, 0) >= value or time.monotonic() > deadline:
                return found

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def has_logged(self, text: str) -> bool:
        """Waits for a line that a signal brings about."""
        deadline = time.monotonic() + 30
        while text not in self.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        return text in self.log()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Not started yet. Afterwards nothing of it may be left."""
    mounts = Path("/proc/mounts")
    before = mounts.read_text()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = Daemon(tmp_path, port)
    result.config.write_text("")
    yield result
    if result.process is not None:
        result.signal(signal.SIGTERM)
        assert result.wait() == 0
    assert not {name for name in program_names() if name.startswith(("on_", "walk_devices"))}
    assert mounts.read_text() == before
    assert not PINS.exists()


def test_counters_go_on_over_kill_9(daemon: Daemon) -> None:
    daemon.start()
    with messages() as queue:
        queue.churn(BEFORE, 900)
        old = daemon.scrape_until(COUNTER, BEFORE)
        daemon.signal(signal.SIGKILL)
        assert daemon.wait() == -signal.SIGKILL
        queue.churn(DEAD, 900)
        daemon.start()
        queue.churn(AFTER, 900)
        new = daemon.scrape_until(COUNTER, BEFORE + DEAD + AFTER)
    assert old[COUNTER] == BEFORE
    assert new[COUNTER] == BEFORE + DEAD + AFTER
    assert new["slabmon_tracking_since_seconds"] == old["slabmon_tracking_since_seconds"]
    assert "counting goes on" in daemon.log()
    own = ("slabmon_process_", "slabmon_scrape_", "slabmon_web_", "slabmon_http_")
    fallen = [name for name, value in old.items() if "_total" in name
              and not name.startswith(own) and new.get(name, -1) < value]  # fmt: skip
    assert not fallen


def test_a_second_daemon_is_refused_with_the_first_ones_process(daemon: Daemon) -> None:
    daemon.start()
    done = subprocess.run(daemon.command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert daemon.process is not None
    assert f"process {daemon.process.pid} " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reload_changes_what_it_can_and_says_what_it_cannot(daemon: Daemon) -> None:
    daemon.start()
    daemon.config.write_text("[tracking]\nsample_bytes = 4096\nsamples = 4096\n")
    daemon.signal(signal.SIGHUP)
    assert daemon.has_logged("wait for a restart: tracking.samples")
    assert daemon.has_logged("changed: tracking.sample_bytes")
    time.sleep(0.6)  # readings are shared for half a second
    assert daemon.scrape()["slabmon_sample_bytes"] == 4096
    daemon.config.write_text("[tracking]\nsample_byte = 1\n")
    daemon.signal(signal.SIGHUP)
    assert daemon.has_logged("did you mean sample_bytes?")
    assert daemon.scrape()["slabmon_sample_bytes"] == 4096


def test_without_keeping_nothing_is_pinned(daemon: Daemon) -> None:
    daemon.config.write_text("[state]\nkeep = false\n")
    daemon.start()
    assert not PINS.exists()
