# SPDX-License-Identifier: Apache-2.0
"""What Prometheus makes of a scrape of the web process's server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.processes import fetch, prometheus, query, wait_for

pytestmark = [pytest.mark.servers, pytest.mark.beside]


@pytest.fixture
def target() -> Iterator[str]:
    """The address of a server over a synthetic host."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.page.server", "growing", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_promtool_finds_nothing_to_complain_about(target: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=fetch(f"http://{target}/metrics"),
        capture_output=True,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_prometheus_takes_every_sample(target: str, tmp_path: Path) -> None:
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "slabmon", "static_configs": [{"targets": [target]}]}],
    }
    with prometheus(tmp_path, config) as server:
        wait_for("a scrape", lambda: query(server, "slabmon_cache_allocations_total"))
        assert [row["value"][1] for row in query(server, "up")] == ["1"]
        (samples,) = query(server, "scrape_samples_scraped")
        (series,) = query(server, 'count({__name__=~"slabmon_.*"})')
        assert samples["value"][1] == series["value"][1], "no duplicates, and none dropped"
        # Versions that know start times make no series of them.
        starts = query(server, '{__name__=~"slabmon_.*_created"}')
        bounded = {"slabmon_cache_allocations_created", "slabmon_site_allocations_created"}
        assert not bounded & {row["metric"]["__name__"] for row in starts}
