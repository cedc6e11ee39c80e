# SPDX-License-Identifier: Apache-2.0
"""The share of the event loop that work gets, and how clients divide it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest

from slabmon.web.feeds import duty_cycle
from slabmon.web.feeds.duty_cycle import MAX_WAITING_PER_CLIENT, DutyCycle, FairLock


def test_work_comes_one_after_the_other_with_pauses() -> None:
    begun: list[float] = []

    def work() -> float:
        begun.append(time.monotonic())
        time.sleep(0.02)
        return begun[-1]

    async def three() -> list[float]:
        turns = DutyCycle()
        return await asyncio.gather(*(turns.take(work) for _ in range(3)))

    assert asyncio.run(three()) == begun
    assert all(after - before >= 0.08 for before, after in pairwise(begun))


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_cycle, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(duty_cycle, "_PAUSE", 1000)

    async def two() -> list[object]:
        turns = DutyCycle()
        done = (turns.take(lambda: time.sleep(0.01)) for _ in range(2))
        return list(await asyncio.gather(*done, return_exceptions=True))

    first, second = asyncio.run(two())
    assert first is None
    assert isinstance(second, TimeoutError)


async def served(lock: FairLock, clients: str) -> str:
    """Return the order in which waiting clients get the lock."""
    order: list[str] = []

    async def wait(client: str) -> None:
        async with lock.hold(client, 5):
            order.append(client)

    async with lock.hold("first", 5):
        tasks = [asyncio.create_task(wait(client)) for client in clients]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return "".join(order)


def test_clients_take_turns() -> None:
    assert asyncio.run(served(FairLock(), "aaaaabbbc")) == "abcababaa"


def test_a_client_with_too_much_waiting_is_refused_and_others_are_not() -> None:
    async def work() -> None:
        lock = FairLock()
        async with lock.hold("holder", 5):
            waiting = [
                asyncio.create_task(hold(lock, "greedy")) for _ in range(MAX_WAITING_PER_CLIENT)
            ]
            await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                await hold(lock, "greedy")
            other = asyncio.create_task(hold(lock, "other"))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, other)
        assert await served(lock, "ab") == "ab", "the lock is free again"

    asyncio.run(work())


def test_who_gives_up_leaves_no_trace() -> None:
    async def work() -> None:
        lock = FairLock()
        async with lock.hold("holder", 5):
            gone = [asyncio.create_task(hold(lock, "a")) for _ in range(3)]
            await asyncio.sleep(0)
            gone[1].cancel()
            with pytest.raises(TimeoutError):
                await hold(lock, "a", 0.01)
        # One is cancelled at the moment when its turn has come.
        await asyncio.sleep(0)
        gone[2].cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert await served(lock, "aab") == "aba"

    asyncio.run(work())


def hold(lock: FairLock, client: str, patience: float = 5) -> Coroutine[Any, Any, None]:
    async def held() -> None:
        async with lock.hold(client, patience):
            await asyncio.sleep(0)

    return held()
