# SPDX-License-Identifier: Apache-2.0
"""Doing less for a while, and as much as before again, while counting goes on."""

from __future__ import annotations

from collections.abc import Set

from slabmon.kernel.tracker import Tracker
from slabmon.model import FeatureState, State

PAGE_EVENTS = frozenset(("mm_page_alloc", "mm_page_free"))
_SHED = FeatureState(State.DEGRADED, "not done for now: slabmon was over its budget of CPU time")
# sample_interval is a u32 whose product with 2^31 has to fit 64 bits (bpf/sampling.h).
_WIDEST = 1 << 30


def sample_every(tracker: Tracker, bytes_: int) -> None:
    """Sets the mean number of allocated bytes between samples. Records keep the interval they
    were taken with, so estimates stay unbiased."""
    tracker.reader.control["sample_interval"] = min(bytes_, _WIDEST)


def shed(tracker: Tracker, what: Set[str]) -> None:
    """Does without exactly these: pages, slabinfo. Page counters stand still meanwhile."""
    before, tracker.shed = tracker.shed, frozenset(what)
    for name in before ^ tracker.shed:
        own = tracker.plan.features[name]
        tracker.features[name] = _SHED if name in what and own.state == State.ON else own
    if "pages" in before ^ tracker.shed and tracker.plan.settings.pages:
        if "pages" in what:
            tracker.programs.detach(PAGE_EVENTS)
        else:
            missing = PAGE_EVENTS - tracker.programs.attached_events
            failed = tracker.programs.attach(tracker.plan, missing, required=False)
            for reason in failed.values():
                tracker.features["pages"] = FeatureState(State.DEGRADED, reason)
        if tracker.continuity is not None:
            tracker.continuity.update(tracker.programs)
