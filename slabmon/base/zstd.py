# SPDX-License-Identifier: Apache-2.0
"""Zstandard from the module that this Python has, and frames that only this process reads."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    try:
        from backports import zstd
    except ModuleNotFoundError:  # Debian 13 has its predecessor only
        from slabmon.base import pyzstd_compat as zstd  # type: ignore[no-redef]

__all__ = ["pack_own", "unpack_own", "zstd"]

_QUICK: dict[int, int] = {zstd.CompressionParameter.compression_level: 1}


def pack_own(raw: bytes) -> bytes:
    """Return `raw` as one frame, compressed at the fastest level."""
    return zstd.compress(raw, options=_QUICK, zstd_dict=None)


def unpack_own(data: bytes) -> bytes:
    """Return what pack_own() of this process was given."""
    return zstd.ZstdDecompressor().decompress(data)
