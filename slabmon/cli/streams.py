# SPDX-License-Identifier: Apache-2.0
"""Standard streams of any encoding, and closed ones: output degrades, it does not fail."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import sys
from typing import TextIO

ERRORS = "slabmon-ascii"
# One character for one, so that columns stay aligned. Others become "?".
_FALLBACKS = str.maketrans(
    {
        "±": "~",
        "…": ".",
        "▼": "v",
        "▲": "^",
        **dict.fromkeys("▏▎▍▌▋▊▉", "|"),
        **dict.fromkeys("▁▂▃▄▅▆▇█", "#"),
    }
    | dict.fromkeys("─━▔", "-")
    | dict.fromkeys("│┃", "|")
    | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+")
)


def prepare() -> None:
    """Make standard output and error accept any text, and open closed streams.

    Characters that a stream's encoding lacks are replaced. A closed standard output stays one that
    cannot be written to: commands that print fail, `serve` does not. No descriptor that is opened
    later can be taken for it.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # open as long as the process
    sys.stdout = _tolerant(sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115  # likewise
    sys.stderr = _tolerant(sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115  # likewise


def output_is_closed() -> bool:
    """Return whether standard output was closed before prepare()."""
    return fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _tolerant(stream: TextIO) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=ERRORS)
    return stream


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_FALLBACKS)
    return "".join(letter if letter.isascii() else "?" for letter in text), error.end


codecs.register_error(ERRORS, _replace)
