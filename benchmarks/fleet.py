# SPDX-License-Identifier: Apache-2.0
"""200 hosts scraped by one Prometheus every 15 s, as JSON: `make bench-fleet` (docs/fleet.md).

A benchmark, not a test. The rules are those of dashboards/rules; every query of the fleet
dashboard is timed. Offsets into the past are shortened to the length of the run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import yaml

from benchmarks.fleet_figures import sources_digest
from tests.live.daemon import free_port

HOSTS, SECONDS, PACE = 200, 240, 15
WINDOW, STEP, ROUNDS = 360, 15, 5  # of range queries
ROOT = Path(__file__).parents[1]
PAST = {"1h": "2m", "2h": "1m", "4h": "2m", "6h": "3m"}
MIB = 1 << 20
# Series worth sending to a central store: the filter of dashboards/examples/prometheus.yml.
SENT_ON = (
    "(instance|release)[a-z_]*:slabmon_.*|ALERTS|up|slabmon_(up|build_info|feature_state|"
    "leak_suspects|budget_.*|scrape_duration_seconds|folded_series|web_restarts_total)"
)


def shortened(text: str) -> str:
    """Shorten the offsets of a query, or of rules, to the length of the run."""
    return re.sub(r"offset (\d+h)", lambda match: f"offset {PAST[match[1]]}", text)


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command; it ends with the block, or with this program."""
    with log.open("w") as errors:
        started = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        if started.stdout:
            started.stdout.close()


