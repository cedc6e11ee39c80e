# SPDX-License-Identifier: Apache-2.0
"""Answers of the netlink family `netdev`."""

from __future__ import annotations

import struct

import pytest

from slabmon.kernel.memory import page_pools


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def pool(ifindex: int | None, inflight_mem: int) -> bytes:
    """A pool as page_pool_nl_fill() describes it: unsigned numbers of 4 or 8 bytes."""
    size = 4 if inflight_mem < 1 << 32 else 8
    device = b"" if ifindex is None else attribute(2, ifindex.to_bytes(4, "little"))
    return (
        attribute(1, (7).to_bytes(4, "little"))
        + device
        + attribute(4, (3).to_bytes(4, "little"))
        + attribute(5, inflight_mem.to_bytes(size, "little"))
    )


def test_pools_are_summed_by_network_device(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {2: "eth0", 3: "eth1"}
    monkeypatch.setattr("socket.if_indextoname", names.__getitem__)
    answers = [pool(2, 8192), pool(2, 4096), pool(3, 5 << 32)]
    assert page_pools.sums(iter(answers)) == {"eth0": 12288, "eth1": 5 << 32}


def test_a_pool_whose_device_is_gone_counts() -> None:
    assert page_pools.sums(iter([pool(None, 4096)])) == {"[no device]": 4096}


def test_messages_that_are_cut_off_end() -> None:
    assert page_pools.attributes(b"\x02\x00\x01\x00") == {}
    assert page_pools.attributes(b"\x01") == {}


class Channel:
    def __init__(self, *messages: bytes) -> None:
        self.messages = list(messages)

    def recv(self, _: int) -> bytes:
        return self.messages.pop(0)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_a_dump_is_read_to_its_end() -> None:
    first = message(30, bytes(4) + b"first") + bytes(3) + message(30, bytes(4) + b"second..")
    channel = Channel(first, message(30, bytes(4) + b"last") + message(3, bytes(4)))
    answers = list(page_pools._answers(channel, dump=True))  # type: ignore[arg-type]  # a fake
    assert answers == [b"first", b"second..", b"last"]


def test_a_refusal_is_an_error() -> None:
    refused = message(2, (-2).to_bytes(4, "little", signed=True) + bytes(16))
    with pytest.raises(FileNotFoundError):
        list(page_pools._answers(Channel(refused), dump=False))  # type: ignore[arg-type]  # a fake
