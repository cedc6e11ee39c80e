# SPDX-License-Identifier: Apache-2.0
"""Servers as processes of a test: on free loopback ports, with files of their own, always ended."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml

from tests.live.daemon import free_port

PATIENCE = 90.0  # ends a test that cannot succeed any more; no test depends on how long it takes
T = TypeVar("T")


def fetch(url: str) -> bytes:
    """An answer's body. Raises OSError."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def wait_for(what: str, found: Callable[[], T]) -> T:
    """Waits until there is something, and returns it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.25)


@dataclass
class Server:
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def listens_on(self) -> set[str]:
        """Every address this process listens on."""
        found = psutil.Process(self.process.pid).net_connections("inet")
        return {
            one.laddr.ip
            for one in found
            if one.status == psutil.CONN_LISTEN
            or (not one.raddr and one.status == psutil.CONN_NONE)
        }

    def ready(self, path: str) -> bool:
        """Whether it answers there. Fails if it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            fetch(self.url + path)
        except OSError:
            return False
        return True


@contextmanager
def running(command: Sequence[str], folder: Path, port: int, ready: str) -> Iterator[Server]:
    """Starts it, waits until it answers at the path `ready`; ends it with the block, or with the
    test's own process."""
    name = Path(command[0]).name
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], cwd=folder, stdout=output, stderr=output
        )
    server = Server(name, port, process, log)
    try:
        wait_for(f"{name} to answer", lambda: server.ready(ready))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[Server]:
    """Prometheus with this configuration."""
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(dict(config)))
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--rules.alert.resend-delay=1s",
    ]
    with running(command, folder, port, "/-/ready") as server:
        yield server


@contextmanager
def alertmanager(folder: Path, config: Mapping[str, Any]) -> Iterator[Server]:
    """Alertmanager with this configuration, without a cluster."""
    file, port = folder / "alertmanager.yml", free_port()
    file.write_text(yaml.safe_dump(dict(config)))
    command = [
        "prometheus-alertmanager",
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, folder, port, "/-/ready") as server:
        yield server


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[Server]:
    """VictoriaMetrics that shows samples at once."""
    port = free_port()
    command = [
        "victoria-metrics",
        f"-storageDataPath={folder / 'victoria'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
    ]
    with running(command, folder, port, "/health") as server:
        yield server


def query(server: Server, expr: str) -> list[dict[str, Any]]:
    """Series of an instant query, by the API that Prometheus and VictoriaMetrics share."""
    body = urllib.parse.urlencode({"query": expr}).encode()
    try:
        with urllib.request.urlopen(f"{server.url}/api/v1/query", body, timeout=30) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{server.name}: {expr}: {error.read().decode()}") from error
    assert document["status"] == "success", document
    data = document["data"]
    if data["resultType"] == "scalar":
        return [{"metric": {}, "value": data["result"]}]
    found: list[dict[str, Any]] = data["result"]
    return found
