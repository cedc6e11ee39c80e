# SPDX-License-Identifier: Apache-2.0
"""The [history] table of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, check_limits
from slabmon.base.parse import duration, size


@dataclass(frozen=True)
class HistorySettings:
    """`path`: the recording that the daemon writes; empty: none. `interval_seconds`: between
    snapshots. `keep` and `max_size`: the age and the size from which old snapshots are deleted, as
    slabmon.base.parse reads them."""

    LIMITS: ClassVar[Limits] = {"interval_seconds": (1, 86400)}

    path: str = ""
    interval_seconds: float = 10.0
    keep: str = "7d"
    max_size: str = "500M"

    def __post_init__(self) -> None:
        check_limits(self)
        if self.path and (not self.path.startswith("/") or "\0" in self.path):
            raise UsageError(f"path: expected an absolute path or nothing, got {self.path!r}")
        for name, parse in (("keep", duration), ("max_size", size)):
            try:
                parse(getattr(self, name))
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from error
        if size(self.max_size) < 1 << 20:
            raise UsageError(f"max_size: expected at least 1M, got {self.max_size}")
