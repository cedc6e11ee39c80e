# SPDX-License-Identifier: Apache-2.0
"""The time that a busy machine takes from a process."""

from __future__ import annotations

from pathlib import Path


def waiting(task: str) -> float:
    """Return for how many seconds a task has been ready to run without a CPU
    (Documentation/scheduler/sched-stats.rst)."""
    return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
