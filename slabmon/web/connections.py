"""Who is connected, and who has to go: limits in total, per client and in time."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tornado.iostream import IOStream

from slabmon.web.settings import WebSettings

LOCAL = "unix"
SWEEP_SECONDS = 1.0
# Bytes of answers waiting for their clients, all connections together.
MAX_UNSENT = 64 << 20


def client_of(address: Any) -> str:
    """Whom a connection is counted for: an IPv4 address, an IPv6 /64, or all local clients."""
    if not isinstance(address, tuple):
        return LOCAL
    found = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


@dataclass(eq=False)
class Connection:
    """`busy` from the end of a request to the end of its answer; `since` is when it last
    changed. `unsent` bytes of an answer are still with us."""

    stream: IOStream
    client: str
    since: float = field(default_factory=time.monotonic)
    busy: bool = False
    writing_since: float | None = None
    unsent: int = 0


class Connections:
    """All connections of all listeners.

    At a limit the connection that has been waiting longest for its client goes, not the newcomer:
    so clients that open connections and send nothing only push each other out, and whoever sends
    a request at once gets it answered.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._all: dict[IOStream, Connection] = {}
        self._by_client: Counter[str] = Counter()
        self.accepted = 0
        self.refused: Counter[str] = Counter({"evicted": 0, "refused": 0, "slow": 0})

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, stream: IOStream, address: Any) -> bool:
        """Takes a new connection in, or closes it."""
        client = client_of(address)
        self.accepted += 1
        if self._by_client[client] >= self._settings.max_connections_per_client:
            room = self._evict(c for c in self._all.values() if c.client == client)
        elif len(self._all) >= self._settings.max_connections:
            room = self._evict(self._all.values())
        else:
            room = True
        if not room:
            self.refused["refused"] += 1
            stream.close()
            return False
        self._all[stream] = Connection(stream, client)
        self._by_client[client] += 1
        return True

    def _evict(self, candidates: Iterable[Connection]) -> bool:
        oldest = min((c for c in candidates if not c.busy), key=lambda c: c.since, default=None)
        if oldest is None:
            return False
        self.refused["evicted"] += 1
        self.forget(oldest.stream)
        oldest.stream.close()
        return True

    def forget(self, stream: IOStream) -> None:
        """A connection has ended."""
        found = self._all.pop(stream, None)
        if found:
            self._by_client[found.client] -= 1
            if not self._by_client[found.client]:
                del self._by_client[found.client]

    def request(self, stream: IOStream) -> str:
        """A whole request has arrived: this one is not for eviction until it is answered.
        Returns whose it is."""
        found = self._all.get(stream)
        if found is None:  # it ended meanwhile
            return ""
        found.busy = True
        return found.client

    def answered(self, stream: IOStream) -> None:
        """An answer was handed over; from now on it is the client's turn."""
        if stream in self._all:
            self._all[stream].busy = False
            self._all[stream].since = time.monotonic()

    def may_send(self, stream: IOStream, size: int) -> bool:
        """Whether an answer of so many bytes may be added to what clients have not taken yet."""
        if sum(c.unsent for c in self._all.values()) + size > MAX_UNSENT:
            return False
        if stream in self._all:
            self._all[stream].unsent = size
        return True

    async def sweep(self) -> None:
        """Closes connections whose clients do not take their answers, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self._all.values()):
                if not connection.stream.writing():
                    connection.writing_since = None
                    connection.unsent = 0
                elif connection.writing_since is None:
                    connection.writing_since = now
                elif now - connection.writing_since > self._settings.response_seconds:
                    self.refused["slow"] += 1
                    connection.stream.close()
