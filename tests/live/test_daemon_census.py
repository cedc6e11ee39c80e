# SPDX-License-Identifier: Apache-2.0
"""Censuses of a daemon: on request over HTTP, and gone with it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from slabmon.store.recording import Recording
from tests.live.daemon import PATIENCE_SECONDS, Daemon

pytestmark = pytest.mark.live

LONGEST_SCRAPE_SECONDS = 2.0
KERNEL_ADDRESS = re.compile(r"\bf{4}[0-9a-f]{12}\b")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    running.config.write_text("[state]\nkeep = false\n[census]\ninterval = '0'\n")
    running.start()
    yield running
    if running.process is not None:
        running.signal(signal.SIGTERM)
        running.wait()


def request(daemon: Daemon) -> dict[str, object] | None:
    """Return the census, or None with 503."""
    try:
        with urllib.request.urlopen(f"{daemon.url}/api/v1/census", timeout=30) as answer:
            document: dict[str, object] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        if error.code != 503 or int(error.headers["Retry-After"]) < 1:
            raise
        return None


def test_a_census_is_taken_on_request_and_scrapes_do_not_wait(daemon: Daemon) -> None:
    assert "slabmon_census_seconds" not in daemon.scrape()
    assert request(daemon) is None
    deadline = time.monotonic() + PATIENCE_SECONDS
    slowest = 0.0
    while (census := request(daemon)) is None:
        assert time.monotonic() < deadline
        start = time.monotonic()
        daemon.scrape()
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.2)
    assert slowest < LONGEST_SCRAPE_SECONDS
    assert census["objects"]
    found = daemon.scrape_until("slabmon_census_seconds", 0.001)
    objects = [value for name, value in found.items() if name.startswith("slabmon_census_objects{")]
    assert sum(objects) == pytest.approx(float(str(census["objects"])), rel=0.01)
    assert found["slabmon_census_cpu_seconds_total"] > 0
    printed = subprocess.run(
        [sys.executable, "-m", "slabmon", "census", "--connect", daemon.url, "--format", "json"],
        capture_output=True,
        check=True,
    )
    assert json.loads(printed.stdout)["taken"] >= float(str(census["taken"]))


def test_opening_a_view_gets_a_census_which_reaches_page_report_and_history(
    daemon: Daemon, tmp_path: Path
) -> None:
    def ask(path: str) -> bytes:
        with urllib.request.urlopen(f"{daemon.url}{path}", timeout=30) as answer:
            body: bytes = answer.read()
            return body

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (table := json.loads(ask("/api/v1/table?view=owners")))["rows"]:
        assert "no census yet" in table["view"]["note"]
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert table["view"]["note"].startswith("census of ")
    signatures = {row["texts"][0] for row in table["rows"]}
    assert "struct dentry" in signatures
    path = quote(json.dumps([["owners", ["dentry"]]]))
    narrowed = ask(f"/api/v1/table?view=caches&path={path}").decode()
    assert "struct dentry" in narrowed
    exported = ask("/api/v1/table.csv?view=census").decode()
    page, recording = tmp_path / "report.html", tmp_path / "slabs.db"
    for command in (
        ("report", "--connect", daemon.url, "--seconds", "0", "-o", str(page)),
        ("record", "--connect", daemon.url, "--seconds", "0", "-o", str(recording)),
    ):
        subprocess.run([sys.executable, "-m", "slabmon", *command], check=True, capture_output=True)
    shown = page.read_text()
    assert "what is in slab memory, and whose it is" in shown
    assert "struct dentry" in shown
    with Recording(recording) as recorded:
        census = recorded.at(0.0).snapshot.census
    assert census
    assert {row.signature for row in census.owners} >= signatures
    for text in (json.dumps(table), narrowed, exported, shown, repr(census)):
        assert not KERNEL_ADDRESS.search(text)


def test_a_census_under_way_ends_with_the_daemon(daemon: Daemon) -> None:
    assert request(daemon) is None
    assert daemon.process is not None
    children = psutil.Process(daemon.process.pid).children(recursive=True)
    assert any("slabmon.kernel.census.child" in child.cmdline() for child in children)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not psutil.wait_procs(children, 5)[1]
