# SPDX-License-Identifier: Apache-2.0
"""`slabmon serve` as a process, with files of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

# By process, as tests run side by side. Of those marked `beside` only one file keeps state in the
# host's namespace: the first daemon that pins mounts the BPF file system, the last one unmounts it.
PINS = Path(f"/sys/fs/bpf/slabmon-daemon-test-{os.getpid()}")
PATIENCE_SECONDS = 180  # a busy machine that emulates another is slow


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Daemon:
    """`slabmon serve` with a lock, pins and a configuration file of its own."""

    def __init__(
        self, folder: Path, *prefix: str, lock: Path | None = None, pins: Path = PINS
    ) -> None:
        """`prefix`: a command to run it with."""
        port = free_port()
        self.config = folder / "slabmon.toml"
        self._log = folder / "log"
        self.url = f"http://127.0.0.1:{port}"
        self.config.write_text("")
        self.command = [
            *prefix,
            sys.executable,
            "-m",
            "slabmon",
            "serve",
            "--config",
            str(self.config),
            "--web.listen-address",
            f"127.0.0.1:{port}",
            "--web.socket-path",
            "",
            "--state.lock-file",
            str(lock or folder / "lock"),
            "--state.pin-directory",
            str(pins),
        ]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        assert "tracking" in self.process.stdout.readline(), self.log()

    def web_process(self) -> int:
        """Its web process; other children, such as that of a census, come and go."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # ended meanwhile
                if "slabmon.web.process" in child.cmdline():
                    found.append(child.pid)
        (web,) = found
        return web

    def log(self) -> str:
        return self._log.read_text()

    def scrape(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")
        }

    def scrape_until(self, name: str, value: float) -> dict[str, float]:
        """Readings are shared and may be old: scrapes until this one has arrived there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
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
        code = self.process.wait(PATIENCE_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def has_logged(self, text: str) -> bool:
        """Waits for a line that a signal brings about."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        return text in self.log()
