# SPDX-License-Identifier: Apache-2.0
"""Harmless text from names of the kernel, which may hold any byte; once for all outputs."""

from __future__ import annotations

import re

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_CONTROLS}]")
HARMLESS = rf"\A[^{_CONTROLS}]*\Z"  # a pattern that every result of escape() matches


def printable(name: str) -> str:
    """Return a name with control characters as backslash escapes. Names are escaped when they are
    read from the kernel; names in a recording need not be."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def escape(raw: bytes) -> str:
    """Return a kernel string up to its first NUL. Bytes that are not UTF-8, control characters and
    characters that change the direction of writing become backslash escapes."""
    decoded = raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return printable(decoded)
