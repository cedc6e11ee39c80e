# SPDX-License-Identifier: Apache-2.0
"""Clients that misbehave: `python -m tests.live.attack PORT SECONDS [CA]` against the loopback;
over TLS with the certificate of an authority."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable

from tests.support.serving import Client
from tests.unit.web.serving.test_auth import basic

_RIGHT = basic("alice", "secret")


async def slow_loris(client: Client) -> None:
    await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    while True:
        await client.send(b"X: y\r\n")
        await asyncio.sleep(0.5)


async def scrape(client: Client) -> None:
    while True:
        await client.ask("/metrics", Accept_Encoding="gzip", Authorization=_RIGHT)
        await asyncio.sleep(0.1)


async def malformed(client: Client) -> None:
    await client.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 30_000)
    await client.send(b"\r\n\r\n\0\0\0")
    await client.closed()


async def oversized(client: Client) -> None:
    await client.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n" + b"a" * 50_000
    )
    await client.closed()


async def wrong_tls(client: Client) -> None:
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
    await client.closed()


async def wrong_password(client: Client) -> None:
    for number in range(100):
        await client.ask(Authorization=basic("alice", str(number)))


async def takes_nothing(client: Client) -> None:
    for _ in range(20):
        request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {_RIGHT}\r\n\r\n"
        await client.send(request.encode())
    await asyncio.sleep(5)


async def again(
    port: int, work: Callable[[Client], Awaitable[None]], tls: ssl.SSLContext | None
) -> None:
    """One client after another."""
    while True:
        try:
            client = await Client.to(("127.0.0.1", port), None if work is wrong_tls else tls)
            try:
                await work(client)
            finally:
                client.close()
        except (OSError, EOFError, TimeoutError, ValueError):
            await asyncio.sleep(1)


async def attack(port: int, seconds: float, tls: ssl.SSLContext | None) -> None:
    """300 slow-loris connections, 50 scrapers, ten of everything else."""
    crowd = [slow_loris] * 300 + [scrape] * 50
    crowd += 10 * [malformed, oversized, wrong_tls, wrong_password, takes_nothing]
    tasks = [asyncio.create_task(again(port, work, tls)) for work in crowd]
    await asyncio.sleep(2)
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    context = ssl.create_default_context(cafile=sys.argv[3]) if sys.argv[3:] else None
    asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2]), context))
