# SPDX-License-Identifier: Apache-2.0
"""Formats values for people: units, signs, small charts."""

from __future__ import annotations

from collections.abc import Sequence

from slabmon.base.escape import printable
from slabmon.base.units import (
    BYTES,
    BYTES_PER_HOUR,
    BYTES_PER_SECOND,
    PER_SECOND,
    PERCENT,
    SECONDS,
    Value,
)

TREND_WIDTH = 12
_BARS = "▁▂▃▄▅▆▇█"
# A series whose range is below this share of its maximum is drawn flat.
_FLAT = 0.01
_SPANS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_FRACTIONS = ((1, "s"), (1e-3, "ms"), (1e-6, "us"))


def human(value: Value, unit: str) -> str:
    """Return a value of this unit as text: bytes in binary multiples, counts with separators of
    thousands, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return trend(value)
    if unit in (BYTES, BYTES_PER_SECOND):
        return _bytes(value)
    if unit == BYTES_PER_HOUR:
        return ("+" if value > 0 else "") + _bytes(value)
    if unit == SECONDS:
        return duration(value)
    if unit == PERCENT:
        return f"{value * 100:z.1f}%"
    if unit == PER_SECOND and abs(value) < 100:
        return f"{value:.1f}"
    return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}"


def _bytes(value: float) -> str:
    amount = float(value)
    for suffix in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024 or suffix == "TiB":
            break
        amount /= 1024
    return f"{value:.0f} B" if suffix == "B" else f"{amount:.1f} {suffix}"


def bytes_text(amount: float) -> str:
    """Return a number of bytes for a sentence: 12 B, 3.5 KiB."""
    return _bytes(round(amount))


def duration(seconds: float) -> str:
    """Return seconds as 3d04h, 2h05m, 4m10s, 12.5s, 3.2ms or 132ns."""
    for step, name, small, small_name in _SPANS:
        if seconds >= step:
            whole = int(seconds)
            return f"{whole // step}{name}{whole % step // small:02d}{small_name}"
    for fraction, name in _FRACTIONS:
        if seconds >= fraction or seconds == 0:
            return f"{seconds / fraction:.1f}{name}"
    return f"{seconds * 1e9:.0f}ns"


def trend(values: Sequence[int | None], width: int = TREND_WIDTH) -> str:
    """Return a line of at most `width` bars, scaled from the lowest to the highest value. A bar
    that stands for several values shows the highest of them, and is blank if all are None."""
    count = min(width, len(values))
    bars = [
        max(
            (
                value
                for value in values[i * len(values) // count : (i + 1) * len(values) // count]
                if value is not None
            ),
            default=None,
        )
        for i in range(count)
    ]
    known = [bar for bar in bars if bar is not None]
    low, high = min(known, default=0), max(known, default=0)
    flat = _BARS[0 if high == 0 else 3] if high - low <= _FLAT * abs(high) else ""
    return "".join(
        " " if bar is None else flat or _BARS[(bar - low) * (len(_BARS) - 1) // (high - low)]
        for bar in bars
    )
