"""Moments as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta

from slabmon.errors import UsageError
from slabmon.units import duration

_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TIMES = ("%H:%M:%S", "%H:%M")


def parse_moment(text: str, now: float) -> float | None:
    """Unix time of a local date, or time on the day of `now`; or so long before (`-5m`) or after
    (`+1h`) `now`; None for `now`, the present. UsageError otherwise."""
    text = text.strip().replace("T", " ")
    if text == "now":
        return None
    if text[:1] in ("-", "+"):
        seconds = duration(text[1:])
        return now + (seconds if text[0] == "+" else -seconds)
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).timestamp()
        except (ValueError, OverflowError):
            continue
    for form in _TIMES:
        try:
            time = datetime.strptime(text, form).time()
        except ValueError:
            continue
        found = datetime.combine(datetime.fromtimestamp(now).date(), time).timestamp()
        return found if found <= now else found - timedelta(days=1).total_seconds()
    raise UsageError(f"{text!r} is no time; write 03:00, 2026-01-31 03:00, -5m or now")
