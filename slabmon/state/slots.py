# SPDX-License-Identifier: Apache-2.0
"""The head of a slot. What has two of them, written alternately, keeps the older content if a
writer dies halfway."""

from __future__ import annotations

import struct
import zlib

HEAD = struct.Struct("<QII")  # sequence number, length, CRC-32 of number and payload


def head(number: int, payload: bytes) -> bytes:
    """Return the head of a slot with this sequence number and payload."""
    return HEAD.pack(number, len(payload), checksum(number, payload))


def checksum(number: int, payload: bytes) -> int:
    """Return the checksum in the head of a slot."""
    return zlib.crc32(payload, number & 0xFFFFFFFF)
