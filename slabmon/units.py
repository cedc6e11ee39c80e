"""Durations, sizes and times as people write them in options and in the configuration."""

from __future__ import annotations

import re
from datetime import datetime

from slabmon.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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


def moment(text: str) -> float:
    """Unix time of `1790000000`, `2026-07-28T03:00` (local time) or `2026-07-28 03:00:00+02:00`."""
    try:
        if re.fullmatch(r"\d{1,11}(\.\d+)?", text, re.ASCII):
            return float(text)
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is not a time such as 2026-07-28T03:00") from error
