# SPDX-License-Identifier: Apache-2.0
"""Censuses as msgpack, between processes of one version of slabmon."""

from __future__ import annotations

import msgspec

from slabmon.base.errors import SlabmonError
from slabmon.census.model import Census

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Census)


def encode(census: Census) -> bytes:
    """Return the census as msgpack."""
    return _ENCODER.encode(census)


def decode(data: bytes) -> Census:
    """Return the census that encode() was given. Raises SlabmonError if it is anything else."""
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SlabmonError(f"not a census: {error}") from error
