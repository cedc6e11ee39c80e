# SPDX-License-Identifier: Apache-2.0
"""Many hosts in one process, each at its own path: the targets of `benchmarks.fleet`.

Each host is two moments of a synthetic snapshot, written by the daemon's own exporter. A scrape
returns both extrapolated linearly to now: rendering 200 hosts every 15 s would need more CPU than
Prometheus.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace

import numpy as np
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import Application, RequestHandler

from slabmon.base.gfp import MODIFIERS
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.kernel.probe.gfp import CLASSES
from slabmon.leaks.finding import Assessment, Finding, Kind, Strength
from slabmon.model import GfpClass, GfpModifier, Live, Slabinfo, Snapshot
from slabmon.runtime.budget import Cost
from tests.support.builders import cache, device, site, snapshot
from tests.support.figures import daemon_figures

RELEASES = ("5.10.0-34", "6.1.0-37", "6.12.0-9", "6.12.0-11", "6.18.2")
CACHES, MODULES, DRIVERS = 235, 60, 40
STEP_SECONDS = 15.0


class Host:
    """One host, fully determined by its number."""

    def __init__(self, number: int) -> None:
        self._rng = np.random.default_rng(number)
        self._number = number
        self.sites = int(self._rng.integers(500, 1500))
        self.devices = int(self._rng.integers(15, 80))
        # Call sites and caches differ by orders of magnitude, as on real hosts.
        self._site_rates = self._rng.pareto(0.7, self.sites) + 1
        self._cache_rates = self._rng.pareto(0.7, CACHES) + 1
        exporter = Exporter()
        first, second = (self._samples(exporter, step) for step in (1000, 1001))
        self._names = list(first)
        self._start = np.array(list(first.values()))
        end = np.array([second.get(name, value) for name, value in first.items()])
        self._slope = end - self._start
        self._whole = (self._start % 1 == 0) & (end % 1 == 0)
        self._since = time.monotonic()

    @property
    def series(self) -> int:
        """Series of one scrape."""
        return len(self._names)

    def scrape(self) -> bytes:
        """Return the exposition of now."""
        steps = (time.monotonic() - self._since) / STEP_SECONDS
        values = self._start + steps * self._slope
        values = np.where(self._whole, np.rint(values), values)  # counts are whole numbers
        lines = [
            f"{name} {value!r}" for name, value in zip(self._names, values.tolist(), strict=True)
        ]
        return ("\n".join(lines) + "\n").encode()

    def _samples(self, exporter: Exporter, step: int) -> dict[str, float]:
        page = generate_latest(
            exporter.families(self._snapshot(step), self._daemon(step), self._assessment())
        )
        lines = (line.rpartition(" ") for line in page.decode().splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    def _snapshot(self, step: int) -> Snapshot:
        plain = snapshot()
        sites = [
            site(
                f"function_{i}",
                i,
                f"module_{i % MODULES}" if i % 2 else None,
                allocs=int(step * rate),
                allocated_bytes=int(step * rate * 96),
                live=Live(int(rate), int((100 + step) * rate)),
            )
            for i, rate in enumerate(self._site_rates.tolist())
        ]
        caches = [
            cache(
                f"cache_{i}",
                allocs=int(step * rate),
                frees=int(step * rate * 0.99),
                allocated_bytes=int(step * rate * 96),
                freed_bytes=int(step * rate * 95),
                requested_bytes=int(step * rate * 90),
                live=Live(int(rate), int(step * rate)),
                reclaimable=i % 12 == 0,
                slabinfo=Slabinfo(i, 2 * i, 96, int(4096 * rate * step)),
            )
            for i, rate in enumerate(self._cache_rates.tolist())
        ]
        return replace(
            plain,
            host=replace(plain.host, release=RELEASES[self._number % len(RELEASES)]),
            sites=tuple(sites),
            caches=tuple(caches),
            devices=tuple(
                device(
                    name=f"0000:{i:02x}:00.0",
                    driver=f"driver_{i % DRIVERS}",
                    resources=i + 1,
                    managed_bytes=128 * i * step,
                    slab_bytes=256 * i * step,
                    added=i + 1,
                )
                for i in range(self.devices)
            ),
            gfp=tuple(GfpClass(name, 1000 * step, 64_000 * step, 0) for name in CLASSES),
            modifiers=tuple(GfpModifier(name, 1000 * step, 64_000 * step, 0) for name in MODIFIERS),
        )

    def _daemon(self, step: int) -> Daemon:
        share = 0.001 * float(self._number % 7 + 1)
        figures = daemon_figures(cpu_seconds=0.01 * step, cost=Cost(share, share, 0.003))
        return Daemon(figures, True, 0.25, 0.01, {"timeout": 0, "unreadable": 0}, 3, {"refused": 0})

    def _assessment(self) -> Assessment:
        """Return an assessment; one host in ten has a suspect."""
        module = f"module_{self._number % 3}"
        finding = Finding(
            kind=Kind.SITE,
            key=("leak", 4),
            name=f"leak+0x4 [{module}]",
            module=module,
            drivers=(),
            devices=(),
            caches=("cache_1",),
            sites=(),
            strength=Strength.STRONG,
            growth=3.6e6,
            low=3e6,
            high=4e6,
            window=21_600.0,
            grown=2e7,
            live=3e7,
            p=1e-9,
            evidence_for=(),
            evidence_against=(),
        )
        return Assessment(
            observed=90_000.0,
            needed=1215.0,
            series=42,
            left_out=0,
            memory=16 << 30,
            verdicts=(finding,) * (self._number % 10 == 0),
        )


class _Metrics(RequestHandler):
    def initialize(self, hosts: list[Host]) -> None:
        self._hosts = hosts

    def get(self, number: str) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(self._hosts[int(number)].scrape())


async def serve(port: int, count: int) -> None:
    """Serve until killed. Prints the number of series of all hosts once it listens."""
    hosts = [Host(number) for number in range(count)]
    application = Application([(r"/hosts/(\d+)/metrics", _Metrics, {"hosts": hosts})])
    application.listen(port, "127.0.0.1")
    sys.stdout.write(f"{sum(host.series for host in hosts)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
