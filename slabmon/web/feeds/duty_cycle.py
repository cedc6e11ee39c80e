# SPDX-License-Identifier: Apache-2.0
"""Work that keeps the whole web process busy, held to a part of its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
# After each piece of work so many times its length belongs to others.
_PAUSE = 3


class Pace:
    """Turns, one after the other, with pauses between them."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    async def take(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Does this work when it is its turn; TimeoutError if nobody should wait so long (seconds;
        None: PATIENCE_SECONDS)."""
        longest = PATIENCE_SECONDS if patience is None else patience
        async with asyncio.timeout(longest) as limit, self._turn:
            await asyncio.sleep(self._free_at - time.monotonic())
            limit.reschedule(None)
            start = time.monotonic()
            try:
                return work()
            finally:
                end = time.monotonic()
                self._free_at = end + _PAUSE * (end - start)
