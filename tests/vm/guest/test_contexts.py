# SPDX-License-Identifier: Apache-2.0
"""Objects of tasks, softirqs and hard interrupts are told apart, all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.probe import facts
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import State
from tests.vm.guest import planted as module
from tests.vm.guest.observed import missed

SETTINGS = Settings(exact=Filter.parse(f"module={module.NAME}"))
# Scenario and call site -> context. The scenario "ipi" runs on its own CPU without an interrupt.
CONTEXTS = {
    "sizes": ("planted_kmalloc_64", "task"),
    "softirq": ("planted_softirq", "softirq"),
    "hardirq": ("planted_hardirq", "irq"),
}


@pytest.fixture(autouse=True)
def loaded() -> Iterator[None]:
    module.load()
    yield
    module.unload()


def check(tracker: Tracker) -> None:
    """Every live object of each scenario has its context, and the process that goes with it."""
    process = Path("/proc/self/comm").read_text().strip()
    before = missed(tracker.snapshot())
    for scenario in CONTEXTS:
        module.run(scenario)
    sites = module.expected().by_symbol()
    expected = Counter[tuple[str, str, str]]()
    for symbol, context in CONTEXTS.values():
        [site] = sites[symbol]
        assert site.allocs > site.frees
        owner = process if context == "task" else f"[{context}]"
        expected[symbol, context, owner] = site.allocs - site.frees
    snapshot = tracker.snapshot()
    found = Counter[tuple[str, str, str]]()
    symbols = {symbol for symbol, _ in CONTEXTS.values()}
    for group in group_live(snapshot, ("site", "context", "process")):
        symbol = group.labels[0].partition("+")[0]
        if symbol in symbols:
            found[symbol, group.labels[1], group.labels[2]] += group.live.objects
    print(f"contexts: {dict(found)}")
    assert not found - expected
    assert (expected - found).total() <= missed(snapshot) - before


def test_the_preemption_count_tells_what_allocates() -> None:
    with open_tracker(SETTINGS) as tracker:
        assert tracker.features["context"].state == State.ON
        check(tracker)


def test_without_it_the_stack_does(monkeypatch: pytest.MonkeyPatch) -> None:
    real = facts.probe()
    offsets = {n: o for n, o in real.offsets.items() if n != "OFF_TASK_PREEMPT_COUNT"}
    monkeypatch.setattr(facts, "probe", lambda: replace(real, per_cpu={}, offsets=offsets))
    with open_tracker(SETTINGS) as tracker:
        assert tracker.features["context"].state == State.DEGRADED
        check(tracker)
