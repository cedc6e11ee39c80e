# SPDX-License-Identifier: Apache-2.0
"""The end of a web process, as at each change of a certificate: no client loses its answer."""

from __future__ import annotations

import asyncio
import time

import pytest

from slabmon.web.serving import connections
from tests.support.serving import Client, Running, run, serving

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 60.0


async def kept_waiting(running: Running) -> Client:
    """A client whose request has come and is not answered until the source is released."""
    running.source.release.clear()
    client, found = await running.connect(), running.context.connections
    await client.send(REQUEST)
    while not len(found) or any(found._waiting.values()):
        await asyncio.sleep(0.01)
    return client


def test_a_request_under_way_is_answered_and_then_there_is_no_connection() -> None:
    async def check() -> None:
        async with serving() as running:
            client = await kept_waiting(running)
            end = asyncio.create_task(running.server.drain(LONG))
            await asyncio.sleep(0.2)
            assert not end.done()
            running.source.release.set()
            assert (await client.reply()).status == 200
            assert await client.closed() == b""
            await end
            assert len(running.context.connections) == 0

    run(check)


def test_who_has_just_connected_may_still_ask() -> None:
    async def check() -> None:
        async with serving() as running:
            client = await running.connect()
            while not len(running.context.connections):
                await asyncio.sleep(0.01)
            end = asyncio.create_task(running.server.drain(LONG))
            await asyncio.sleep(0.1)
            assert (await client.ask()).status == 200
            assert await client.closed() == b""
            await end
            with pytest.raises(ConnectionRefusedError):
                await running.connect()

    run(check)


def test_nobody_waits_for_clients_that_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "YOUNG_SECONDS", 0.2)

    async def check() -> None:
        async with serving() as running:
            silent, idle = await running.connect(), await running.connect()
            assert (await idle.ask()).status == 200
            begin = time.monotonic()
            await running.server.drain(LONG)
            assert time.monotonic() - begin < LONG / 2
            assert await silent.closed() == await idle.closed() == b""

    run(check)


def test_after_its_time_it_ends_all_the_same() -> None:
    async def check() -> None:
        async with serving() as running:
            client = await kept_waiting(running)
            await running.server.drain(0.1)
            assert await client.closed() == b""

    run(check)
