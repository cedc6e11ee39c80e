# SPDX-License-Identifier: Apache-2.0
"""Tracking that sleeps and wakes, on the running kernel: what it counts, and what is attached."""

from __future__ import annotations

from collections.abc import Set

import pytest

from slabmon.base.activity import Activity
from slabmon.kernel.programs import Direction, attachments
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.tracker import Tracker
from tests.live.test_counts import cache_of, site_of
from tests.live.workload import messages

pytestmark = pytest.mark.live

LENGTH = 900
COUNTERS = attachments(Direction.ALLOC) | attachments(Direction.FREE)
# Prime numbers of messages: while asleep, awake, asleep again, awake again.
ASLEEP, AWAKE, BETWEEN, AGAIN = 1009, 2003, 4001, 997
# Objects that are sampled are held over a sleep, and freed in it.
SETTINGS = Settings(when=When.AUTO, sample_bytes=64, stack_frames=0)


def attached(tracker: Tracker) -> Set[str]:
    return tracker.programs.attached_events & COUNTERS


@pytest.mark.parametrize("when", [When.AUTO, When.OFF])
def test_nothing_is_attached_to_allocation_events_before_it_wakes(when: When) -> None:
    with messages() as queue, open_tracker(Settings(when=when)) as tracker:
        assert not attached(tracker)
        queue.churn(ASLEEP, LENGTH)
        snapshot = tracker.snapshot()
    tracking = snapshot.tracking
    assert tracking.activity == (Activity.ASLEEP if when == When.AUTO else Activity.OFF)
    assert tracking.counted == pytest.approx(0, abs=0.01)
    cache = cache_of(snapshot)
    assert (cache.allocs, cache.frees) == (0, 0)
    assert cache.slabinfo is not None
    assert cache.slabinfo.slab_bytes > 0
    assert snapshot.devices
    assert not snapshot.sites


def test_what_happens_while_it_is_awake_is_counted_exactly() -> None:
    with messages() as queue, open_tracker(SETTINGS) as tracker:
        queue.churn(ASLEEP, LENGTH)
        tracker.wake("test")
        for _ in range(AWAKE):
            queue.send(LENGTH)
        first = tracker.snapshot()
        tracker.sleep()
        assert not attached(tracker)
        for _ in range(AWAKE):  # frees of tracked objects, unseen
            queue.receive()
        queue.churn(BETWEEN, LENGTH)
        asleep = tracker.snapshot()
        tracker.wake("again")
        woken = tracker.snapshot()
        for _ in range(AGAIN):
            queue.send(LENGTH)
        last = tracker.snapshot()
    assert (cache_of(first).allocs, cache_of(first).frees) == (AWAKE, 0)
    assert cache_of(first).live.objects == pytest.approx(AWAKE, rel=0.01)
    assert cache_of(asleep).allocs == AWAKE
    assert cache_of(asleep).live.objects == 0
    assert cache_of(woken).live.objects == 0, "their frees were missed"
    assert (cache_of(last).allocs, cache_of(last).frees) == (AWAKE + AGAIN, 0)
    assert cache_of(last).live.objects == pytest.approx(AGAIN, rel=0.01)
    assert site_of(last).allocs == AWAKE + AGAIN
    assert cache_of(last).frees_observable
    assert cache_of(last).unobserved_frees == 0
    assert (first.tracking.wakes, last.tracking.wakes) == (1, 2)
    assert last.tracking.reason == "again"
    assert [s.tracking.activity for s in (first, asleep, last)] == [
        Activity.AWAKE,
        Activity.ASLEEP,
        Activity.AWAKE,
    ]
    assert asleep.tracking.asleep > first.tracking.asleep
    assert asleep.tracking.counted == pytest.approx(woken.tracking.counted, abs=0.1)
    assert not any(count for reason, count in last.losses.items() if "recursion" not in reason)


def test_objects_of_before_a_sleep_that_are_freed_after_it_are_not_missed_frees() -> None:
    with messages() as queue, open_tracker(SETTINGS) as tracker:
        tracker.wake("test")
        for _ in range(AGAIN):
            queue.send(LENGTH)
        tracker.sleep()
        tracker.wake("again")
        for _ in range(AGAIN):
            queue.receive()
        last = tracker.snapshot()
    assert (cache_of(last).allocs, cache_of(last).frees) == (AGAIN, AGAIN)
    assert cache_of(last).frees_observable
    assert cache_of(last).live.objects == 0
