# SPDX-License-Identifier: Apache-2.0
"""The daemon's figures of itself, as the collector sends them to the web process with each answer.

Metrics of these are defined in slabmon.export.metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from slabmon.runtime.budget import Cost


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Memory of one process, bytes; zeros once it is gone.

    `proportional` counts a page shared by n processes as an n-th of it (PSS); 0 where the kernel
    does not provide it.
    """

    resident: int = 0
    proportional: int = 0


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """Memory of the daemon: its two processes, and BPF maps and programs as the kernel charges."""

    collector: ProcessMemory = ProcessMemory()
    web: ProcessMemory = ProcessMemory()
    bpf_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class BudgetFigures:
    """The CPU budget: its limit in CPUs (0: none), the cost over the last period (None: no period
    has passed yet) and the names of the steps taken to stay within it (budget.STEPS)."""

    limit_cpus: float = 0.0
    cost: Cost | None = None
    steps_taken: tuple[str, ...] = ()


class CensusFailure(StrEnum):
    """Why a census could not be taken: it needs more CPU time or memory than the settings allow,
    hung, this host does not allow any, or anything else."""

    CPU = "cpu"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class CensusFigures:
    """How the daemon's censuses are going: `number` were taken, and `failures` were not. The last
    one failed with `error` (empty: it did not), and all took `cpu_seconds`.

    `running`: one is under way, of which the share `done` is done. `held_off`: a request has no
    effect now, for `not_before_seconds` or until the budget allows one again.
    """

    number: int = 0
    failures: Mapping[CensusFailure, int] = field(
        default_factory=lambda: dict.fromkeys(CensusFailure, 0)
    )
    cpu_seconds: float = 0.0
    error: str = ""
    running: bool = False
    done: float = 0.0
    held_off: bool = False
    not_before_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EscalationFigures:
    """How closer looks at suspects are going: how many were taken of each kind, exact tracking and
    census, how many `failures` there were, and the CPU time of exact tracking, its BPF programs
    included. `running`: a suspect is being tracked."""

    number: Mapping[str, int] = field(default_factory=lambda: {"exact": 0, "census": 0})
    failures: int = 0
    cpu_seconds: float = 0.0
    running: bool = False


@dataclass(frozen=True, kw_only=True)
class DaemonFigures:
    """Everything the collector knows about the daemon itself.

    `snapshot_seconds`: how long the last successful reading of the kernel's tables took.
    `web_restarts`: web processes started because one had died. `web_configuration_failed`: the web
    configuration on disk is invalid, and the one before stays in force.
    """

    snapshot_seconds: float = 0.0
    collector_cpu_seconds: float = 0.0
    web_cpu_seconds: float = 0.0
    memory: MemoryFigures = MemoryFigures()
    budget: BudgetFigures = BudgetFigures()
    web_restarts: int = 0
    web_configuration_failed: bool = False
    census: CensusFigures = CensusFigures()
    escalation: EscalationFigures = EscalationFigures()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(DaemonFigures)


def pack(figures: DaemonFigures) -> bytes:
    """Return the figures as JSON."""
    return _ENCODER.encode(figures)


def unpack(data: bytes) -> DaemonFigures:
    """Return the figures that pack() was given. Raises ValueError if it is anything else."""
    return _DECODER.decode(data)
