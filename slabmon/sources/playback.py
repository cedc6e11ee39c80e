# SPDX-License-Identifier: Apache-2.0
"""The clock of a replay."""

from __future__ import annotations

import time
from collections.abc import Callable


class PlaybackClock:
    """Moves through the past at `speed` recorded seconds per second, starting at Unix time `start`.

    It stays within `span()`, the Unix times of the first and the last snapshot. Speed 0 pauses, a
    negative speed goes back.
    """

    def __init__(
        self,
        span: Callable[[], tuple[float, float]],
        start: float,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._span = span
        self._monotonic = monotonic
        self._speed = speed
        self.seek(start)

    @property
    def now(self) -> float:
        """The Unix time it has reached."""
        return self._within(self._from + (self._monotonic() - self._since) * self._speed)

    @property
    def speed(self) -> float:
        """Recorded seconds per second."""
        return self._speed

    def seek(self, moment: float) -> None:
        """Continue from this Unix time."""
        self._from, self._since = self._within(moment), self._monotonic()

    def play(self, speed: float) -> None:
        """Continue at this speed."""
        self.seek(self.now)
        self._speed = speed

    def _within(self, moment: float) -> float:
        first, last = self._span()
        return min(max(moment, first), last)
