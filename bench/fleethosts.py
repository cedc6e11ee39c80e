"""Hosts that a Prometheus scrapes, served by one process: a path each, values that change.

The exporter makes each host's text once; from then on only values move, or 200 exporters would
take more CPU time than the Prometheus that is measured. A counter grows by a rate of its own, or
stands still as most call sites do between two scrapes; estimates of live memory waver.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from slabmon.analysis.verdicts.finding import SITE, STRONG, Assessment, Finding
from slabmon.budget import STEPS
from slabmon.export.catalogue import CATALOGUE, DAEMON, Daemon, Metric
from slabmon.export.prometheus import Exporter
from slabmon.model import Live, Slabinfo
from tests.unit.snapshots import synthetic

# Caches, sites, devices: a virtual machine, a server, a large server that reaches the bound.
SHAPES = ((235, 120, 20), (260, 900, 120), (400, 3_000, 500))
RELEASES = ("5.10.0-28-amd64", "6.1.0-18-amd64", "6.12.0-1-amd64", "6.18.0")
BUSY = 0.3  # of the counters that grow at all, grows between two scrapes
_ALL: tuple[Metric[Any], ...] = (*CATALOGUE, *DAEMON)
_COUNTERS = {metric.exposed for metric in _ALL if metric.kind == "counter"}
_ESTIMATES = ("slabmon_cache_live", "slabmon_site_live", "slabmon_cache_slab",
              "slabmon_cache_active", "slabmon_snapshot", "slabmon_scrape_duration",
              "slabmon_cost", "slabmon_process_")  # fmt: skip


def _amount(rng: random.Random) -> int:
    """From tens to hundreds of millions, small ones as likely as large ones."""
    return int(10 ** rng.uniform(1, 8))


def _text(number: int, rng: random.Random) -> str:
    """What host `number` answers first."""
    caches, sites, devices = SHAPES[number % len(SHAPES)]
    plain = synthetic(caches, sites, devices, 1)
    release = RELEASES[number // len(SHAPES) % len(RELEASES)]

    def live() -> Live:
        size = _amount(rng)
        return Live(size // 64, size, size // 9, size * 8 // 10, size * 12 // 10)

    snapshot = replace(
        plain, host=replace(plain.host, release=release),
        caches=tuple(replace(row, allocs=_amount(rng), frees=_amount(rng), live=live(),
                             slabinfo=Slabinfo(_amount(rng), _amount(rng), 64, _amount(rng)))
                     for row in plain.caches),
        sites=tuple(row._replace(allocs=_amount(rng), live=live()) for row in plain.sites),
    )  # fmt: skip
    parts = ("collector", "web")
    report = {
        "snapshot_seconds": 0.01, "budget_cpus": 0.02, "bpf_bytes": 48 << 20, "bpf_cpus": 0.01,
        "web_restarts": 0, "web_configuration_failed": 0,
        **{f"{part}_resident_bytes": 60 << 20 for part in parts},
        **{f"{part}_proportional_bytes": 30 << 20 for part in parts},
        **{f"{part}_cpu_seconds": 1 for part in parts},
        **{f"{part}_cpus": 0.001 for part in parts},
        **{f"budget_step_{step}": 0.0 for step in range(len(STEPS))},
    }  # fmt: skip
    daemon = Daemon(report, age=0.1, scrape_seconds=0.02)
    return generate_latest(Exporter().families(snapshot, daemon, _verdicts(number))).decode()


def _verdicts(number: int) -> Assessment:
    """One host in twenty has a suspected leak."""
    leak = Finding(
        SITE, ("probe_card", 0x40), "probe_card+0x40", "card", ("card",), (), (), (), STRONG,
        3.6e6, 3e6, 4e6, 21_600.0, 2e7, 3e7, 1e-9, ("it grows",), (),
    )  # fmt: skip
    found = () if number % 20 else (leak,)
    return Assessment(90_000.0, 1215.0, 42, 0, 16 << 30, found, ())


@dataclass
class _Line:
    series: str
    value: float
    rate: float  # of a counter, each time it grows
    waver: float  # of an estimate, relative


class Host:
    """One host; text() is its next scrape."""

    def __init__(self, number: int) -> None:
        self._rng = random.Random(number)
        self._lines = [self._line(line) for line in _text(number, self._rng).splitlines()]
        self.series = sum(isinstance(line, _Line) for line in self._lines)

    def _line(self, line: str) -> _Line | str:
        if line.startswith("#"):
            return line
        series, value = line.rsplit(" ", 1)
        name = series.partition("{")[0]
        grows = name in _COUNTERS and float(value) > 0
        rate = float(value) // 1000 + 1 if grows else 0.0
        return _Line(series, float(value), rate, 0.02 * name.startswith(_ESTIMATES))

    def text(self) -> bytes:
        """Each call is a scrape: values move on."""
        out, random_ = [], self._rng.random
        for line in self._lines:
            if isinstance(line, str):
                out.append(line)
                continue
            value = line.value
            if line.rate:
                if random_() < BUSY:
                    value = line.value = line.value + int(line.rate * (0.5 + random_()))
            elif line.waver and random_() < BUSY:
                value = line.value * (1 + line.waver * (random_() - 0.5))
                value = round(value, 6) if value < 100 else float(round(value))
            out.append(f"{line.series} {value!r}")
        return ("\n".join(out) + "\n").encode()


def path(number: int) -> str:
    """Where host `number` is."""
    return f"/{number}/metrics"


@contextmanager
def served(hosts: list[Host]) -> Iterator[str]:
    """Serves them on the loopback; yields HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = hosts[int(self.path.split("/")[1])].text()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
