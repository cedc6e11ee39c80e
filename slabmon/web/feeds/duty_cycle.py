# SPDX-License-Identifier: Apache-2.0
"""Limits blocking work to a fixed share of the event loop's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
# The pause after a piece of work, as a multiple of its duration.
_PAUSE = 3


class DutyCycle:
    """Runs work one piece at a time, with pauses between the pieces."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    async def take(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Run `work` when its turn comes and return its result. Raises TimeoutError after
        `patience` seconds in the queue (None: PATIENCE_SECONDS)."""
        seconds = PATIENCE_SECONDS if patience is None else patience
        async with asyncio.timeout(seconds) as limit, self._turn:
            await asyncio.sleep(self._free_at - time.monotonic())
            limit.reschedule(None)
            start = time.monotonic()
            try:
                return work()
            finally:
                end = time.monotonic()
                self._free_at = end + _PAUSE * (end - start)
