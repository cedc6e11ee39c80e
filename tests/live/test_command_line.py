# SPDX-License-Identifier: Apache-2.0
"""The commands as a user runs them: output, exit codes, and nothing left behind."""

from __future__ import annotations

import csv
import io
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.live.kernel import left_behind, ours
from tests.live.workload import messages

pytestmark = pytest.mark.live

PINS = Path("/sys/fs/bpf/slabmon")
SLABMON = (sys.executable, "-m", "slabmon")
# Any kernel address in hexadecimal or decimal: x86-64 and arm64 kernels live above 2^63.
ADDRESS = re.compile(r"ffff[0-9a-f]{12}|\b(9[2-9]\d{17}|1\d{19})\b")


def run(*arguments: str, check: int = 0) -> str:
    """Standard output of a command with this exit code."""
    done = subprocess.run([*SLABMON, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == check, done.stderr
    return done.stdout


def run_beside(work: Callable[[], None], *arguments: str) -> str:
    """Standard output of a command that runs while ``work`` is done again and again."""
    with tempfile.TemporaryFile("w+") as output:  # a pipe that nobody reads would stop it
        process = subprocess.Popen([*SLABMON, *arguments], stdout=output)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            work()
        assert process.wait(timeout=60) == 0
        output.seek(0)
        return output.read()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No program of ours stays loaded, nothing is pinned, no mount is added."""
    before, pinned = ours(), PINS.exists()
    with open("/proc/mounts") as mounts:
        mounted = mounts.read()
    yield
    assert not left_behind(before)
    with open("/proc/mounts") as mounts:
        assert mounts.read() == mounted
    assert PINS.exists() == pinned


def test_snapshot_json_has_the_host_and_no_addresses() -> None:
    output = run("snapshot", "--seconds", "0.2", "--format", "json")
    document = json.loads(output)
    assert document["schema"] == 1
    assert document["host"]["release"] == os.uname().release
    assert document["tracking"]["mode"] == "sampled"
    assert document["tracking"]["seconds"] >= 0.2
    assert document["caches"]
    assert document["devices"]
    assert not ADDRESS.search(output)


@pytest.mark.parametrize(
    "view",
    [
        "caches",
        "sites",
        "devices",
        "resources",
        "gfp",
        "modifiers",
        "sizes",
        "losses",
        "features",
        "drivers",
        "holdings",
        "programs",
    ],
)
def test_every_view_prints_as_csv(view: str) -> None:
    rows = list(
        csv.reader(
            io.StringIO(run("snapshot", "--seconds", "0.1", "--format", "csv", "--view", view))
        )
    )
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


def test_live_memory_by_dimensions_adds_up() -> None:
    arguments = ("snapshot", "--seconds", "0.5", "--sample-bytes", "512", "--format", "json")
    with messages() as queue:

        def work() -> None:
            queue.churn(50, 900)
            queue.send(900)

        output = run_beside(work, *arguments, "--by", "process,cache,stack")
    document: dict[str, Any] = json.loads(output)
    assert not ADDRESS.search(output)
    total = sum(group["live_bytes"] for group in document["groups"])
    assert total == pytest.approx(sum(c["live_bytes"] for c in document["caches"]), rel=0.01)
    mine = [g for g in document["groups"] if g["cache"] == "msg_msg-1k"]
    assert mine
    assert all("msgsnd" in group["stack"] for group in mine)


def test_page_allocator_view_counts_orders() -> None:
    arguments = ("snapshot", "--seconds", "1", "--format", "json", "--pages")

    def work() -> None:
        with mmap.mmap(-1, 1 << 20) as pages:  # malloc would keep them: its threshold adapts
            pages.write(bytes(1 << 20))
        time.sleep(0.01)

    document = json.loads(run_beside(work, *arguments))
    assert any(row["order"] == 0 and row["allocs"] for row in document["pages"])
    assert any(row["gfp_class"] is None and row["frees"] for row in document["pages"])


def test_check_tells_what_is_degraded_and_strict_fails_on_it() -> None:
    document = json.loads(run("check", "--format", "json"))
    assert document["features"]["kmalloc"]["state"] == "on"
    for feature in document["features"].values():
        assert feature["state"] == "on" or feature["reason"]
    degraded = any(
        feature["state"] != "on" and feature["reason"] != "not asked for"
        for name, feature in document["features"].items()
        if not name.startswith(("census_", "dma"))
    )
    run("check", "--strict", check=4 if degraded else 0)
    assert "kmem_cache_free" in run("check")


def test_without_root_the_error_says_so() -> None:
    # Another user, who may still reach a checkout below a private directory.
    nobody = (
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--inh-caps",
        "-all,+dac_read_search",
        "--ambient-caps",
        "-all,+dac_read_search",
    )
    done = subprocess.run(
        [*nobody, *SLABMON, "snapshot"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert done.stderr.startswith("slabmon: error: ")
    assert "root" in done.stderr
    assert done.stderr.count("\n") == 1


def test_start_to_first_snapshot_takes_about_a_second() -> None:
    """Bounded loosely here; docs/overhead.md has measured figures."""
    start = time.monotonic()
    run("snapshot", "--seconds", "0", "--format", "json")
    assert time.monotonic() - start < 20


@pytest.fixture
def daemon() -> Iterator[str]:
    """A running daemon's address."""
    process = subprocess.Popen(
        [*SLABMON, "serve", "--web.listen-address", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert url
    yield url[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def get(url: str, accept: str = "*/*") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def test_the_daemon_counts_a_workload_between_two_scrapes(daemon: str) -> None:
    name = 'slabmon_cache_allocations_total{cache="msg_msg-1k"}'

    def scrape() -> float:
        lines = dict(
            line.rsplit(" ", 1)
            for line in get(f"{daemon}/metrics").splitlines()
            if not line.startswith("#")
        )
        return float(lines.get(name, 0))

    before = scrape()
    with messages() as queue:
        queue.churn(1013, 900)
    time.sleep(0.6)  # readings are shared for half a second
    assert scrape() - before == 1013


def test_the_daemon_speaks_both_formats_json_and_html(daemon: str) -> None:
    plain = get(f"{daemon}/metrics")
    parse: Any = text_string_to_metric_families
    families = {family.name for family in parse(plain)}
    assert "slabmon_cache_live_bytes" in families
    modern = get(f"{daemon}/metrics", "application/openmetrics-text; version=1.0.0")
    parse = openmetrics.text_string_to_metric_families
    families |= {family.name for family in parse(modern)}
    assert "slabmon_cache_allocations" in families
    assert json.loads(get(f"{daemon}/api/v1/snapshot"))["schema"] == 1
    page = get(f"{daemon}/")
    assert "slabmon" in page
    assert get(f"{daemon}/readyz") == "ready\n"
    for body in (plain, modern, page):
        assert not ADDRESS.search(body)


def test_a_busy_port_is_one_clear_error(daemon: str) -> None:
    address = daemon.removeprefix("http://")
    done = subprocess.run(
        [*SLABMON, "serve", "--web.listen-address", address],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "another slabmon" in done.stderr
    assert done.stderr.count("\n") == 1
