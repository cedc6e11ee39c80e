# SPDX-License-Identifier: Apache-2.0
"""Documents in JSON that another slabmon wrote."""

from __future__ import annotations

from typing import TypedDict, TypeVar

import msgspec

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape

T = TypeVar("T")


class _Head(TypedDict, total=False):
    schema: object


def read_document(data: bytes, kind: type[T], schema: int, what: str, origin: str) -> T:
    """Return a document of this schema. Raises UsageError if it is anything else; the message says
    what was expected and where `data` is from."""
    try:
        if msgspec.json.decode(data, type=_Head).get("schema") != schema:
            raise UsageError(
                f"{origin}: this {what} is in another format than this version of slabmon reads, "
                f"which is {schema}"
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise UsageError(
            f"{origin}: this version of slabmon does not understand this {what}: "
            f"{escape(str(error).encode())}"
        ) from error
