# SPDX-License-Identifier: Apache-2.0
"""SlabmonLeakSuspected for a leak on this machine's kernel, with the rules as they are committed.

A verdict takes 21 minutes of watching and the alert five more: run by `make test-leak`, not by
`make test`. System V messages are held beside a churn of others (at most 8,000 of 4,048 bytes, in
private queues), until the alert fires; then they are freed, and it resolves.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.daemon import Daemon
from tests.live.workload import HEADER, messages
from tests.servers.exposed import webhook
from tests.servers.processes import alertmanager, prometheus
from tests.support.boards import RULES

pytestmark = [pytest.mark.servers, pytest.mark.live, pytest.mark.timeout(2 * 3600)]
ALERT = "SlabmonLeakSuspected"
SITES = ("load_msg", "alloc_msg")  # the second, where the compiler does not inline it
LENGTH, CHURNED = 4096 - HEADER, 16
MOST, PER_SECOND, CHURN = 8000, 3, 31
HOUR = 3600.0
ROUTE = {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}


def each_second(until: Callable[[], bool], work: Callable[[], None]) -> float:
    """Works once a second until that is so; returns the seconds it took."""
    start = time.monotonic()
    while not until():
        assert time.monotonic() - start < HOUR, "waited in vain"
        work()
        time.sleep(1)
    return time.monotonic() - start


def test_a_live_leak_is_suspected_and_alerted(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    daemon = Daemon(tmp_path, pins=Path("/sys/fs/bpf/slabmon-leak-test"))
    daemon.start()
    target = daemon.url.removeprefix("http://")
    try:
        with (
            webhook() as (url, received),
            alertmanager(
                tmp_path,
                {
                    "route": ROUTE,
                    "receivers": [
                        {"name": "test", "webhook_configs": [{"url": url, "send_resolved": True}]}
                    ],
                },
            ) as manager,
            prometheus(
                tmp_path,
                {
                    "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
                    "rule_files": [str(RULES)],
                    "alerting": {
                        "alertmanagers": [{"static_configs": [{"targets": [manager.address]}]}]
                    },
                    "scrape_configs": [
                        {"job_name": "slabmon", "static_configs": [{"targets": [target]}]}
                    ],
                },
            ),
            messages() as held,
            messages() as passing,
        ):
            sent = 0

            def work() -> None:
                nonlocal sent
                passing.churn(CHURN, CHURNED)
                for _ in range(PER_SECOND if sent < MOST else 0):
                    held.send(LENGTH)
                    sent += 1

            took = each_second(lambda: bool(received.having("firing", ALERT)), work)
            record_property("seconds_to_alert", round(took))
            document = json.loads(
                subprocess.check_output(
                    [
                        sys.executable,
                        "-m",
                        "slabmon",
                        "leaks",
                        "--connect",
                        daemon.url,
                        "--format",
                        "json",
                    ]
                )
            )
            record_property("verdicts", document["verdicts"])
            alerts = received.having("firing", ALERT)
            [suspect] = {alert["labels"]["suspect"] for alert in alerts}
            assert suspect.partition("+")[0] in SITES
            [verdict] = document["verdicts"]
            assert (verdict["kind"], verdict["suspect"]) == ("site", suspect)
            pace = PER_SECOND * 4096 * HOUR
            assert verdict["growth_bytes_per_hour"] == pytest.approx(pace, rel=0.3)

            held.close()
            took = each_second(
                lambda: bool(received.having("resolved", ALERT)),
                lambda: passing.churn(CHURN, CHURNED),
            )
            record_property("seconds_to_resolve", round(took))
    finally:
        daemon.signal(15)
        daemon.wait()
