# SPDX-License-Identifier: Apache-2.0
"""Parses durations, sizes and times of options and of the configuration."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from slabmon.base.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)


def _parse(text: str, units: dict[str, int], kind: str, examples: str) -> float:
    match = re.fullmatch(rf"(\d{{1,12}}(?:\.\d{{1,6}})?)([{''.join(units)}]?)", text, re.ASCII)
    if match is None:
        raise UsageError(f"invalid {kind} {text!r}: expected for example {examples}")
    return float(match[1]) * units[match[2]]


def duration(text: str) -> float:
    """Return the seconds of `10`, `10s`, `1.5m`, `12h`, `7d` or `2w`."""
    return _parse(text, _SECONDS, "duration", "10s, 5m, 12h or 7d")


def size(text: str) -> int:
    """Return the bytes of `4096`, `64K`, `500M` or `2G`, in binary multiples."""
    return round(_parse(text, _BYTES, "size", "64M or 2G"))


def moment(text: str, end: float) -> float:
    """Return the Unix time that `text` denotes.

    It is ISO 8601 (`2026-03-01T03:00`, local time unless it has a zone), `03:00` or `03:00:10`
    (local, the last one before `end`), `-10m` (before `end`), `+1h` (after it) or a Unix time.
    """
    text = text.strip()
    try:
        if text[:1] in ("-", "+"):
            seconds = duration(text[1:])
            return end - seconds if text[0] == "-" else end + seconds
        if re.fullmatch(r"\d{1,11}(\.\d+)?", text, re.ASCII):
            return float(text)
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            return datetime.fromisoformat(text).timestamp()
        hour, minute, second = (int(part or 0) for part in clock.groups())
        last = datetime.fromtimestamp(end)
        time = last.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (time if time <= last else time - timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError, UsageError):
        raise UsageError(
            f"invalid time {text!r}: expected 03:00, 2026-03-01T03:00, 2026-03-01T03:00Z, or -10m "
            "for ten minutes before the end"
        ) from None


def show_moment(time: float) -> str:
    """Return a Unix time as local time with its offset from UTC, as moment() takes it. A time that
    datetime cannot express, which a recording may hold, is shown in seconds."""
    try:
        return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{time:g} s after 1970"
