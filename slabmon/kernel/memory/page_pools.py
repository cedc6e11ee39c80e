# SPDX-License-Identifier: Apache-2.0
"""Page pools of network devices, over generic netlink: the family `netdev`, Linux 6.8 and later
(Documentation/netlink/specs/netdev.yaml). Only pools of this process's network namespace are
listed."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from slabmon.base.escape import escape

# include/uapi/linux/netlink.h, genetlink.h and netdev.h
_NETLINK_GENERIC, _REQUEST, _DUMP, _ERROR, _DONE = 16, 0x1, 0x300, 2, 3
_GENL_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2
_PAGE_POOL_GET, _IFINDEX, _INFLIGHT_MEM = 5, 2, 5
_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENERIC = struct.Struct("=BBH")  # command, version, reserved
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ANSWER_BYTES, _SECONDS, _MOST_ANSWERS = 1 << 16, 1.0, 1024
_FAMILY = "netdev"
_NESTED = 0x3FFF  # NLA_TYPE_MASK


def read() -> dict[str, int]:
    """Return the bytes that page pools hold, by network device. Raises OSError, whose text is for
    people, if this kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as channel:
        channel.settimeout(_SECONDS)
        name = _FAMILY.encode() + b"\0"
        ask = _attribute(_FAMILY_NAME, name)
        channel.send(_request(_GENL_CONTROL, _REQUEST, _GET_FAMILY, ask))
        try:
            families = [attributes(body) for body in _answers(channel, dump=False)]
        except FileNotFoundError as error:
            raise OSError("this kernel does not list page pools (netlink netdev, 6.8)") from error
        family = int.from_bytes(families[0][_FAMILY_ID], "little") if families else 0
        channel.send(_request(family, _REQUEST | _DUMP, _PAGE_POOL_GET))
        return sums(_answers(channel, dump=True))


def sums(answers: Iterator[bytes]) -> dict[str, int]:
    """Sum the answers' pools by network device."""
    total: dict[str, int] = {}
    for body in answers:
        pool = attributes(body)
        index = int.from_bytes(pool.get(_IFINDEX, b""), "little")
        size = int.from_bytes(pool.get(_INFLIGHT_MEM, b""), "little")
        device = _device(index)
        total[device] = total.get(device, 0) + size
    return total


def _device(index: int) -> str:
    try:
        return escape(socket.if_indextoname(index).encode())
    except OSError:
        return "[no device]"


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def _request(family: int, flags: int, command: int, body: bytes = b"") -> bytes:
    size = _MESSAGE.size + _GENERIC.size + len(body)
    return _MESSAGE.pack(size, family, flags, 1, 0) + _GENERIC.pack(command, 1, 0) + body


def _answers(channel: socket.socket, *, dump: bool) -> Iterator[bytes]:
    """Yield the attributes of each answer; the last one ends a dump. Raises OSError."""
    for _ in range(_MOST_ANSWERS):
        data = channel.recv(_ANSWER_BYTES)
        while len(data) >= _MESSAGE.size:
            size, kind, *_ = _MESSAGE.unpack_from(data)
            body, data = data[_MESSAGE.size : size], data[max(size + 3 & ~3, _MESSAGE.size) :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                error = -int.from_bytes(body[:4], "little", signed=True)
                if error:
                    raise OSError(error, os.strerror(error))
                return
            yield body[_GENERIC.size :]
            if not dump:
                return


def attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes of a message by type. What is cut off is left out."""
    result = {}
    while len(body) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(body)
        if size < _ATTRIBUTE.size:
            break
        result[kind & _NESTED] = body[_ATTRIBUTE.size : size]
        body = body[size + 3 & ~3 :]
    return result
