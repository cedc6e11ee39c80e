# SPDX-License-Identifier: Apache-2.0
"""Where the preemption count is, and what its bits mean, on each kernel."""

from __future__ import annotations

import pytest

from slabmon.kernel.planning.contexts import plan_contexts
from slabmon.kernel.probe.facts import Facts
from slabmon.model import State
from tests.support.hosts import facts, without

OFFSETS = facts().offsets


@pytest.mark.parametrize(
    ("kernel", "place", "masks"),
    [
        ("6.1", 64, (0xF0000, 0xF00000)),
        ("6.12", 64 + OFFSETS["OFF_PCPU_HOT_PREEMPT_COUNT"], (0xF0000, 0xF00000)),
        ("6.18", 64, (0xF0000, 0xF00000)),
        ("7.3", 64, (0xF000000, 0x10000000)),
    ],
)
def test_each_kernel_keeps_it_in_its_place(kernel: str, place: int, masks: tuple[int, int]) -> None:
    part = plan_contexts(facts(kernel))
    defines = part.defines
    assert part.features["context"].state == State.ON
    assert defines["HAVE_CONTEXT"] == 1
    assert defines["OFF_TASK_PREEMPT_COUNT"] == 0
    assert defines["OFF_PER_CPU_PREEMPT_COUNT"] == place
    assert defines["OFF_PER_CPU_RUNQUEUE"] == 4096
    assert (defines["PREEMPT_HARDIRQ_MASK"], defines["PREEMPT_NMI_MASK"]) == masks


def test_on_arm64_it_is_the_tasks() -> None:
    part = plan_contexts(facts(machine="aarch64", per_cpu={}))
    assert part.features["context"].state == State.ON
    assert part.defines["OFF_TASK_PREEMPT_COUNT"] == OFFSETS["OFF_TASK_PREEMPT_COUNT"]


@pytest.mark.parametrize(
    "host",
    [
        facts(per_cpu={}),
        facts(per_cpu={"__preempt_count": 64}),
        facts(per_cpu={"runqueues": 4096}),
        facts(offsets=without(OFFSETS, "OFF_CFS_RQ_RQ")),
        facts(machine="aarch64", offsets=without(OFFSETS, "OFF_TASK_PREEMPT_COUNT")),
    ],
)
def test_without_it_stacks_have_to_tell(host: Facts) -> None:
    part = plan_contexts(host)
    assert part.features["context"].state == State.DEGRADED
    assert part.defines["HAVE_CONTEXT"] == 0
