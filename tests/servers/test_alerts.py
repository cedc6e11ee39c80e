# SPDX-License-Identifier: Apache-2.0
"""Alerts from end to end: slabmon, Prometheus, Alertmanager, a webhook in the test. Rules are the
committed ones in quick motion (compressed.py: three seconds stand for an hour).

SlabmonSlabGrowing fires for a live leak on this machine's kernel: System V messages that are held
(at most 8,000 of 2,000 bytes), until they are freed; those of test_daemon_exhaustion.py, which runs
beside it, are of another cache. Its threshold of 64 MiB in two hours is 1 MiB in six seconds here.

SlabmonLeakSuspected cannot fire live in the time of a test: a verdict takes 21 minutes at least, by
design (test_leak_alert.py waits for it). It fires for a synthetic host with the real verdict engine
and exporter, of which each scrape, a second after the last, reports two minutes more; and resolves
when the leak is freed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from slabmon.export.metrics import Daemon as Figures
from slabmon.export.prometheus import Exporter
from slabmon.leaks.observer import Observer
from tests.live.daemon import Daemon
from tests.live.workload import HEADER, messages
from tests.scenarios.host import Simulation, Stream
from tests.scenarios.load import background, place, poisson
from tests.servers.compressed import SCRAPES, write_rules
from tests.servers.exposed import Received, exporter, webhook
from tests.servers.processes import Server, alertmanager, prometheus, wait_for
from tests.support import scraping

pytestmark = [pytest.mark.servers, pytest.mark.live]
LENGTH = 2048 - HEADER
MOST, BATCH = 8000, 50
ROUTE = {
    "receiver": "test",
    "group_by": ["..."],
    "group_wait": "0s",
    "group_interval": "1s",
    "repeat_interval": "1h",
}


@contextmanager
def watched(folder: Path, target: str) -> Iterator[tuple[Received, Server]]:
    """A target with Prometheus, Alertmanager and a receiver behind it."""
    with (
        webhook() as (url, received),
        alertmanager(
            folder,
            {
                "route": ROUTE,
                "receivers": [
                    {"name": "test", "webhook_configs": [{"url": url, "send_resolved": True}]}
                ],
            },
        ) as manager,
        prometheus(
            folder,
            {
                "global": SCRAPES,
                "rule_files": [write_rules(folder, **{"67108864": str(1 << 20)})],
                "alerting": {
                    "alertmanagers": [{"static_configs": [{"targets": [manager.address]}]}]
                },
                "scrape_configs": [
                    {"job_name": "slabmon", "static_configs": [{"targets": [target]}]}
                ],
            },
        ),
    ):
        yield received, manager


def test_a_live_leak_raises_an_alert_and_its_end_resolves_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_text("[state]\nkeep = false\n")
    daemon.start()
    target = daemon.url.removeprefix("http://")
    sent = 0
    try:
        with watched(tmp_path, target) as (received, manager), messages() as held:

            def leaking() -> bool:
                nonlocal sent
                for _ in range(BATCH if sent < MOST else 0):
                    held.send(LENGTH)
                    sent += 1
                return any(
                    "2k" in alert["labels"]["cache"]
                    for alert in received.having("firing", "SlabmonSlabGrowing")
                )

            wait_for("the alert", leaking)
            (alert,) = (
                one
                for one in received.having("firing", "SlabmonSlabGrowing")
                if "2k" in one["labels"]["cache"]
            )
            cache = alert["labels"]["cache"]
            assert alert["labels"] == {
                "alertname": "SlabmonSlabGrowing",
                "severity": "warning",
                "job": "slabmon",
                "instance": target,
                "cache": cache,
            }
            active = f'slabmon_cache_active_objects{{cache="{cache}"}}'
            assert daemon.scrape_until(active, sent)[active] >= sent, "they are in another cache"
            assert alert["annotations"]["summary"].startswith(f"{target}: slab cache {cache} ")
            assert alert["annotations"]["runbook_url"].endswith("/SlabmonSlabGrowing.md")
            assert not received.having("resolved", "SlabmonSlabGrowing", cache=cache)
            assert manager.listens_on() == {"127.0.0.1"}

            held.close()
            wait_for(
                "the end of the alert",
                lambda: received.having("resolved", "SlabmonSlabGrowing", cache=cache),
            )
    finally:
        daemon.signal(15)
        daemon.wait()


class Leaking:
    """A busy synthetic host. One site forgets to free for 40 minutes; then all of it is freed."""

    STEP, STEPS_A_SCRAPE, END = 15.0, 8, 2400.0

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        world = background(rng, 2 * self.END)
        births = poisson(rng, 100e6 / 512 / 3600, 0, self.END)
        deaths = np.full(len(births), self.END)
        world.streams.append(
            Stream(place(rng, "forget", "netdrv"), "kmalloc-512", 512, births, deaths)
        )
        self._host, self._judge, self._exporter = Simulation(world, rng), Observer(), Exporter()
        self._seconds = 0.0

    def scrape(self) -> str:
        """Two minutes later."""
        for _ in range(self.STEPS_A_SCRAPE):
            self._seconds += self.STEP
            now = self._host.at(self._seconds)
            self._judge.add(now)
        return scraping.text(self._exporter.families(now, Figures(), self._judge.assess()))


def test_a_verdict_raises_an_alert_that_names_site_and_module_and_resolves(tmp_path: Path) -> None:
    host = Leaking()
    with exporter(host.scrape) as target, watched(tmp_path, target) as (received, _):
        (alert, *_more) = wait_for(
            "the alert",
            lambda: received.having("firing", "SlabmonLeakSuspected", kind="site", module="netdrv"),
        )
        suspect = alert["labels"]["suspect"]
        assert suspect.startswith("forget+0x")
        assert alert["labels"]["instance"] == target
        assert " in module netdrv." in alert["annotations"]["description"]
        wait_for(
            "the end of the alert",
            lambda: received.having("resolved", "SlabmonLeakSuspected", suspect=suspect),
        )
