# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose rows agree with their tracked objects, as those of a kernel do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from slabmon.analysis.sampling import Grouped
from slabmon.model import Live, Snapshot, Stacked
from slabmon.report.selection import ReportPeriod
from slabmon.store.recording import TimedSnapshot
from tests.support.builders import Object, cache, site, snapshot, tracked, window_of

CACHES = ("kmalloc-64", "dentry", "kmalloc-large")
SITES = (("alloc_thing", None), ("probe_card", "card"), ("d_alloc", None))
STACKS = {
    0: ("__traceiter_kmalloc", "__kmalloc_noprof", "alloc_thing", "vfs_open", "do_syscall_64"),
    1: ("probe_card [card]", "bus_probe", "do_init"),
    2: ("d_alloc", "lookup", "vfs_open", "do_syscall_64"),
}
objects = st.builds(
    Object,
    cache=st.integers(0, 2),
    site=st.integers(0, 2),
    bytes=st.sampled_from([8, 64, 192, 65536]),
    interval=st.sampled_from([0, 4096, 65536]),
    age=st.integers(1, 10**6).map(float),
    stack=st.integers(-1, 2),
    comm=st.sampled_from([b"cat", b"dd"]),
    cgroup=st.integers(1, 2),
)
# Allocated by stack, estimated: others, without one, and the three.
STACKED = Stacked(
    np.array([-2, -1, 0, 1, 2], np.int32),
    np.array([1000, 500, 3_000_000, 1_900_000, 1_100_000]),
    np.array([300, 400, 50_000, 0, 30_000]),
)
hosts = st.lists(objects, max_size=60)


def host(things: Sequence[Object], seconds: float = 60.0, **fields: object) -> Snapshot:
    """A host that holds these objects: every live figure follows from them."""
    columns = tracked(things, STACKS, {1: "/user.slice", 2: "/system.slice"})
    grouped = Grouped(columns.bytes, columns.interval, 65536)

    def live(index: int, which: object) -> Live:
        found = grouped.by(which, 3)[index]  # type: ignore[arg-type]
        return found

    plain = snapshot(
        caches=tuple(
            cache(
                name,
                allocs=100 * (i + 1),
                allocated_bytes=10**6 * (i + 1),
                requested_bytes=9 * 10**5,
                freed_bytes=10,
                live=live(i, columns.cache),
            )
            for i, name in enumerate(CACHES)
        ),
        sites=tuple(
            site(
                symbol,
                16 * i,
                module,
                allocs=50 * (i + 1),
                allocated_bytes=2 * 10**6,
                live=live(i, columns.site),
            )
            for i, (symbol, module) in enumerate(SITES)
        ),
        tracked=columns,
        stacked=STACKED,
    )
    tracking = replace(plain.tracking, seconds=seconds)
    return replace(plain, tracking=tracking, **fields)  # type: ignore[arg-type]


def report_period(now: Snapshot, before: Snapshot | None = None) -> ReportPeriod:
    """A report's report_period, an hour into November 2023."""
    earlier = None if before is None else TimedSnapshot(1_700_000_000.0, before)
    snapshots = [now] if before is None else [before, now]
    return ReportPeriod(
        "a test", TimedSnapshot(1_700_003_600.0, now), earlier, window_of(*snapshots)
    )


SOME = [
    Object(cache=0, site=0, bytes=64, interval=65536, stack=0, age=5),
    Object(cache=0, site=0, bytes=64, interval=65536, stack=0, age=6),
    Object(cache=1, site=2, bytes=192, interval=65536, stack=2, age=7, comm=b"dd", cgroup=2),
    Object(cache=2, site=1, bytes=65536, interval=0, stack=1, age=8),
    Object(cache=1, site=2, bytes=192, interval=65536, stack=-1, age=9),
]
