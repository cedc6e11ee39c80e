# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes and times as people write them in options and in the configuration."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from slabmon.base.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)


def _parse(text: str, units: dict[str, int], what: str) -> float:
    found = re.fullmatch(rf"(\d{{1,12}}(?:\.\d{{1,6}})?)([{''.join(units)}]?)", text, re.ASCII)
    if found is None:
        raise UsageError(f"{text!r} is not {what}")
    return float(found[1]) * units[found[2]]


def duration(text: str) -> float:
    """Seconds of `10`, `10s`, `1.5m`, `12h`, `7d` or `2w`."""
    return _parse(text, _SECONDS, "a duration such as 10s, 5m, 12h, 7d")


def size(text: str) -> int:
    """Bytes of `4096`, `64K`, `500M` or `2G`, in binary multiples."""
    return round(_parse(text, _BYTES, "a size such as 64M or 2G"))


def moment(text: str, end: float) -> float:
    """Unix time of ISO 8601 (`2026-03-01T03:00`, local time unless it says otherwise), of `03:00`
    or `03:00:10` (local, the last before `end`), of `-10m` (before `end`) or `+1h` (after it), or
    of a Unix time."""
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
        found = last.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (found if found <= last else found - timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError, UsageError):
        raise UsageError(
            f"{text!r} is no time; give 03:00, 2026-03-01T03:00, 2026-03-01T03:00Z, or -10m for "
            "ten minutes before the end"
        ) from None


def show_moment(time: float) -> str:
    """A Unix time in local time, with its distance from UTC, as moment() takes it. Those of a
    recording can be out of all bounds."""
    try:
        return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{time:g} s after 1970"
