# SPDX-License-Identifier: Apache-2.0
"""Limits on connections: in total, per client, in unread bytes, and in time."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from tornado.iostream import IOStream

from slabmon.web.settings import WebSettings

LOCAL = "unix"
SWEEP_SECONDS = 1.0
# How long a new connection may take to send its request when the process is ending.
YOUNG_SECONDS, END_POLL_SECONDS = 1.0, 0.02
# Bytes of answers waiting for their clients, all connections together.
MAX_UNSENT = 64 << 20


def client_of(address: Any) -> str:
    """Return the client that a connection is counted for: an IPv4 address, an IPv6 /64, or LOCAL
    for all clients of the unix socket."""
    if not isinstance(address, tuple):
        return LOCAL
    host = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped:
            return str(host.ipv4_mapped)
        return str(ipaddress.ip_network((int(host) >> 64 << 64, 64)))
    return str(host)


@dataclass(eq=False)
class Connection:
    """A connection. `writing_since` is when its answer was handed over, None once it is taken;
    times are monotonic."""

    stream: IOStream
    client: str
    since: float
    answered: bool = False
    writing_since: float | None = None

    @property
    def unsent(self) -> int:
        """Bytes of the answer that the kernel has not taken yet."""
        return self.stream._total_write_index - self.stream._total_write_done_index

    def burden(self, now: float) -> float:
        """How much and for how long the client lets an answer wait, in bytes times seconds."""
        return self.unsent * (now - self.writing_since) if self.writing_since else 0.0


class Connections:
    """All connections of all listeners.

    At a limit the connection goes that has been waiting longest for its client, not the newcomer:
    clients that open connections and send nothing only evict each other, and a client that sends
    its request at once is answered. If the limit is that of all clients together, it is a
    connection of the client with most.

    Likewise for answers that clients do not take: beyond MAX_UNSENT bytes the answers go that have
    been waiting most and longest. No answer is refused for the sake of others.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._all: dict[IOStream, Connection] = {}
        self._by_client: Counter[str] = Counter()
        # Streams without a request under way, by client; the one that waited longest comes first.
        self._waiting: defaultdict[str, dict[IOStream, None]] = defaultdict(dict)
        self.refused: Counter[str] = Counter({"evicted": 0, "refused": 0, "slow": 0})

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, stream: IOStream, address: Any) -> bool:
        """Admit a new connection, or close it. Returns whether it was admitted."""
        client = client_of(address)
        room = True
        if self._by_client[client] >= self._settings.max_connections_per_client:
            room = self._evict(client)
        elif len(self._all) >= self._settings.max_connections:
            room = self._evict(self._by_client.most_common(1)[0][0])
        if not room:
            self.refused["refused"] += 1
            stream.close()
            return False
        self._all[stream] = Connection(stream, client, time.monotonic())
        self._by_client[client] += 1
        self._waiting[client][stream] = None
        return True

    def _evict(self, client: str) -> bool:
        stream = next(iter(self._waiting[client]), None)
        if stream is None:
            return False
        self.refused["evicted"] += 1
        self._close(stream)
        return True

    def _close(self, stream: IOStream) -> None:
        self.forget(stream)
        stream.close()

    def forget(self, stream: IOStream) -> None:
        """Remove a connection that has ended."""
        connection = self._all.pop(stream, None)
        if connection is None:
            return
        client = connection.client
        self._waiting[client].pop(stream, None)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client], self._waiting[client]

    def request(self, stream: IOStream) -> str:
        """Protect a connection from eviction until its request, which has arrived, is answered.
        Returns its client, "" if the connection has ended."""
        connection = self._all.get(stream)
        if connection is None:
            return ""
        self._waiting[connection.client].pop(stream, None)
        return connection.client

    def answered(self, stream: IOStream) -> None:
        """Note that an answer was handed over: from now on the server waits for the client."""
        connection = self._all.get(stream)
        if connection:
            connection.answered = True
            self._waiting[connection.client][stream] = None

    def make_room(self, stream: IOStream, size: int) -> None:
        """Drop the answers that have been waiting most and longest for their clients until another
        of `size` bytes, to be sent on `stream` now, fits in MAX_UNSENT."""
        now = time.monotonic()
        writing = [connection for connection in self._all.values() if connection.unsent]
        excess = sum(connection.unsent for connection in writing) + size - MAX_UNSENT
        if excess > 0:
            for connection in sorted(writing, key=lambda each: each.burden(now), reverse=True):
                if connection.stream is not stream and excess > 0:
                    excess -= connection.unsent
                    self.refused["slow"] += 1
                    self._close(connection.stream)
        if stream in self._all:
            self._all[stream].writing_since = now

    async def end(self, seconds: float) -> None:
        """Close each connection once its client has an answer, and all of them after `seconds`. A
        new connection gets YOUNG_SECONDS to send its request."""
        deadline = time.monotonic() + seconds
        while self._all and (now := time.monotonic()) < deadline:
            for connection in list(self._all.values()):
                waits = connection.stream in self._waiting[connection.client]
                young = not connection.answered and now - connection.since < YOUNG_SECONDS
                if waits and not young and not connection.stream.writing():
                    self._close(connection.stream)
            await asyncio.sleep(END_POLL_SECONDS)
        for connection in list(self._all.values()):
            self._close(connection.stream)

    async def sweep(self) -> None:
        """Close connections whose clients do not take their answers, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep(time.monotonic())

    def _sweep(self, now: float) -> None:
        for connection in list(self._all.values()):
            if not connection.stream.writing():
                connection.writing_since = None
            elif connection.writing_since is None:
                connection.writing_since = now
            elif now - connection.writing_since > self._settings.response_seconds:
                self.refused["slow"] += 1
                connection.stream.close()
