# SPDX-License-Identifier: Apache-2.0
"""A kernel with slub_debug: objects occupy several times what they hold, also more than a bucket of
kmalloc(). What is counted of them stays exact: test_slabmon.py and test_census.py, in such a guest,
compare it with what the module published."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import LARGE_CACHE, Cache, Snapshot
from tests.vm.guest import planted as module
from tests.vm.settings.boot import require_argument

require_argument("slub_debug=FZPU")
SLABS = Path("/sys/kernel/slab")
CTOR_CACHE = "slabmon_planted_ctor"
LARGEST_BUCKET = 8192
# Messages of one object of 4 KiB each; struct msg_msg is 48 bytes of it.
MESSAGE_BYTES, REFUSED = 4000, 7
ROOM_BYTES, QUEUE_BYTES = 4 << 20, 64 << 20
CACHES_OF_MESSAGES = ("msg_msg-4k", "kmalloc-cg-4k", "kmalloc-4k")
MOST_BYTES = Path("/proc/sys/kernel/msgmnb")
CGROUP = Path("/sys/fs/cgroup/slabmon-full")
# Charged to a cgroup that is full: no process of it may be killed, so that kmalloc() fails.
SENDER = f"""
import errno, os
from pathlib import Path
from tests.live.workload import Messages

cgroup = Path("{CGROUP}")
limit = os.open(cgroup / "memory.max", os.O_WRONLY)  # opening it later needs memory
messages = Messages()
(cgroup / "cgroup.procs").write_text(str(os.getpid()))
Path("/proc/self/oom_score_adj").write_text("-1000")
messages.send({MESSAGE_BYTES})
current = int((cgroup / "memory.current").read_text())
os.write(limit, str(current + {ROOM_BYTES}).encode())
refused = 0
while refused < {REFUSED}:
    try:
        messages.send({MESSAGE_BYTES})
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        refused += 1
os.write(limit, b"max")
messages.close()
"""


def size_of(cache: str) -> tuple[int, int]:
    """Bytes that an object of a cache holds, and those that it occupies."""
    folder = SLABS / cache
    names = ("object_size", "slab_size")
    holds, occupies = (int((folder / name).read_text()) for name in names)
    return holds, occupies


@pytest.fixture
def tracker(planted: None) -> Iterator[Tracker]:
    with open_tracker(Settings()) as opened:
        yield opened


def row_of(snapshot: Snapshot, name: str) -> Cache:
    (row,) = (cache for cache in snapshot.caches if cache.name == name)
    return row


def test_objects_of_the_largest_buckets_occupy_more_than_any() -> None:
    for bucket in ("4k", "8k"):
        holds, occupies = size_of(f"kmalloc-{bucket}")
        assert occupies > LARGEST_BUCKET >= holds


def test_sizes_are_those_of_what_objects_hold(tracker: Tracker) -> None:
    before = {row.le: row for row in tracker.snapshot().sizes}
    module.run("sizes")
    module.run("large")
    after = tracker.snapshot()
    planted: dict[int, int] = {}
    for site in module.expected().sites:
        if site.cache.startswith("kmalloc-") and site.cache != LARGE_CACHE:
            le = 1 << (size_of(site.cache)[0] - 1).bit_length()
            planted[le] = planted.get(le, 0) + site.allocs
    assert set(planted) >= {8, 64, 4096, LARGEST_BUCKET}
    for row in after.sizes:
        old = before.get(row.le)
        assert row.allocs - (old.allocs if old else 0) >= planted.get(row.le, 0), row
    assert planted.keys() <= {row.le for row in after.sizes}
    beyond = sum(row.allocs for row in after.sizes if row.le > LARGEST_BUCKET)
    assert beyond == row_of(after, LARGE_CACHE).allocs


def test_waste_is_what_an_object_occupies_beyond_what_it_holds(tracker: Tracker) -> None:
    before = row_of(tracker.snapshot(), CTOR_CACHE)
    module.run("caches")
    after = row_of(tracker.snapshot(), CTOR_CACHE)
    allocs = after.allocs - before.allocs
    holds, occupies = size_of(CTOR_CACHE)
    assert allocs > 0
    assert occupies > holds
    assert after.object_size == holds
    assert after.requested_bytes - before.requested_bytes == allocs * holds
    assert after.allocated_bytes - before.allocated_bytes == allocs * occupies


@contextmanager
def cgroup_of_one_queue() -> Iterator[None]:
    """A cgroup, and room for all messages in one queue: another one would need memory."""
    old = MOST_BYTES.read_text()
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
    CGROUP.mkdir()
    try:
        MOST_BYTES.write_text(str(QUEUE_BYTES))
        yield
    finally:
        MOST_BYTES.write_text(old)
        CGROUP.rmdir()


def test_failed_kmallocs_are_those_of_their_cache(tracker: Tracker) -> None:
    before = tracker.snapshot()
    name = next(name for name in CACHES_OF_MESSAGES if (SLABS / name).exists())
    with cgroup_of_one_queue():
        subprocess.run([sys.executable, "-c", SENDER], check=True, timeout=600)
    after = tracker.snapshot()
    failed = {cache.name: cache.failed for cache in before.caches}
    grown = {cache.name: cache.failed - failed.get(cache.name, 0) for cache in after.caches}
    assert {name: count for name, count in grown.items() if count} == {name: REFUSED}
    assert row_of(after, name).object_size == 4096
