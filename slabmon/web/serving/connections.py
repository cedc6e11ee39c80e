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
    """One client's; `writing_since` is when an answer was first seen not taken yet."""

    stream: IOStream
    client: str
    since: float
    answered: bool = False
    writing_since: float | None = None


class Connections:
    """All connections of all listeners.

    At a limit the connection that has been waiting longest for its client goes, not the newcomer:
    so clients that open connections and send nothing only push each other out, and whoever sends
    a request at once gets it answered. If the limit is that of all clients together, it is one of
    the client that has most.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._all: dict[IOStream, Connection] = {}
        self._by_client: Counter[str] = Counter()
        # By client, those without a request under way; who has waited longest comes first.
        self._waiting: defaultdict[str, dict[IOStream, None]] = defaultdict(dict)
        # Bytes of answers handed over and perhaps not taken yet.
        self._unsent: dict[IOStream, int] = {}
        self.refused: Counter[str] = Counter({"evicted": 0, "refused": 0, "slow": 0})

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, stream: IOStream, address: Any) -> bool:
        """Takes a new connection in, or closes it."""
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
        """A connection has ended."""
        found = self._all.pop(stream, None)
        if found is None:
            return
        self._unsent.pop(stream, None)
        self._waiting[found.client].pop(stream, None)
        self._by_client[found.client] -= 1
        if not self._by_client[found.client]:
            del self._by_client[found.client], self._waiting[found.client]

    def request(self, stream: IOStream) -> str:
        """A whole request has arrived: this one is not for eviction until it is answered.
        Returns whose it is."""
        found = self._all.get(stream)
        if found is None:  # it ended meanwhile
            return ""
        self._waiting[found.client].pop(stream, None)
        return found.client

    def answered(self, stream: IOStream) -> None:
        """An answer was handed over; from now on it is the client's turn."""
        found = self._all.get(stream)
        if found:
            found.answered = True
            self._waiting[found.client][stream] = None

    def may_send(self, stream: IOStream, size: int) -> bool:
        """Whether an answer of so many bytes may be added to what clients have not taken yet."""
        if sum(self._unsent.values()) + size > MAX_UNSENT:
            return False
        if stream in self._all:
            self._unsent[stream] = size
        return True

    async def end(self, seconds: float) -> None:
        """Closes each connection once its client has an answer, and all after so many seconds. One
        just made may be about to send its request."""
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
        """Closes connections whose clients do not take their answers, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep(time.monotonic())

    def _sweep(self, now: float) -> None:
        for connection in list(self._all.values()):
            if not connection.stream.writing():
                connection.writing_since = None
                self._unsent.pop(connection.stream, None)
            elif connection.writing_since is None:
                connection.writing_since = now
            elif now - connection.writing_since > self._settings.response_seconds:
                self.refused["slow"] += 1
                connection.stream.close()
