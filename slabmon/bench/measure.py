# SPDX-License-Identifier: Apache-2.0
"""Paired measurement: short blocks of one workload on one CPU, each mode once a round."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import quantiles

from slabmon.bench.modes import NOTHING, Mode, Slabmon
from slabmon.bench.workloads import Workload

BLOCK_SECONDS = 0.004
WARM_UP = 0.1  # of a block, not counted: what a mode touches first is not in any cache


@dataclass(frozen=True)
class Spread:
    """Quartiles, in the unit of what they are of."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least two values."""
        return cls(*quantiles(values, n=4, method="inclusive"))

    def rounded(self) -> dict[str, float]:
        """For the document."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


@contextmanager
def one_cpu(cpu: int | None) -> Iterator[int]:
    """Keeps this thread on one CPU, by default the last it may use; no garbage is collected."""
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    gc.collect()
    gc.disable()
    try:
        yield chosen
    finally:
        gc.enable()
        os.sched_setaffinity(0, allowed)


def block(workload: Workload, iterations: int) -> float:
    """CPU nanoseconds of this thread for one iteration: what else runs on the CPU does not count,
    interrupts do."""
    workload.run(max(1, int(iterations * WARM_UP)))
    start = time.thread_time_ns()
    workload.run(iterations)
    return (time.thread_time_ns() - start) / iterations


def iterations_of(workload: Workload) -> int:
    """As many as take BLOCK_SECONDS."""
    workload.run(100)
    return max(10, int(BLOCK_SECONDS * 1e9 / block(workload, 200)))


def measure(
    workload: Workload, modes: Sequence[Mode], rounds: int, found: dict[str, list[float]]
) -> Iterator[None]:
    """Puts nanoseconds per iteration of each mode into `found`, a round at a step. The order
    changes from round to round, so that no mode always follows the same one."""
    iterations = iterations_of(workload)
    order = list(modes)
    for _ in range(rounds):
        random.shuffle(order)
        for mode in order:
            mode.on()
            try:
                found.setdefault(mode.name, []).append(block(workload, iterations))
            finally:
                mode.off()
        yield


def added(
    times: dict[str, list[float]], name: str, pairs: float = 1.0, base: str = NOTHING
) -> Spread:
    """What a mode adds to the base, by rounds, for each of `pairs` in an iteration."""
    return Spread.of([(a - b) / pairs for a, b in zip(times[name], times[base], strict=True)])


@dataclass(frozen=True)
class Events:
    """Of one iteration of a workload: allocations by kmalloc and from other caches."""

    kmalloc: float
    kmem_cache: float

    @property
    def pairs(self) -> float:
        return self.kmalloc + self.kmem_cache


def count_events(workload: Workload, mode: Slabmon, cpu: int) -> Events:
    """Counted by slabmon itself on this CPU. What else allocates there can only add, so the
    least of several blocks is nearest."""
    iterations, tries = 200, 15
    nesting = mode.tracker.plan.defines["NR_NESTING"]
    lanes = [
        lane[cpu * nesting : (cpu + 1) * nesting]["slots"]["count"]
        for lane in mode.tracker.reader.alloc_lanes[:2]
    ]
    seen: list[list[float]] = [[], []]
    mode.on()
    try:
        for _ in range(tries):
            before = [int(lane.sum()) for lane in lanes]
            workload.run(iterations)
            for i, lane in enumerate(lanes):
                seen[i].append((int(lane.sum()) - before[i]) / iterations)
    finally:
        mode.off()
    return Events(*(round(min(values), 1) for values in seen))