class Prometheus:
    """Client of Prometheus' HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=120) as answer:
            return json.load(answer)["data"]

    def value(self, expr: str) -> float:
        """Return the value of a query with one result; 0 if it has none."""
        result = self.get("query", query=expr)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def own(self, name: str) -> float:
        """Return a metric of Prometheus itself, which does not scrape itself here."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if re.split("[{ ]", line, maxsplit=1)[0] == name
        )

    def snapshot(self) -> str:
        """Write everything so far to a directory and return its name."""
        url = f"{self._url}/api/v1/admin/tsdb/snapshot"
        with urllib.request.urlopen(url, b"", timeout=300) as answer:
            name: str = json.load(answer)["data"]["name"]
        return name

    def wait(self, expr: str, value: float, seconds: float = 300) -> None:
        """Wait until the query's value is at least this."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.value(expr) >= value:
                    return
            except OSError:
                pass
            time.sleep(1)
        raise SystemExit(f"{expr}: expected {value:g} within {seconds:g} s")

    def timed(self, expr: str, instant: bool) -> dict[str, Any]:
        """Return the milliseconds of a query as a panel sends it, and its number of series."""
        times, result = [], []
        for _ in range(ROUNDS):
            now, start = time.time(), time.perf_counter()
            if instant:
                result = self.get("query", query=expr, time=now)["result"]
            else:
                result = self.get(
                    "query_range", query=expr, start=now - WINDOW, end=now, step=STEP
                )["result"]
            times.append((time.perf_counter() - start) * 1e3)
        return {
            "median_ms": round(median(times), 1),
            "max_ms": round(max(times), 1),
            "series": len(result),
        }


def configured(folder: Path, hosts: int) -> Path:
    """Write prometheus.yml, in which each host's path is a target."""
    rules = folder / "slabmon.yml"
    rules.write_text(shortened((ROOT / "dashboards/rules/slabmon.yml").read_text()))
    relabel = [
        {
            "source_labels": ["__address__"],
            "regex": "(.*);(.*)",
            "target_label": "instance",
            "replacement": "host$2",
        },
        {
            "source_labels": ["__address__"],
            "regex": "(.*);(.*)",
            "target_label": "__metrics_path__",
            "replacement": "/hosts/$2/metrics",
        },
        {
            "source_labels": ["__address__"],
            "regex": "(.*);(.*)",
            "target_label": "__address__",
            "replacement": "127.0.0.1:$1",
        },
    ]
    port = free_port()
    (folder / "port").write_text(str(port))
    targets = [f"{port};{number}" for number in range(hosts)]
    config = {
        "global": {"scrape_interval": f"{PACE}s", "evaluation_interval": f"{PACE}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "slabmon",
                "relabel_configs": relabel,
                "static_configs": [{"targets": targets}],
            },
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def panels() -> Iterator[tuple[str, str, bool]]:
    """Yield title, query, and whether it is an instant one, of the fleet dashboard."""
    board = json.loads((ROOT / "dashboards/fleet.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expr = shortened(target["expr"]).replace("$__rate_interval", "1m")
            expr = expr.replace("$job", "slabmon").replace("$instance", ".+")
            yield f"{panel['title']} {target['refId']}", expr, bool(target.get("instant"))


def scheduled(server: psutil.Process) -> tuple[float, float]:
    """Return the seconds its threads have run and waited for a CPU (/proc/PID/task/*/schedstat)."""
    files = Path(f"/proc/{server.pid}/task").glob("*/schedstat")
    ran, waited = zip(*(map(int, file.read_text().split()[:2]) for file in files), strict=True)
    return sum(ran) / 1e9, sum(waited) / 1e9


def measured(api: Prometheus, server: psutil.Process, seconds: int) -> dict[str, Any]:
    """Measure Prometheus while it serves no queries."""
    begin, (ran, waited) = time.monotonic(), scheduled(server)
    missed = api.own("prometheus_rule_group_iterations_missed_total")
    samples = api.value("sum(scrape_samples_scraped)")
    appended = "prometheus_tsdb_head_samples_appended_total"
    first = api.own(appended)
    peak = 0
    while time.monotonic() - begin < seconds:
        time.sleep(2)
        peak = max(peak, server.memory_info().rss)
    lasted = time.monotonic() - begin
    ran, waited = (now - then for now, then in zip(scheduled(server), (ran, waited), strict=True))
    rules = [
        {
            "group": group["name"],
            "rules": len(group["rules"]),
            "evaluation_ms": round(group["evaluationTime"] * 1e3, 1),
        }
        for group in api.get("rules")["groups"]
    ]
    return {
        "seconds": round(lasted),
        "samples_per_scrape_round": int(samples),
        "samples_per_second": round((api.own(appended) - first) / lasted),
        "series": int(api.own("prometheus_tsdb_head_series")),
        "recorded_series": {
            "of hosts": int(api.value('count({__name__=~"instance:slabmon.+"})')),
            "of modules and drivers of hosts": int(
                api.value('count({__name__=~"instance_.+:slabmon.+"})')
            ),
            "of kernel releases": int(api.value('count({__name__=~"release_.+:slabmon.+"})')),
        },
        "sent_on_series": int(api.value(f'count({{__name__=~"{SENT_ON}"}})')),
        "cpu_percent_of_one": round(100 * ran / lasted, 1),
        "waited_for_cpu_percent": round(100 * waited / (ran + waited), 1),
        "missed_rule_rounds": int(
            api.own("prometheus_rule_group_iterations_missed_total") - missed
        ),
        "resident_peak_mib": round(peak / MIB),
        "scrape_ms_median": round(1e3 * api.value("quantile(0.5, scrape_duration_seconds)"), 1),
        "scrape_ms_p99": round(1e3 * api.value("quantile(0.99, scrape_duration_seconds)"), 1),
        "failed_scrapes": int(
            api.value(f"sum(count_over_time(up[{seconds}s]) - sum_over_time(up[{seconds}s]))")
        ),
        "rules": rules,
    }


def stored(api: Prometheus, data: Path) -> dict[str, Any]:
    """Return the size of a block of everything so far."""
    folder = data / "snapshots" / api.snapshot()
    meta = [json.loads(file.read_text()) for file in folder.glob("*/meta.json")]
    files = [file for file in folder.rglob("*") if file.is_file()]
    samples = sum(block["stats"]["numSamples"] for block in meta)
    chunks = sum(file.stat().st_size for file in files if file.parent.name == "chunks")
    index = sum(file.stat().st_size for file in files if file.name == "index")
    return {
        "samples": samples,
        "chunk_bytes_per_sample": round(chunks / max(1, samples), 2),
        "index_mib": round(index / MIB, 1),
    }


def main(hosts: int = HOSTS, seconds: int = SECONDS) -> int:
    """Print one JSON document."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, port = configured(folder, hosts), free_port()
        fleet = [
            sys.executable,
            "-m",
            "benchmarks.fleet_hosts",
            (folder / "port").read_text(),
            str(hosts),
        ]
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-admin-api",
        ]
        with process(fleet, folder / "hosts.log") as serving:
            assert serving.stdout is not None
            if not serving.stdout.readline():
                raise SystemExit((folder / "hosts.log").read_text())
            with process(command, folder / "prometheus.log") as started:
                api, server = Prometheus(port), psutil.Process(started.pid)
                api.wait("sum(up)", hosts)
                load = measured(api, server, seconds)
                queries = {title: api.timed(expr, instant) for title, expr, instant in panels()}
                document = {
                    "sources": sources_digest(),
                    "hosts": hosts,
                    "interval_seconds": PACE,
                    "cpus": os.cpu_count(),
                    "load_average": [round(value, 1) for value in os.getloadavg()],
                    "prometheus": subprocess.run(
                        ["prometheus", "--version"],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout.split()[2],
                    "ingestion": load,
                    "resident_with_queries_mib": round(server.memory_info().rss / MIB),
                    "block": stored(api, folder / "tsdb"),
                    "range": {"seconds": WINDOW, "step": STEP},
                    "panels": queries,
                }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
