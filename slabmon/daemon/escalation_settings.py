# SPDX-License-Identifier: Apache-2.0
"""The [escalation] table of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, check_limits
from slabmon.base.parse import duration

_SHORTEST_SECONDS = 60


@dataclass(frozen=True)
class EscalationSettings:
    """`enabled`: whether a suspect that lacks stacks or certainty is examined; `seconds`: how long
    it is tracked exactly; `pause`: from one examination to the next at least, as
    slabmon.base.parse reads it."""

    LIMITS: ClassVar[Limits] = {"seconds": (10, 600)}

    enabled: bool = True
    seconds: float = 120.0
    pause: str = "10m"

    def __post_init__(self) -> None:
        check_limits(self)
        try:
            pause = self.pause_seconds
        except UsageError as error:
            raise UsageError(f"pause: {error}") from error
        if pause < _SHORTEST_SECONDS:
            raise UsageError(f"pause: expected at least 1m, got {self.pause}")

    @property
    def pause_seconds(self) -> float:
        """The pause in seconds."""
        return duration(self.pause)
