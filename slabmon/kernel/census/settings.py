# SPDX-License-Identifier: Apache-2.0
"""What a census may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slabmon.base.limits import Limits, check_limits
from slabmon.base.retained import RetainedBy

# Where the limits are set: of the command, and of a daemon.
CPU_OPTION = "--cpu-seconds, or census.cpu_seconds of a daemon"
MEMORY_OPTION = "--memory-mib, or census.memory_mib of a daemon"


@dataclass(frozen=True)
class CensusLimits:
    """`cpu_seconds` of CPU time, `memory_mib` of memory, both of the process that takes it;
    `orphans`: whether it looks for them."""

    LIMITS: ClassVar[Limits] = {"cpu_seconds": (0.1, 3600), "memory_mib": (100, 1 << 16)}

    cpu_seconds: float = 20.0
    memory_mib: int = 300
    orphans: bool = False

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class CensusSettings(CensusLimits):
    """`retained`: of what it finds the objects that nothing else leads to, with orphans those of
    devices unless this says otherwise."""

    retained: RetainedBy | None = None
