# SPDX-License-Identifier: Apache-2.0
"""Names that the BPF programs compare, as hashes."""

from __future__ import annotations

import struct

_BYTES = 64
GOLDEN_RATIO = 0x9E3779B97F4A7C15  # GOLDEN_RATIO_64 of bpf/lanes.h
_MASK = (1 << 64) - 1


def name_hash(name: str) -> int:
    """Return the hash of a kernel name, cut at 63 bytes as the programs read it (name_hash() in
    bpf/counting.h)."""
    data = name.encode("utf-8", "surrogateescape")[: _BYTES - 1].ljust(_BYTES, b"\0")
    value = 1
    for word in struct.unpack("<8Q", data):
        value = (value ^ word) * GOLDEN_RATIO & _MASK
        value ^= value >> 32
    return value
