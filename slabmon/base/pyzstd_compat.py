# SPDX-License-Identifier: Apache-2.0
"""pyzstd, out of which compression.zstd of Python 3.14 grew, under that module's names: what the
Debian package runs with."""

from __future__ import annotations

from typing import Any

from pyzstd import (
    CParameter,
    ZstdDecompressor,
    ZstdDict,
    ZstdError,
    get_frame_info,
)
from pyzstd import compress as _compress

__all__ = [
    "CompressionParameter",
    "ZstdDecompressor",
    "ZstdDict",
    "ZstdError",
    "compress",
    "get_frame_info",
]


class CompressionParameter:
    """The parameters used, by their later names."""

    compression_level = CParameter.compressionLevel
    enable_long_distance_matching = CParameter.enableLongDistanceMatching
    checksum_flag = CParameter.checksumFlag


def compress(data: bytes, options: dict[Any, int], zstd_dict: Any) -> bytes:
    """One frame."""
    return bytes(_compress(data, options, zstd_dict))
