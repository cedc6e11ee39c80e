# SPDX-License-Identifier: Apache-2.0
"""Times and sizes of stored snapshots; with a recording as argument, the size of a week of it.

A benchmark, not a test: `make bench` prints the figures of docs/history.md. It needs no privilege.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from slabmon.model import Snapshot
from slabmon.store.codec import decode, encode
from slabmon.store.recording import LONGEST_CHAIN, Recording
from slabmon.store.writer import CHAIN, CHAIN_RATIO, RecordingWriter
from tests.support.snapshots import COLUMNS, synthetic

HOSTS = {
    "small": (240, 150, 20, 400),
    "medium": (400, 3_000, 500, 20_000),
    "large": (1_000, 10_000, 5_000, 100_000),
}
WEEK_SECONDS = 7 * 86400
ROUNDS = 9


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median time."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


def later(snapshot: Snapshot, rng: np.random.Generator) -> Snapshot:
    """Return the host a little later: a tenth of the sites was busy, and three objects in a
    hundred are gone."""
    busy = set(rng.choice(len(snapshot.sites), len(snapshot.sites) // 10).tolist())
    tracked = snapshot.tracked
    size = len(tracked.bytes)
    surviving = np.sort(rng.choice(size, size * 97 // 100, replace=False))
    return replace(
        snapshot,
        sites=tuple(
            site._replace(allocs=site.allocs + 3, allocated_bytes=site.allocated_bytes + 192)
            if i in busy
            else site
            for i, site in enumerate(snapshot.sites)
        ),
        tracked=replace(
            tracked, **{name: getattr(tracked, name)[surviving] for name in COLUMNS["tracked"]}
        ),
    )


def synthetic_hosts() -> None:
    """Measure the codec and the file at three sizes of hosts."""
    for name, size in HOSTS.items():
        rng = np.random.default_rng(5)
        snapshots = [synthetic(*size)]
        for _ in range(3):
            snapshots.append(later(snapshots[-1], rng))
        data = encode(snapshots[0])
        encoding = milliseconds(lambda: encode(snapshots[0]))  # noqa: B023
        decoding = milliseconds(lambda: decode(data))  # noqa: B023
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "slabs.db"
            with RecordingWriter(path) as history:
                history.append(snapshots[0], 0)
                start = time.perf_counter()
                for number, snapshot in enumerate(snapshots[1:], 1):
                    history.append(snapshot, number)
                appending = (time.perf_counter() - start) / 3 * 1e3
            with sqlite3.connect(path) as database:
                whole, *deltas = (
                    n for (n,) in database.execute("SELECT length(data) FROM snapshots")
                )
            database.close()
        print(
            f"{name}: {len(data) / 1e3:.0f} KB, encode {encoding:.1f} ms, decode "
            f"{decoding:.1f} ms; in a file whole {whole / 1e3:.1f} KB, later "
            f"{sum(deltas) / 3e3:.1f} KB, append {appending:.1f} ms"
        )


def a_week_of(path: Path) -> None:
    """Print the size of a recording, and of a week at that rate."""
    with Recording(path) as recording:
        times = recording.times()
        last = recording.at(times[-1]).snapshot
    step = (times[-1] - times[0]) / (len(times) - 1)
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT id = key, length(data) FROM snapshots").fetchall()
    database.close()
    whole = [size for is_whole, size in rows if is_whole]
    deltas = [size for is_whole, size in rows if not is_whole]
    delta = sum(deltas) / len(deltas)
    group = min(LONGEST_CHAIN, max(CHAIN, CHAIN_RATIO * max(whole) / delta))
    mean = delta + max(whole) / group
    share = path.stat().st_size / sum(whole + deltas)
    print(
        f"{path.name}: {len(times)} snapshots in {times[-1] - times[0]:.0f} s, at the end "
        f"{len(last.sites)} sites, {len(last.tracked.bytes)} tracked objects"
    )
    print(
        f"  encoded {len(encode(last)) / 1e3:.0f} KB; whole {max(whole) / 1e3:.1f} KB; later "
        f"mean {delta / 1e3:.2f} KB, from {min(deltas) / 1e3:.2f} to "
        f"{max(deltas) / 1e3:.2f}"
    )
    count = WEEK_SECONDS / step
    print(
        f"  a week every {step:.0f} s at this rate: {count:.0f} snapshots of {mean / 1e3:.2f} KB "
        f"and SQLite's share: {count * mean * share / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        a_week_of(Path(argument))
    if not sys.argv[1:]:
        synthetic_hosts()
