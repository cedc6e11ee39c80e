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
WARM_UP = 0.1  # of a block, not counted: a mode's first accesses miss every CPU cache


@dataclass(frozen=True)
class Spread:
    """Quartiles, in the unit of the values."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the quartiles of at least two values."""
        return cls(*quantiles(values, n=4, method="inclusive"))

    def rounded(self) -> dict[str, float]:
        """Return the quartiles for the document, to a tenth."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


@contextmanager
def one_cpu(cpu: int | None) -> Iterator[int]:
    """Keep this thread on one CPU, by default the last it may use, and collect no garbage."""
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
    """Return the thread's CPU nanoseconds per iteration. Other tasks on the CPU do not count,
    interrupts do."""
    workload.run(max(1, int(iterations * WARM_UP)))
    start = time.thread_time_ns()
    workload.run(iterations)
    return (time.thread_time_ns() - start) / iterations


def iterations_of(workload: Workload) -> int:
    """Return the number of iterations that takes BLOCK_SECONDS."""
    workload.run(100)
    return max(10, int(BLOCK_SECONDS * 1e9 / block(workload, 200)))


def measure(
    workload: Workload, modes: Sequence[Mode], rounds: int, times: dict[str, list[float]]
) -> Iterator[None]:
    """Append nanoseconds per iteration to `times`, by mode, one round per step.

    The order changes from round to round, so that no mode always follows the same one.
    """
    iterations = iterations_of(workload)
    order = list(modes)
    for _ in range(rounds):
        random.shuffle(order)
        for mode in order:
            mode.on()
            try:
                times.setdefault(mode.name, []).append(block(workload, iterations))
            finally:
                mode.off()
        yield


def added(
    times: dict[str, list[float]], name: str, pairs: float = 1.0, base: str = NOTHING
) -> Spread:
    """Return the nanoseconds that a mode adds to `base`, per round, for each of the `pairs` of an
    iteration."""
    return Spread.of([(a - b) / pairs for a, b in zip(times[name], times[base], strict=True)])


@dataclass(frozen=True)
class Events:
    """Allocations of one iteration of a workload, by kmalloc and from other caches."""

    kmalloc: float
    kmem_cache: float

    @property
    def pairs(self) -> float:
        """Allocations of both kinds, each with its free."""
        return self.kmalloc + self.kmem_cache


def count_events(workload: Workload, mode: Slabmon, cpu: int) -> Events:
    """Return the events of an iteration, as slabmon itself counts them on this CPU.

    Other allocations there can only add to them, so the least of several blocks is nearest.
    """
    iterations, tries = 200, 15
    nesting = mode.tracker.plan.defines["NR_NESTING"]
    lanes = [
        lane[cpu * nesting : (cpu + 1) * nesting]["slots"]["count"]
        for lane in mode.tracker.reader.alloc_lanes[:2]
    ]
    counts: list[list[float]] = [[], []]
    mode.on()
    try:
        for _ in range(tries):
            before = [int(lane.sum()) for lane in lanes]
            workload.run(iterations)
            for i, lane in enumerate(lanes):
                counts[i].append((int(lane.sum()) - before[i]) / iterations)
    finally:
        mode.off()
    return Events(*(round(min(values), 1) for values in counts))
