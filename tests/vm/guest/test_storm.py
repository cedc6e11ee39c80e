# SPDX-License-Identifier: Apache-2.0
"""Every CPU allocates at once, in tasks, hard and soft interrupts: exact, less what is admitted.

Most telling with many virtual CPUs (--cpus 8).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from tests.vm.guest import planted as module
from tests.vm.guest.observed import missed, planted_sites, traced_sites

ROUNDS = 7
CONTEXTS = {"planted_storm_task", "planted_storm_irq", "planted_storm_softirq"}


@pytest.fixture
def tracker(planted: None) -> Iterator[Tracker]:
    with open_tracker(Settings(exact=Filter.parse(f"module={module.NAME}"))) as session:
        yield session


def test_storms_are_counted_exactly(
    tracker: Tracker, record_property: Callable[[str, object], None]
) -> None:
    before = tracker.snapshot()
    for _ in range(ROUNDS):
        module.run("storm")
    after = tracker.snapshot()
    lost = missed(after) - missed(before)
    sites = traced_sites()
    assert set(sites) == CONTEXTS

    old, new = planted_sites(before), planted_sites(after)
    short = events = 0
    for symbol, published in sites.items():
        mine = new[symbol] - old.get(symbol, Counter())
        allocs = sum(site.allocs for site in published)
        events += allocs
        short += allocs - mine["allocs"]
        assert 0 <= allocs - mine["allocs"] <= lost, symbol
        # All objects have one size, so that what was seen of them is right to the byte.
        [site] = published
        assert mine["allocated"] * site.allocs == site.allocated_bytes * mine["allocs"]
        assert mine["requested"] * site.allocs == site.requested_bytes * mine["allocs"]
    live = sum(
        group.live.objects
        for group in group_live(after, ("module",))
        if group.labels == (module.NAME,)
    )
    assert 0 <= live <= lost
    record_property("cpus", os.cpu_count())
    record_property("allocations", events)
    record_property("allocations_missed", short)
    record_property("frees_missed", live)
    for reason in sorted(after.losses):
        if reason.startswith("recursion_k"):
            record_property(reason, after.losses[reason] - before.losses[reason])
