# SPDX-License-Identifier: Apache-2.0
"""Censuses while every CPU allocates: nothing is counted twice, what is at rest stays exact.

Most telling with many virtual CPUs (--cpus 8).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from slabmon.kernel.census.reading import Reading
from tests.vm.guest import planted as module
from tests.vm.guest.census import census_reader, free_by_slab
from tests.vm.guest.test_census import OWN_CACHES, live_by_cache, own
from tests.vm.guest.test_lifecycle import SLABMON

READINGS = 10
BUSY_CACHE = "kmalloc-192"  # of the storm's objects
# Sockets, pipes and processes: caches with constructors, of kfree_rcu() and of whole slabs.
BUSY = """
import os, socket
os.nice(19)
while True:
    for _ in range(50):
        for end in socket.socketpair(): end.close()
        for end in os.pipe(): os.close(end)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""

pytestmark = pytest.mark.usefixtures("planted")


@contextmanager
def storms() -> Iterator[None]:
    """The module allocates on all CPUs, in tasks and interrupts; so does a process on each."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    storm = os.fork()
    if not storm:
        while True:
            module.run("storm")
            time.sleep(0.1)
    try:
        yield
    finally:
        os.kill(storm, signal.SIGKILL)
        os.waitpid(storm, 0)
        for process in busy:
            process.kill()
            process.wait()


def assert_nothing_twice(read: Reading) -> None:
    """Slabs do not overlap, and none holds more objects than it has room for."""
    slabs = read.slabs
    assert (slabs.pfn[1:] >= slabs.pfn[:-1] + slabs.pages[:-1]).all()
    assert (read.in_use >= 0).all()
    assert (read.in_use <= slabs.objects).all()
    free = free_by_slab(read)
    assert (free <= slabs.objects).all()
    # Where a list of free objects and the slab's counters differ, it changed meanwhile.
    differing = int((free != slabs.objects - read.in_use).sum())
    assert differing <= read.changed + 8 * (os.cpu_count() or 1)


def test_censuses_under_load(record_property: Callable[[str, object], None]) -> None:
    module.run("caches")
    live = live_by_cache()
    expected = {name: live[name] for name in OWN_CACHES}
    changed, slabs, seen = [], 0, set()
    with census_reader() as reader, storms():
        for _ in range(READINGS):
            found = reader.read()
            assert_nothing_twice(found.read)
            assert own(found) == expected
            for row in found.caches.values():
                assert 0 <= row.in_use <= row.objects
            changed.append(found.read.changed)
            seen.add(found.in_use(BUSY_CACHE))
            slabs = len(found.read.slabs)
    assert len(seen) > 1, "nothing happened meanwhile"
    record_property("changed_slabs", int(np.median(changed)))
    record_property("most_changed_slabs", max(changed))
    record_property("slabs", slabs)


def test_a_whole_census_under_load(record_property: Callable[[str, object], None]) -> None:
    """Whose they are, too: of a cache at rest the rows of owners add up to its objects."""
    module.run("caches")
    live = live_by_cache()
    with storms():
        output = subprocess.check_output(
            [SLABMON, "census", "--format", "json", "--cpu-seconds", "900"]
        )
    census = json.loads(output)
    owned: Counter[str] = Counter()
    for row in census["owners"]:
        owned[row["cache"]] += row["objects"]
    for row in census["caches"]:
        assert row["in_use"] + row["free"] == row["objects"]
        if row["name"] in OWN_CACHES:
            assert row["in_use"] == owned[row["name"]] == live[row["name"]]
    record_property("changed_slabs", census["changed_slabs"])
