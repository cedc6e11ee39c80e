# SPDX-License-Identifier: Apache-2.0
"""Datagrams that nobody reads: their memory comes from helpers that half of the network uses, and
`slabmon leaks` says which caller asked for it, and which process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from tests.support.dated import leaks, record

pytestmark = pytest.mark.live

UNREAD, READ = 23, 97  # datagrams between two readings
LENGTH = 5000  # of kmalloc-8k, which hardly anything else uses and frees without an event
EXACT = Settings(exact=Filter.parse("cache=kmalloc-8k"))
BUFFER = 64 << 20
CALLER = "__ip_append_data"  # net/ipv4/ip_output.c: of udp_sendmsg()


class Loopback:
    """Two sockets of UDP, of which the second receives what the first sends."""

    def __init__(self) -> None:
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
        self._receiver.bind(("127.0.0.1", 0))

    def send(self, count: int) -> None:
        """Send so many datagrams."""
        for _ in range(count):
            self._sender.sendto(bytes(LENGTH), self._receiver.getsockname())

    def read(self, count: int) -> None:
        """Read so many."""
        for _ in range(count):
            assert len(self._receiver.recv(LENGTH, socket.MSG_DONTWAIT)) == LENGTH

    def close(self) -> None:
        """Close both; what was not read is freed."""
        self._sender.close()
        self._receiver.close()


@pytest.fixture
def ends() -> Iterator[tuple[Loopback, Loopback]]:
    """The one that is not read, and the one that is."""
    with closing(Loopback()) as unread, closing(Loopback()) as read:
        yield unread, read


def test_the_caller_of_the_helper_is_named(ends: tuple[Loopback, Loopback], tmp_path: Path) -> None:
    unread, read = ends

    def work() -> None:
        unread.send(UNREAD)
        read.send(READ)
        read.read(READ)

    record(tmp_path / "recording", EXACT, work, details=True)
    verdicts = leaks(tmp_path / "recording")["verdicts"]
    [verdict] = (v for v in verdicts if v["callers"] and v["callers"][0].startswith(CALLER))
    assert verdict["suspect"].startswith("__alloc_skb+")
    assert verdict["processes"][0].startswith("python")
    assert any("by chance" in text and "0e+00" not in text for text in verdict["evidence_for"])
