# SPDX-License-Identifier: Apache-2.0
"""Start, scrapes and memory of the daemon on this host, as JSON: `make bench-scrape`.

A benchmark, not a test. Another process keeps one CPU busy while scrapes are timed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from slabmon.state.fingerprint import sources_digest

ADDRESS = "127.0.0.1:17523"
URL = f"http://{ADDRESS}/metrics"
SCRAPES, SECONDS, PACE = 40, 20, 0.7  # paced, because simultaneous requests share a reading


def scrape() -> tuple[float, int]:
    """Return the seconds and bytes of a scrape."""
    start = time.perf_counter()
    with urllib.request.urlopen(URL, timeout=10) as answer:
        size = len(answer.read())
    return time.perf_counter() - start, size


@contextmanager
def daemon(folder: str) -> Iterator[tuple[psutil.Process, float]]:
    """Run a daemon; yield it and the seconds from its start to its first metrics."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "slabmon",
            "serve",
            "--web.listen-address",
            ADDRESS,
            "--web.socket-path",
            "",
            "--state.keep",
            "false",
            "--state.lock-file",
            f"{folder}/lock",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                scrape()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("slabmon serve ended; run it by hand to see why") from None
                time.sleep(0.01)
        yield psutil.Process(process.pid), time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def busy_cpu() -> Iterator[None]:
    """Keep one CPU busy."""
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds of all of them."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> int:
    """Print one JSON document."""
    with tempfile.TemporaryDirectory() as folder, daemon(folder) as (main_process, started):
        processes = [main_process, *main_process.children(recursive=True)]
        for _ in range(5):
            scrape()
        with busy_cpu():
            scrapes = []
            for _ in range(SCRAPES):
                time.sleep(PACE)
                scrapes.append(scrape())
            times = np.array(scrapes)
        before, begin = cpu_seconds(processes), time.perf_counter()
        end = begin + SECONDS
        for number in range(SECONDS):
            scrape()
            time.sleep(max(0.0, begin + number + 1 - time.perf_counter()))
        each_second = (cpu_seconds(processes) - before) / (time.perf_counter() - begin)
        time.sleep(max(0.0, end - time.perf_counter()))
        before, begin = cpu_seconds(processes), time.perf_counter()
        time.sleep(SECONDS / 2)
        idle = (cpu_seconds(processes) - before) / (time.perf_counter() - begin)
        pss = {
            Path(f"/proc/{p.pid}/comm").read_text().strip() + f" {i}": p.memory_full_info().pss
            for i, p in enumerate(processes)
        }
    milliseconds = times[:, 0] * 1e3
    document = {
        "sources": sources_digest(),
        "start_seconds": round(started, 2),
        "scrape_ms": {
            "median": round(float(np.median(milliseconds)), 1),
            "p99": round(float(np.percentile(milliseconds, 99)), 1),
        },
        "scrape_bytes": int(times[-1, 1]),
        "scrapes": SCRAPES,
        "cpu_percent_scraped_each_second": round(100 * each_second, 2),
        "cpu_percent_not_scraped": round(100 * idle, 2),
        "pss_mib": {name: round(value / (1 << 20), 1) for name, value in pss.items()},
        "pss_mib_total": round(sum(pss.values()) / (1 << 20), 1),
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
