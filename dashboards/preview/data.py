# SPDX-License-Identifier: Apache-2.0
"""Prometheus with the data of a screenshot: of this host, of a host that leaks, of a fleet."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dashboards.preview.hosts import Host
from dashboards.preview.rows import HOUR
from tests.live.daemon import Daemon
from tests.servers.processes import Server, prometheus, query
from tests.support.boards import RULES

PACE = 60  # seconds between scrapes of synthetic hosts
LIVE_PACE, LIVE_SECONDS = 2, 150
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)$")


@dataclass(frozen=True)
class Data:
    """A server, the seconds between scrapes, and what time the dashboards are to show."""

    server: Server
    pace: float
    start: float
    end: float


def _backfill(
    folder: Path, hosts: Sequence[Host], dead: Sequence[str], start: int, end: int
) -> None:
    """Write the scrapes of hosts as blocks. Targets that are `dead` do not answer."""
    with (folder / "samples").open("w") as file:
        for at in range(start, end + 1, PACE):
            for host in hosts:
                target = f'job="slabmon",instance="{host.name}"'
                file.write(f"up{{{target}}} 1 {at}\n")
                for line in host.scrape(at - start, since=start).splitlines():
                    if found := _SAMPLE.match(line):
                        labels = f"{target},{found[2]}" if found[2] else target
                        file.write(f"{found[1]}{{{labels}}} {found[3]} {at}\n")
            file.writelines(f'up{{job="slabmon",instance="{name}"}} 0 {at}\n' for name in dead)
        file.write("# EOF\n")
    _promtool("openmetrics", str(folder / "samples"), str(folder / "tsdb"))


def _record(folder: Path, start: int, end: int) -> None:
    """Evaluate the rules over the past: twice, as some read what others record."""
    for _ in range(2):
        with prometheus(folder, {}) as server:
            _promtool(
                "rules",
                f"--url={server.url}",
                f"--start={start}",
                f"--end={end}",
                f"--eval-interval={PACE}s",
                f"--output-dir={folder / 'tsdb'}",
                str(RULES),
            )


def _promtool(kind: str, *arguments: str) -> None:
    command = ["promtool", "tsdb", "create-blocks-from", kind, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"promtool: {done.stdout}{done.stderr}")


@contextmanager
def _past(folder: Path, hosts: Sequence[Host], dead: Sequence[str], hours: float) -> Iterator[Data]:
    end = int(time.time()) // PACE * PACE
    start = end - round(hours * HOUR)
    _backfill(folder, hosts, dead, start, end)
    _record(folder, start, end)
    with prometheus(folder, {}) as server:
        yield Data(server, PACE, end - 6 * HOUR, end)


def leaking(folder: Path) -> AbstractContextManager[Data]:
    """Return a host whose driver loses 12 MiB a minute."""
    host = Host("web-1:7522", leak=12 * (1 << 20) / 60, failing=True, lossy=True)
    return _past(folder, [host], [], 6)


def fleet(folder: Path) -> AbstractContextManager[Data]:
    """Return a fleet of twelve hosts, three of which have something wrong."""
    releases = ("6.1.0-37", "6.12.0-9", "6.18.2")
    hosts = [
        Host(f"web-{number}:7522", releases[number % 3], 0.7 + 0.05 * number)
        for number in range(1, 9)
    ]
    hosts += [
        Host("db-1:7522", "6.12.0-9", 1.6, leak=90_000.0),
        Host("db-2:7522", "6.18.2", 1.5, leak=60_000.0),
        Host("build-1:7522", "6.1.0-37", 3.1, failing=True, lossy=True),
        Host("build-2:7522", "6.12.0-9", 2.2, cost=0.03, up=False),
    ]
    return _past(folder, hosts, ["web-9:7522"], 8)


@contextmanager
def live(folder: Path) -> Iterator[Data]:
    """Serve this host for two minutes and a half: needs root."""
    daemon = Daemon(folder)
    daemon.start()
    try:
        config = {
            "global": {"scrape_interval": f"{LIVE_PACE}s", "evaluation_interval": f"{LIVE_PACE}s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "slabmon",
                    "static_configs": [{"targets": [daemon.url.removeprefix("http://")]}],
                }
            ],
        }
        with prometheus(folder, config) as server:
            start = time.time()
            while time.time() < start + LIVE_SECONDS:
                time.sleep(1)
            assert query(server, "slabmon_up")
            yield Data(server, LIVE_PACE, start, time.time())
    finally:
        daemon.signal(15)
        daemon.wait()


DATA: dict[str, Callable[[Path], AbstractContextManager[Data]]] = {
    "live": live,
    "leaking": leaking,
    "fleet": fleet,
}
