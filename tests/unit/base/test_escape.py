# SPDX-License-Identifier: Apache-2.0
"""Names from the kernel become harmless text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.escape import escape

# Unicode's Bidi_Control characters.
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"kmalloc-64", "kmalloc-64"),
        (b"", ""),
        (b"name\0rest", "name"),
        (b"\0", ""),
        (b"two words", "two words"),
        ("gr\u00fc\u00df".encode(), "gr\u00fc\u00df"),
        (b"a\nb\tc", "a\\nb\\tc"),
        (b"\x1b[2J", "\\x1b[2J"),
        (b"del\x7f", "del\\x7f"),
        (b"bad\xff\xc3", "bad\\xff\\xc3"),
        ("c1\u0085".encode(), "c1\\x85"),
        ("\u2028\u2029".encode(), "\\u2028\\u2029"),
    ],
)
def test_a_name_is_shown_harmless(raw: bytes, wanted: str) -> None:
    assert escape(raw) == wanted


@pytest.mark.parametrize("character", BIDI, ids=[f"U+{ord(c):04X}" for c in BIDI])
def test_characters_that_reverse_writing_are_escaped(character: str) -> None:
    assert escape(f"a{character}b".encode()) == f"a\\u{ord(character):04x}b"


@given(st.binary())
def test_no_bytes_give_anything_but_one_line_of_valid_unicode(raw: bytes) -> None:
    found = escape(raw)
    found.encode("utf-8")
    assert len(found.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in found)


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)))
def test_printable_ascii_is_shown_as_it_is(name: str) -> None:
    assert escape(name.encode()) == name
