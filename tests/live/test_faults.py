# SPDX-License-Identifier: Apache-2.0
"""Tables that are full: counting continues, and what was missed is counted."""

from __future__ import annotations

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from tests.live.workload import messages

pytestmark = pytest.mark.live

N = 10007  # prime; more than there are places


def test_a_full_table_of_tracked_objects_is_counted() -> None:
    settings = Settings(samples=4096, exact=Filter.parse("cache=msg_msg-1k"))
    with messages() as queue, open_tracker(settings) as tracker:
        for _ in range(N):
            queue.send(900)
        snapshot = tracker.snapshot()
    (cache,) = [c for c in snapshot.caches if c.name == "msg_msg-1k"]
    assert cache.allocs == N, "counting needs no place"
    assert cache.live.objects + snapshot.losses["samples_full"] >= N
    assert snapshot.losses["samples_full"] >= N - tracker.plan.defines["NR_POOL"] > 0


def test_full_lanes_are_counted() -> None:
    with messages() as queue, open_tracker(Settings(site_slots=64, cache_slots=64)) as tracker:
        for number in range(400):  # events of many kinds of message
            queue.churn(1, 1 + number * 10)
        with open("/proc/self/maps") as file:
            file.read()
        first = tracker.snapshot()
        queue.churn(N, 900)
        second = tracker.snapshot()
    lost = second.losses["site_slots_full"] - first.losses["site_slots_full"]
    counted = sum(c.allocs for c in second.caches) - sum(c.allocs for c in first.caches)
    assert counted + lost >= N
