# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: Tornado's, with limits on every resource that clients can use up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import tornado.platform.asyncio
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import Application

import slabmon.analysis.drivers
import slabmon.analysis.families
import slabmon.views.overview.rows
from slabmon.web.serving.connections import Connections
from slabmon.web.settings import WebSettings

# Other modules import these on first use, which is too late: after privileges are dropped the files
# may not be readable, as in root's home directory.
IMPORTED_EARLY = [
    tornado.platform.asyncio,
    slabmon.analysis.drivers,
    slabmon.analysis.families,
    slabmon.views.overview.rows,
]
with contextlib.suppress(ImportError):  # recommended only
    import re2

    IMPORTED_EARLY.append(re2)

DRAIN_SECONDS = 3.0  # for requests under way when the process ends
_HEADER_BYTES, _BODY_BYTES, _BUFFER_BYTES = 16 << 10, 4 << 10, 64 << 10


class _Listener(HTTPServer):
    """An HTTP server whose connections are admitted and counted by Connections."""

    def initialize(self, *arguments: Any, connections: Connections, **options: Any) -> None:  # type: ignore[override]
        """Set up, as Tornado calls it."""
        super().initialize(*arguments, **options)
        self._admitted = connections

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a new connection if it is admitted."""
        if self._admitted.admit(stream, address):
            super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection that has ended."""
        super().on_close(server_conn)
        stream: IOStream = server_conn.stream
        self._admitted.forget(stream)
        # Its frames refer to the stream and all data read: cyclic garbage, which the rare
        # collections of raise_gc_threshold() would let pile up for 3,000 connections.
        if stream.error is not None:
            stream.error.with_traceback(None)


class Server:
    """All listeners of one web process. TLS is for TCP only; a unix socket has its file mode."""

    def __init__(
        self,
        application: Application,
        connections: Connections,
        settings: WebSettings,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connections = connections

        def listener(context: ssl.SSLContext | None) -> _Listener:
            return _Listener(
                application,
                connections=connections,
                ssl_options=context,
                idle_connection_timeout=settings.request_seconds,
                body_timeout=settings.request_seconds,
                max_header_size=_HEADER_BYTES,
                max_body_size=_BODY_BYTES,
                max_buffer_size=_BUFFER_BYTES,
            )

        self._remote, self._local = listener(tls), listener(None)
        self._sweeper: asyncio.Task[None] | None = None

    def listen_on(self, listeners: Iterable[socket.socket]) -> None:
        """Start accepting connections."""
        for sock in listeners:
            sock.setblocking(False)
            server = self._local if sock.family == socket.AF_UNIX else self._remote
            server.add_sockets([sock])
        self._sweeper = asyncio.create_task(self._connections.sweep())

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Stop accepting connections and close idle ones; close the others once they are answered,
        at the latest after `seconds`."""
        self._remote.stop()
        self._local.stop()
        if self._sweeper:
            self._sweeper.cancel()
        await self._connections.end(seconds)
