# SPDX-License-Identifier: Apache-2.0
"""Limits blocking work to a fixed share of the event loop's time, divided fairly among clients."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
# How many pieces of work of one client may wait.
MAX_WAITING_PER_CLIENT = 64
# The pause after a piece of work, as a multiple of its duration.
_PAUSE = 3


class FairLock:
    """A lock whose waiting clients take turns, however many requests each of them has."""

    def __init__(self) -> None:
        self._held = False
        # The client whose turn is next comes first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def hold(self, client: str, patience: float) -> AsyncIterator[None]:
        """Hold the lock for `client`. Raises TimeoutError after `patience` seconds, or at once if
        MAX_WAITING_PER_CLIENT others of this client wait."""
        await self._acquire(client, patience)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, client: str, patience: float) -> None:
        if not self._held:
            self._held = True
            return
        queue = self._waiting.setdefault(client, deque())
        if len(queue) >= MAX_WAITING_PER_CLIENT:
            raise TimeoutError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except BaseException:
            if turn in queue:
                queue.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._release()  # the turn came at the same moment
            raise

    def _release(self) -> None:
        """Give the lock to the next client that still waits."""
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    if queue:
                        self._waiting[client] = queue
                    turn.set_result(None)
                    return
        self._held = False


class DutyCycle:
    """Runs work one piece at a time, with pauses between the pieces; clients take turns."""

    def __init__(self) -> None:
        self._lock = FairLock()
        self._free_at = 0.0

    async def take(
        self,
        work: Callable[[], T],
        client: str = "",
        patience: float | None = None,
        finish: Callable[[T], object] | None = None,
    ) -> T:
        """Run `work` when its turn comes and return its result; `finish` is called with it in the
        same turn, but after a pause. Raises TimeoutError after `patience` seconds in the queue
        (None: PATIENCE_SECONDS), or if too much of this client's work waits."""
        deadline = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
        async with self._lock.hold(client, deadline - time.monotonic()):
            if self._free_at > deadline:
                raise TimeoutError
            result = await self._piece(work)
            if finish is not None:
                await self._piece(partial(finish, result))
            return result

    async def _piece(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self._free_at - time.monotonic())
        start = time.monotonic()
        try:
            return work()
        finally:
            end = time.monotonic()
            self._free_at = end + _PAUSE * (end - start)
