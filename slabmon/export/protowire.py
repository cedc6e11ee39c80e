# SPDX-License-Identifier: Apache-2.0
"""Writes the three kinds of protobuf fields that pprof's profile.proto is made of
(protobuf.dev/programming-guides/encoding). Values that proto3 leaves out, 0 and "", are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _LENGTH_DELIMITED = 0, 2


def varint(value: int) -> bytes:
    """Encode an int64, uint64 or bool; a negative value in two's complement, as 10 bytes."""
    value &= (1 << 64) - 1
    if value < 0x80:
        return bytes((value,))
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def integer(field: int, value: int) -> bytes:
    """Encode a field of an integer type."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def packed(field: int, values: Iterable[int]) -> bytes:
    """Encode a repeated field of an integer type."""
    data = b"".join(map(varint, values))
    return block(field, data) if data else b""


def block(field: int, data: bytes) -> bytes:
    """Encode a field that is a message or a string, also an empty one."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data
