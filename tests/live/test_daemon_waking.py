# SPDX-License-Identifier: Apache-2.0
"""A daemon that sleeps: what wakes it, as its clients see it. In real time."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.daemon import Daemon
from tests.live.workload import messages

pytestmark = pytest.mark.live

# A leak of 128 KiB a second: in a minute five times what wakes a host of 24 GiB.
LENGTH, COUNT = 900, 128
LONGEST_SECONDS = 80.0  # a minute, and the reading in which it began


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    running.config.write_text("[state]\nkeep = false\n[census]\ninterval = '0'\n")
    running.command += ["--tracking", "auto"]
    running.start()
    yield running
    running.signal(signal.SIGTERM)
    running.wait()


def awake(daemon: Daemon) -> bool:
    return daemon.scrape()['slabmon_tracking_state{state="awake"}'] == 1


def test_a_leak_wakes_it_within_a_minute(daemon: Daemon) -> None:
    asleep = daemon.scrape()
    assert asleep['slabmon_tracking_state{state="asleep"}'] == 1
    assert not [name for name in asleep if name.startswith(("slabmon_cache_live", "slabmon_site_"))]
    assert any(name.startswith("slabmon_cache_slab_bytes") for name in asleep)
    with messages() as queue:
        began = time.monotonic()
        while not awake(daemon) and time.monotonic() - began < LONGEST_SECONDS:
            for _ in range(COUNT):
                queue.send(LENGTH)
            time.sleep(1)
        for _ in range(COUNT):
            queue.send(LENGTH)
        woken = daemon.scrape_until('slabmon_cache_allocations_total{cache="msg_msg-1k"}', COUNT)
    assert woken["slabmon_tracking_wakes_total"] == 1
    assert "tracking wakes: cache msg_msg-1k grew by" in daemon.log()
    assert woken['slabmon_cache_allocations_total{cache="msg_msg-1k"}'] >= COUNT


def test_a_page_wakes_it_and_counters_continue(daemon: Daemon) -> None:
    assert not awake(daemon)
    urllib.request.urlopen(f"{daemon.url}/api/v1/table?view=caches", timeout=30).close()
    assert daemon.has_logged("tracking wakes: somebody looks")
    scraped = daemon.scrape_until("slabmon_tracking_wakes_total", 1)
    assert scraped["slabmon_tracking_wakes_total"] == 1
    assert scraped["slabmon_tracking_asleep_seconds_total"] > 0
