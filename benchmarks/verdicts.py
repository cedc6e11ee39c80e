# SPDX-License-Identifier: Apache-2.0
"""CPU time and state of the verdict engine on a large host: 10,000 call sites, 1,000 caches,
5,000 devices, 100,000 tracked objects of which one in a hundred is replaced between readings.

A benchmark, not a test: `make bench-verdicts`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from slabmon.leaks import checkpoint
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from tests.support.snapshots import synthetic

READINGS, STEP, SHARE = 150, 15.0, 100


def later(base: Snapshot, number: int, rng: np.random.Generator) -> Snapshot:
    """Return the host `number` steps later."""
    seconds = STEP * number
    now = 10**14 + round(seconds * 1e9)
    born = base.tracked.born_ns
    fresh = rng.integers(0, len(born), len(born) // SHARE)
    born[fresh] = now - rng.integers(0, round(STEP * 1e9), len(fresh), np.uint64)
    caches = tuple(
        replace(cache, allocated_bytes=cache.allocated_bytes + 4096 * i * number)
        for i, cache in enumerate(base.caches)
    )
    return replace(
        base,
        caches=caches,
        tracking=replace(base.tracking, seconds=seconds),
        tracked=replace(base.tracked, born_ns=born, now_ns=now),
    )


def main() -> int:
    """Print median and longest CPU time of a reading with its assessment, and the size of what is
    kept for the next process, with the CPU time of saving and restoring it."""
    rng = np.random.default_rng(7)
    base = synthetic()
    observer = Observer()
    adding = []
    for number in range(1, READINGS + 1):
        snapshot = later(base, number, rng)
        begin = time.process_time()
        observer.add(snapshot)
        adding.append(time.process_time() - begin)
    milliseconds = np.array(adding) * 1e3
    sys.stdout.write(
        f"reading median {np.median(milliseconds):6.1f} ms, longest {milliseconds.max():6.1f} ms\n"
    )
    assessment = observer.assess()
    begin = time.process_time()
    state = checkpoint.pack(observer)
    packed = time.process_time()
    checkpoint.restore(Observer(), state)
    saving, restoring = 1e3 * (packed - begin), 1e3 * (time.process_time() - packed)
    sys.stdout.write(
        f"state   {len(state) / 2**20:6.1f} MiB, saved in {saving:.1f} ms, restored in "
        f"{restoring:.1f} ms\n"
    )
    sys.stdout.write(f"series  {assessment.series} tests, {assessment.left_out} left out\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
