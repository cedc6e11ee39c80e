# SPDX-License-Identifier: Apache-2.0
"""How memory that no counter of the kernel names has changed over the last hour."""

from __future__ import annotations

from collections import deque

from slabmon.memory.ledger import Growth, account
from slabmon.memory.reading import MemoryReading

_STEP_SECONDS, _STEPS = 60.0, 60


class UncountedHistory:
    """One value a minute, for an hour."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, int]] = deque(maxlen=_STEPS + 1)

    def add(self, reading: MemoryReading) -> None:
        """Keep what no counter names at this reading, unless the last one is less than a minute
        old. Clocks may be set back: what is of later times goes."""
        while self._values and self._values[-1][0] > reading.taken:
            self._values.pop()
        if not self._values or reading.taken - self._values[-1][0] >= _STEP_SECONDS:
            self._values.append((reading.taken, account(reading).uncounted_bytes))

    def growth(self, reading: MemoryReading) -> Growth | None:
        """Return the growth from the oldest value until this reading, or None if it is less than a
        minute."""
        if not self._values or reading.taken - self._values[0][0] < _STEP_SECONDS:
            return None
        taken, size = self._values[0]
        return Growth(bytes=account(reading).uncounted_bytes - size, seconds=reading.taken - taken)
