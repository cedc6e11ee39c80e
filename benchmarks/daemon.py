# SPDX-License-Identifier: Apache-2.0
"""The cost of the daemon over time: memory and CPU of all its processes, while it is scraped.

A benchmark, not a test: `make bench-daemon SECONDS=3600`. Runs `slabmon serve` with temporary
files and scrapes it every five seconds. PAGE=1: also requests the data of the live page, twice a
minute. HISTORY=FILE: the daemon also records its history there, every ten seconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from tests.live.daemon import Daemon

SCRAPE_SECONDS, PAGE_EVERY, SHOW_EVERY = 5.0, 6, 12
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = (
    "api/v1/table?view=caches",
    "api/v1/table?view=sites",
    "api/v1/table?view=devices",
    "api/v1/chart?view=caches",
    "api/v1/leaks",
)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def memory(pid: int) -> dict[str, float]:
    """Return the proportional memory of a process, in MiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.split()
        fields[name.rstrip(":")] = int(value) / 1024
    return {"pss": fields["Pss"], "anon": fields["Pss_Anon"], "file": fields["Pss_File"]}


def files_alone(pids: list[int]) -> float:
    """Return MiB of file pages of these processes, as if no other process shared them: for each
    mapping the share of the process with the largest."""
    largest: Counter[tuple[str, ...]] = Counter()
    for pid in pids:
        mapped: Counter[tuple[str, ...]] = Counter()
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            fields = line.split()
            if not fields[0].endswith(":"):
                mapping = tuple(fields[2:6])
            elif fields[0] in ("Rss:", "Anonymous:"):
                mapped[mapping] += int(fields[1]) * (1 if fields[0] == "Rss:" else -1)
        largest |= mapped
    return largest.total() / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def fetch(url: str) -> tuple[float, int]:
    """Return the milliseconds and bytes of an answer."""
    start = time.monotonic()
    with urllib.request.urlopen(url, timeout=30) as answer:
        size = len(answer.read())
    return 1e3 * (time.monotonic() - start), size


def show(pids: list[int], since: dict[int, tuple[float, float]]) -> None:
    """Print one line for all processes, and their sum."""
    total = anonymous = spent = 0.0
    parts = []
    for pid in pids:
        used, now = memory(pid), time.monotonic()
        at, before = since.setdefault(pid, (now, cpu(pid)))
        share = 100 * (cpu(pid) - before) / (now - at) if now > at else 0.0
        since[pid] = now, cpu(pid)
        total += used["pss"]
        anonymous += used["anon"]
        spent += share
        parts.append(
            f"{used['pss']:.1f} MiB (anon {used['anon']:.1f} file {used['file']:.1f}) {share:.2f} %"
        )
    alone = anonymous + files_alone(pids)
    print(
        f"  PSS {total:.1f} MiB, {alone:.1f} if nobody shared its files, CPU {spent:.2f} %:",
        " | ".join(parts),
        flush=True,
    )


def main(seconds: float, page: bool, history: str) -> None:
    """Print once a minute: PSS, CPU of one core since the last line, and times of scrapes."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), pins=Path(f"/sys/fs/bpf/slabmon-bench-{os.getpid()}"))
        if history:
            daemon.config.write_text(f'[history]\npath = "{history}"\n')
        begun = time.monotonic()
        daemon.start()
        assert daemon.process is not None
        url = daemon.url
        fetch(f"{url}/metrics")
        print(f"first metrics after {time.monotonic() - begun:.2f} s")
        since: dict[int, tuple[float, float]] = {}
        times = []
        try:
            begun, count = time.monotonic(), 0
            while time.monotonic() - begun < seconds:
                elapsed, size = fetch(f"{url}/metrics")
                times.append(elapsed)
                if page and count % PAGE_EVERY == 0:
                    for path in _PAGE:
                        fetch(f"{url}/{path}")
                if count % SHOW_EVERY == 0:
                    times.sort()
                    print(
                        f"{time.monotonic() - begun:6.0f} s: scrape of {size >> 10} KiB in "
                        f"{times[len(times) // 2]:.0f} ms, at most {times[-1]:.0f}"
                    )
                    show(family(daemon.process.pid), since)
                    times = []
                count += 1
                time.sleep(max(0, begun + count * SCRAPE_SECONDS - time.monotonic()))
        finally:
            daemon.signal(signal.SIGTERM)
            daemon.wait()
        print(daemon.log(), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=3600)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--history", default="")
    main(**vars(parser.parse_args()))
