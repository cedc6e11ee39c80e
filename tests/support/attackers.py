# SPDX-License-Identifier: Apache-2.0
"""Many connections that ask a server as fast as it answers:
`python -m tests.support.attackers PORT CONNECTIONS READS CLIENTS < REQUESTS`, until it is killed.

Requests are a JSON array of pairs of a path and headers; {n} in them is another number each time.
Answers are not read if READS is 0. The connections come from CLIENTS addresses from 127.0.1.1 on,
so that the server can tell them from an honest client.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator


async def attack(port: int, requests: Iterator[bytes], reads: bool, address: str) -> None:
    """Ask again and again; connect again whenever the server hangs up."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(address, 0)
            )
            while True:
                writer.write(next(requests))
                if not reads:
                    await asyncio.sleep(3600)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
        except (OSError, EOFError, StopIteration):
            await asyncio.sleep(0.05)


def numbered(requests: list[tuple[str, dict[str, str]]]) -> Iterator[bytes]:
    """Return the requests as they are sent, over and over."""
    for number, (path, headers) in enumerate(itertools.cycle(requests)):
        lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers.items())]
        yield "\r\n".join([*lines, "", ""]).replace("{n}", str(number)).encode()


async def main(port: str, connections: str, reads: str, clients: str) -> None:
    """Attack until killed; print a line once it has begun."""
    requests = numbered(json.load(sys.stdin))
    addresses = [f"127.0.{1 + i // 250}.{1 + i % 250}" for i in range(int(clients))]
    tasks = [
        asyncio.create_task(
            attack(int(port), requests, reads == "1", addresses[i % len(addresses)])
        )
        for i in range(int(connections))
    ]
    print("attacking", flush=True)
    await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
