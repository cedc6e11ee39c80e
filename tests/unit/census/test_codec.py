# SPDX-License-Identifier: Apache-2.0
"""Censuses survive encoding; anything else is an error."""

from __future__ import annotations

import pytest

from slabmon.base.errors import SlabmonError
from slabmon.census.codec import decode, encode
from tests.unit.export.test_census import CENSUS


def test_a_census_survives() -> None:
    assert decode(encode(CENSUS)) == CENSUS


@pytest.mark.parametrize("data", [b"", b"\x81", b"\xc0", encode(CENSUS)[:-1]])
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(SlabmonError, match="not a census"):
        decode(data)
