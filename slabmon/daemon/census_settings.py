# SPDX-License-Identifier: Apache-2.0
"""The [census] table of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.base.errors import UsageError
from slabmon.base.parse import duration
from slabmon.kernel.census.settings import CensusLimits

_SHORTEST_SECONDS = 60


@dataclass(frozen=True)
class ScheduleSettings(CensusLimits):
    """`interval`: between censuses that nobody asked for, as slabmon.base.parse reads it; 0: none.
    The limits of CensusLimits apply to each census."""

    interval: str = "1h"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            seconds = self.interval_seconds
        except UsageError as error:
            raise UsageError(f"interval: {error}") from error
        if 0 < seconds < _SHORTEST_SECONDS:
            raise UsageError(f"interval: expected 0 or at least 1m, got {self.interval}")

    @property
    def interval_seconds(self) -> float:
        """The interval in seconds."""
        return duration(self.interval)
