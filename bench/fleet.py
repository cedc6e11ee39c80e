"""What a fleet costs one Prometheus, as JSON: `make bench-fleet` (docs/fleet.md).

A benchmark, not a test. 200 hosts that differ are served on the loopback by one process and scraped
by Debian's prometheus every 15 s, with slabmon's rules; then every query of the fleet dashboard is
timed. Head series, memory and CPU are what Prometheus says of itself; the bytes of a sample on disk
are those of a block made of all there is, as Prometheus makes one every two hours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.fleethosts import BUSY, SHAPES, Host, path, served
from tests.live.daemon import free_port
from tests.servers.processes import Server, fetch, running
from tests.unit.boards import RULES, asked

HOSTS, SCRAPE_SECONDS, ROUNDS = 200, 15, 5
WARM_SECONDS = 60
# What the first panel would cost without recorded series.
RAW = "topk(10, sum by (instance) (slabmon_cache_slab_bytes))"


def config(address: str) -> dict[str, Any]:
    """Prometheus' configuration: a target for each host, told apart by path and instance."""
    targets = [
        {"targets": [address],
         "labels": {"instance": f"host-{number:03}", "__metrics_path__": path(number)}}
        for number in range(HOSTS)
    ]  # fmt: skip
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "30s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "slabmon", "static_configs": targets}],
    }


def own(server: Server) -> dict[str, float]:
    """What Prometheus says of itself, by name."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(fetch(server.url + "/metrics").decode())
        for sample in family.samples
        if not sample.labels or sample.labels == {"type": "float"}
    }


def ask(server: Server, api: str, **parameters: Any) -> Any:
    """An answer's data. Raises OSError."""
    body = urllib.parse.urlencode(parameters).encode()
    with urllib.request.urlopen(f"{server.url}/api/v1/{api}", body, timeout=120) as answer:
        return json.load(answer)["data"]


def timed(server: Server, expr: str, instant: bool, span: tuple[float, float]) -> dict[str, Any]:
    """Median milliseconds of a query, at the end of a span or over all of it."""
    times, found = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        if instant:
            found = ask(server, "query", query=expr, time=span[1])["result"]
        else:
            found = ask(server, "query_range", query=expr, start=span[0], end=span[1],
                        step=SCRAPE_SECONDS)["result"]  # fmt: skip
        times.append((time.perf_counter() - start) * 1e3)
    return {"ms": round(median(times), 1), "series": len(found)}


def block(server: Server, folder: Path) -> dict[str, Any]:
    """All samples as blocks, and what they take on disk."""
    name = ask(server, "admin/tsdb/snapshot")["name"]
    blocks = list((folder / "tsdb" / "snapshots" / name).glob("*/meta.json"))
    stats = [json.loads(meta.read_text())["stats"] for meta in blocks]
    samples, series = (sum(one[key] for one in stats) for key in ("numSamples", "numSeries"))
    chunks = sum(file.stat().st_size for meta in blocks for file in meta.parent.glob("chunks/*"))
    index = sum((meta.parent / "index").stat().st_size for meta in blocks)
    return {"samples": samples, "series": series, "chunk_bytes_per_sample": chunks / samples,
            "index_bytes_per_series": index / series}  # fmt: skip


def wal_bytes(folder: Path) -> int:
    """Of the write-ahead log."""
    return sum(file.stat().st_size for file in (folder / "tsdb" / "wal").rglob("*")
               if file.is_file())  # fmt: skip


def measure(server: Server, folder: Path, seconds: float) -> dict[str, Any]:
    """After the first scrapes, so many seconds of others."""
    time.sleep(WARM_SECONDS)
    before, log, start = own(server), wal_bytes(folder), time.time()
    resident = []
    while time.time() < start + seconds:
        time.sleep(SCRAPE_SECONDS)
        resident.append(own(server)["process_resident_memory_bytes"])
    after, end = own(server), time.time()
    samples = (after["prometheus_tsdb_head_samples_appended_total"]
               - before["prometheus_tsdb_head_samples_appended_total"])  # fmt: skip
    cpu = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    up = ask(server, "query", query="sum(up)")["result"]
    fleet = [one for one in asked() if one.board == "fleet.json"]
    scraped = ask(server, "query", query="sum(scrape_samples_scraped)")["result"]
    report = {
        "seconds": round(end - start), "hosts_up": int(up[0]["value"][1]),
        "series_scraped": int(scraped[0]["value"][1]),
        "head_series": int(after["prometheus_tsdb_head_series"]),
        "samples_per_second": round(samples / (end - start)),
        "cpus": round(cpu / (end - start), 4),
        "cpu_microseconds_per_sample": round(cpu / samples * 1e6, 2),
        "resident_mib": {"median": round(median(resident) / 2**20),
                         "highest": round(max(resident) / 2**20)},
        "resident_bytes_per_series": round(max(resident) / after["prometheus_tsdb_head_series"]),
        "wal_bytes_per_sample": round((wal_bytes(folder) - log) / samples, 2),
        "without_rules": timed(server, RAW, False, (start, end)),
        "queries": [
            {"panel": one.panel["title"], "instant": bool(one.target.get("instant")),
             "expr": one.expr, **timed(server, one.filled("1m"), bool(one.target.get("instant")),
                                       (start, end))}
            for one in fleet
        ],
    }  # fmt: skip
    return report | {"block": block(server, folder)}


def main() -> int:
    """Prints one JSON document; the argument is for how many seconds."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    hosts = [Host(number) for number in range(HOSTS)]
    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True,
                             check=True).stdout.split()[2]  # fmt: skip
    with tempfile.TemporaryDirectory() as name, served(hosts) as address:
        folder, port = Path(name), free_port()
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config(address)))
        command = [
            "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api",
        ]  # fmt: skip
        with running(command, folder, port, "/-/ready") as server:
            document = {
                "prometheus": version, "hosts": HOSTS, "shapes": SHAPES, "busy": BUSY,
                "scrape_seconds": SCRAPE_SECONDS, "load": [round(n, 1) for n in os.getloadavg()],
                "series_per_host": sorted({host.series for host in hosts}),
                **measure(server, folder, seconds),
            }  # fmt: skip
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
