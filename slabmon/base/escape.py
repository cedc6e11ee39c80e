# SPDX-License-Identifier: Apache-2.0
"""Names from the kernel may hold any byte; here they become harmless text, once for all outputs."""

from __future__ import annotations

import re

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_CONTROLS}]")
HARMLESS = rf"\A[^{_CONTROLS}]*\Z"  # a pattern that every result of text() matches


def printable(name: str) -> str:
    """A name with its control characters escaped. Names are so when they are read; those of a
    recording need not be."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def text(raw: bytes) -> str:
    """A kernel string up to its first NUL. Bytes that are not UTF-8, control characters and
    characters that reverse the direction of writing become backslash escapes."""
    decoded = raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return printable(decoded)
