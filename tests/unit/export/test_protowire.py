# SPDX-License-Identifier: Apache-2.0
"""Fields of protobuf messages, read back by another implementation."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pure_protobuf.annotations import Field
from pure_protobuf.message import BaseMessage

from slabmon.export.protowire import block, integer, packed, varint


@dataclass
class Message(BaseMessage):
    number: Annotated[int, Field(1)] = 0
    numbers: Annotated[list[int], Field(15)] = field(default_factory=list)
    text: Annotated[str, Field(16)] = ""
    texts: Annotated[list[str], Field(2000)] = field(default_factory=list)


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (150, "9601"),
        (-1, "ffffffffffffffffff01"),
        ((1 << 64) - 1, "ffffffffffffffffff01"),
        (-(1 << 63), "80808080808080808001"),
    ],
)
def test_varints_are_those_of_the_specification(value: int, data: str) -> None:
    assert varint(value).hex() == data


@given(INT64, st.lists(INT64), st.text(), st.lists(st.text()))
def test_fields_are_read_back(number: int, numbers: list[int], text: str, texts: list[str]) -> None:
    data = integer(1, number) + packed(15, numbers) + block(16, text.encode())
    data += b"".join(block(2000, one.encode()) for one in texts)
    message = Message.read_from(BytesIO(data))
    assert (message.number, message.numbers) == (number, numbers)
    assert (message.text, message.texts) == (text, texts)


def test_defaults_are_left_out() -> None:
    assert integer(1, 0) == packed(2, []) == b""
