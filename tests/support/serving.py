# SPDX-License-Identifier: Apache-2.0
"""A web server as the web process runs it, on the loopback, and a client that can misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from slabmon.base.clock import boottime
from slabmon.runtime.figures import DaemonFigures
from slabmon.web.app import make_app
from slabmon.web.feeds.readings import CensusNow, Now, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.serving.server import Server
from slabmon.web.serving.tls import make_context
from slabmon.web.settings import WebSettings
from tests.support.builders import snapshot

PATIENCE = 100.0  # a census of a busy machine is slow: it yields to everybody
T = TypeVar("T")


class FakeSource:
    """Gives one snapshot, once `release` is set; can fail as the channel to the collector does."""

    timeouts = failures = 0

    def __init__(self) -> None:
        self.now_is = snapshot()
        self.taken = self.wanted = 0
        self.problem = ""
        self.census_requests = 0
        self.doubts: list[tuple[str, str]] = []
        self.patient = True  # takes each doubt, however soon it comes
        self.release = asyncio.Event()
        self.release.set()
        self.last: Reading | None = None

    def want_tracking(self) -> None:
        self.wanted += 1

    def doubt(self, kind: str, name: str) -> bool:
        self.doubts.append((kind, name))
        return self.patient

    async def now(self, detailed: bool = False) -> Now:
        await self.release.wait()
        self.taken += 1
        if not self.problem:
            self.last = Reading(self.taken, boottime(), 0.01, detailed, self.now_is)
        return Now(self.last, DaemonFigures(), self.problem)

    async def census(self, max_age: float) -> CensusNow:
        self.census_requests += 1
        return CensusNow()


@dataclass
class Running:
    """A server and where it listens."""

    context: Context
    source: FakeSource
    server: Server
    port: int
    path: str

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        return await Client.to(("127.0.0.1", self.port), tls)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, address: tuple[str, int] | str, tls: ssl.SSLContext | None = None) -> Client:
        async with asyncio.timeout(PATIENCE):
            if isinstance(address, str):
                return cls(*await asyncio.open_unix_connection(address))
            name = "localhost" if tls else None
            return cls(*await asyncio.open_connection(*address, ssl=tls, server_hostname=name))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def ask(self, path: str = "/healthz", method: str = "GET", **headers: str) -> Reply:
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())
        return await self.reply(method != "HEAD")

    async def reply(self, body: bool = True) -> Reply:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            length = int(headers.get("content-length", 0)) if body else 0
            return Reply(int(head[0].split()[1]), headers, await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """What comes until the server closes."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def serving(
    settings: WebSettings | None = None, config: WebConfig | None = None, path: str = ""
) -> AsyncIterator[Running]:
    """A server on a free port of the loopback, and on a unix socket if there is a path."""
    settings, config = settings or WebSettings(), config or WebConfig()
    context = Context(settings, Access(config), page_files())
    source = FakeSource()
    context.source = context.censuses = source
    tls = make_context(config.tls) if config.tls else None
    server = Server(make_app(context), context.connections, settings, tls)
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024)]
    if path:
        local = socket.socket(socket.AF_UNIX)
        local.bind(path)
        local.listen()
        listeners.append(local)
    port = listeners[0].getsockname()[1]
    server.listen_on(listeners)
    try:
        yield Running(context, source, server, port, path)
    finally:
        await server.drain(0)


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a test that waits."""
    return asyncio.run(test())
