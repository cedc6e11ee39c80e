# SPDX-License-Identifier: Apache-2.0
"""Zstandard with the previous snapshot as dictionary; on an idle host a delta is tiny."""

from __future__ import annotations

from slabmon.base.zstd import zstd
from slabmon.store.codec import MAX_BYTES

# Level 6 takes a millisecond for 100 KB. Long-distance matching finds columns of tracked objects
# that have moved by megabytes.
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 6,
    zstd.CompressionParameter.enable_long_distance_matching: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}


def _prefix(previous: bytes) -> tuple[zstd.ZstdDict, int] | None:
    # Zstandard refuses dictionaries of less than eight bytes.
    return zstd.ZstdDict(previous, is_raw=True).as_prefix if len(previous) >= 8 else None


def pack(raw: bytes, previous: bytes) -> bytes:
    """Compress to one Zstandard frame with checksum, with `previous` as dictionary (b"": none)."""
    return zstd.compress(raw, options=_OPTIONS, zstd_dict=_prefix(previous))


def unpack(data: bytes, previous: bytes) -> bytes:
    """Return the bytes given to pack(). Raises ValueError if the frame is damaged, was made with
    another `previous`, or holds more than MAX_BYTES."""
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
