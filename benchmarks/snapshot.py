# SPDX-License-Identifier: Apache-2.0
"""Time of a snapshot at full tables: both CPUs' 4096 kmalloc slots used, 100,000 samples.

A benchmark, not a test: run it with `make bench`. It fills the tables of a real session through
the maps that the programs use, so that reading them costs the same as in the daemon.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import SAMPLE
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker

SAMPLES = 100_000
SITES, CACHES = 4096, 256
ROUNDS = 30


def fill_lanes(tracker: Tracker, sites: np.ndarray, caches: np.ndarray) -> int:
    """Put a call site into every free slot of the kmalloc lanes; return the number of slots."""
    count = 0
    for lane in tracker.reader.alloc_lanes[0]["slots"]:
        free = np.flatnonzero(lane["site"] == 0)
        lane["gfp_size_key"][free] = 0xCC0 << 32 | 64
        lane["cache"][free] = caches[free % len(caches)]
        lane["count"][free] = 1
        lane["site"][free] = sites[free % len(sites)]
        count += len(lane)
    return count


def fill_samples(tracker: Tracker, slots: int) -> None:
    """Insert SAMPLES tracked objects of all slots, each tagged with an address of no object."""
    rng = np.random.default_rng(1)
    size = tracker.plan.defines["NR_POOL"]
    tags = maps.map_array(tracker.programs.maps["tags"], np.dtype("<u8"), size, writable=True)
    free = np.flatnonzero(tags == 0)
    indices = np.sort(rng.choice(free, SAMPLES, replace=False))
    values = np.zeros(SAMPLES, SAMPLE)
    values["slot"] = rng.integers(0, slots, SAMPLES)
    values["allocated_bytes"] = 64
    values["interval"] = 65536
    values["flags"] = 1
    values["stack"] = -1
    values["time_ns"] = 1
    pool = maps.map_array(tracker.programs.maps["pool"], SAMPLE, size, writable=True)
    pool[indices] = values
    tags[indices] = 2


def main() -> int:
    """Print quartiles of ROUNDS snapshots, in milliseconds."""
    with open_tracker(Settings(site_slots=4096)) as tracker:
        start = tracker.symbols.address("_stext") or 0
        sites = start + np.arange(SITES, dtype="<u8") * 1024
        caches = tracker.reader.caches()[0][:CACHES]
        slots = fill_lanes(tracker, sites, caches)
        fill_samples(tracker, slots)
        first = time.perf_counter()
        snapshot = tracker.snapshot()
        times = [time.perf_counter() - first]
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            snapshot = tracker.snapshot()
            times.append(time.perf_counter() - begin)
        tracked = len(snapshot.tracked.bytes)
    low, middle, high = np.percentile(np.array(times[1:]) * 1e3, (25, 50, 75))
    sys.stdout.write(
        f"{slots} slots used, {tracked} tracked objects, {len(snapshot.sites)} sites: "
        f"first {times[0] * 1e3:.0f} ms, then median {middle:.0f} ms ({low:.0f} to {high:.0f})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
