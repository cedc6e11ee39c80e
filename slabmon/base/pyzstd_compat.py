# SPDX-License-Identifier: Apache-2.0
"""Adapts pyzstd (Debian 13) to the interface of Python 3.14's compression.zstd."""

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
    """The parameters in use, by their names in compression.zstd."""

    compression_level = CParameter.compressionLevel
    enable_long_distance_matching = CParameter.enableLongDistanceMatching
    checksum_flag = CParameter.checksumFlag


def compress(data: bytes, options: dict[Any, int], zstd_dict: Any) -> bytes:
    """Return one compressed frame."""
    return bytes(_compress(data, options, zstd_dict))
