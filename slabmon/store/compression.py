# SPDX-License-Identifier: Apache-2.0
"""Zstandard, each snapshot against the one before it: of a host at rest little is left."""

from __future__ import annotations

from slabmon.base.zstd import zstd
from slabmon.store.codec import MAX_BYTES

# Level 6 takes a millisecond for 100 KB. Long distance matching finds the columns of tracked
# objects again where they have moved by megabytes.
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 6,
    zstd.CompressionParameter.enable_long_distance_matching: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}


def _prefix(previous: bytes) -> tuple[zstd.ZstdDict, int] | None:
    # Zstandard refuses dictionaries of less than eight bytes.
    return zstd.ZstdDict(previous, is_raw=True).as_prefix if len(previous) >= 8 else None


def pack(raw: bytes, previous: bytes) -> bytes:
    """One Zstandard frame with a checksum, made against what comes before it (b"": nothing)."""
    return zstd.compress(raw, options=_OPTIONS, zstd_dict=_prefix(previous))


def unpack(data: bytes, previous: bytes) -> bytes:
    """What pack() was given. ValueError if the frame is damaged, if `previous` is not what it was
    made against, or if it holds more than any snapshot may."""
    try:
        size = zstd.get_frame_info(data).decompressed_size
        if size is None or size > MAX_BYTES:
            raise ValueError(f"it claims to hold {size} bytes")
        unpacker = zstd.ZstdDecompressor(zstd_dict=_prefix(previous))
        raw = unpacker.decompress(data, max_length=size + 1)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the compressed data does not end where it should")
    return raw
