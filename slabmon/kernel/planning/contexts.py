# SPDX-License-Identifier: Apache-2.0
"""How the programs tell whether a task or an interrupt allocates, by host."""

from __future__ import annotations

from slabmon.kernel.planning.part import Part
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS, Facts
from slabmon.model import FeatureState, State

_NOT_FOUND = (
    "neither BTF nor symbols say where the preemption count is: interrupts are told by the "
    "functions on the stack, and not at all where no stack was kept"
)
# HARDIRQ_MASK and NMI_MASK (include/linux/preempt.h), until interrupts are counted as disabled in
# the bits between softirqs and hard interrupts (7.3), and since.
_MASKS, _MASKS_ABOVE_DISABLED = (0x000F0000, 0x00F00000), (0x0F000000, 0x10000000)


def plan_contexts(facts: Facts) -> Part:
    """Plan to read the preemption count, which says what a CPU is doing."""
    place = _place(facts)
    feature = FeatureState(State.ON)
    if not place:
        hidden = "" if facts.kallsyms else f" ({HIDDEN_SYMBOLS})"
        feature = FeatureState(State.DEGRADED, _NOT_FOUND + hidden)
    counts_disabled = "local_interrupt_disable_state" in facts.per_cpu
    hardirq, nmi = _MASKS_ABOVE_DISABLED if counts_disabled else _MASKS
    return Part(
        features={"context": feature},
        defines={
            "HAVE_CONTEXT": int(bool(place)),
            "OFF_TASK_PREEMPT_COUNT": 0,
            "OFF_TASK_CFS_RQ": 0,
            "OFF_CFS_RQ_RQ": 0,
            "OFF_PER_CPU_RUNQUEUE": 0,
            "OFF_PER_CPU_PREEMPT_COUNT": 0,
            "OFF_TASK_SOFTIRQ_COUNT": facts.offsets.get("OFF_TASK_SOFTIRQ_COUNT", 0),
            "PREEMPT_HARDIRQ_MASK": hardirq,
            "PREEMPT_NMI_MASK": nmi,
            **place,
        },
    )


def _place(facts: Facts) -> dict[str, int]:
    """Return the macros that lead from the current task to the preemption count, or {}."""
    offsets, per_cpu = facts.offsets, facts.per_cpu
    if facts.machine == "aarch64":
        name = "OFF_TASK_PREEMPT_COUNT"
        return {name: offsets[name]} if name in offsets else {}
    count = per_cpu.get("__preempt_count")
    if "pcpu_hot" in per_cpu and "OFF_PCPU_HOT_PREEMPT_COUNT" in offsets:
        count = per_cpu["pcpu_hot"] + offsets["OFF_PCPU_HOT_PREEMPT_COUNT"]
    path = ("OFF_TASK_CFS_RQ", "OFF_CFS_RQ_RQ")
    if count is None or "runqueues" not in per_cpu or not offsets.keys() >= set(path):
        return {}
    return {
        **{name: offsets[name] for name in path},
        "OFF_PER_CPU_RUNQUEUE": per_cpu["runqueues"],
        "OFF_PER_CPU_PREEMPT_COUNT": count,
    }
