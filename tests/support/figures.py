# SPDX-License-Identifier: Apache-2.0
"""Figures of a daemon itself."""

from __future__ import annotations

from slabmon.runtime.budget import STEPS, Cost
from slabmon.runtime.figures import BudgetFigures, DaemonFigures, MemoryFigures, ProcessMemory

_MIB = 1 << 20


def daemon_figures(
    *,
    restarts: int = 0,
    cpu_seconds: float = 0.0,
    cost: Cost | None = None,
    all_steps: bool = False,
    configuration_failed: bool = False,
) -> DaemonFigures:
    """Return plausible figures. `cpu_seconds` is that of each process."""
    memory = ProcessMemory(resident=60 * _MIB, proportional=30 * _MIB)
    return DaemonFigures(
        snapshot_seconds=0.01,
        collector_cpu_seconds=cpu_seconds,
        web_cpu_seconds=cpu_seconds,
        memory=MemoryFigures(collector=memory, web=memory, bpf_bytes=48 * _MIB),
        budget=BudgetFigures(
            limit_cpus=0.02,
            cost=cost,
            steps_taken=tuple(step.name for step in STEPS) if all_steps else (),
        ),
        web_restarts=restarts,
        web_configuration_failed=configuration_failed,
    )
