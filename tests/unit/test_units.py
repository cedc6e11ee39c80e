"""Durations and sizes."""

from __future__ import annotations

from datetime import datetime

import pytest

from slabmon.errors import UsageError
from slabmon.units import duration, moment, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10", 10), ("10s", 10), ("1.5m", 90), ("12h", 43_200), ("2w", 1_209_600)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("4096", 4096), ("64K", 65_536), ("1.5M", 1_572_864), ("2G", 2 << 30), ("1T", 1 << 40)],
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1", "1e3", "1 s", "1ss", "\u0661", "nan", "1\n", ".5", "9" * 13, "1x"],
)
def test_anything_else_is_refused(text: str) -> None:
    for parse in (duration, size):
        with pytest.raises(UsageError, match="is not a"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [("1790000000", 1.79e9), ("1.5", 1.5), ("2026-07-28 03:00:00+02:00", 1785200400)],
)
def test_times(text: str, time: float) -> None:
    assert moment(text) == time


def test_a_time_without_zone_is_local() -> None:
    assert moment("2026-07-28T03:00") == datetime(2026, 7, 28, 3).astimezone().timestamp()


@pytest.mark.parametrize("text", ["", "noon", "03:00", "-1", "1e9", "nan", "9" * 20, "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        moment(text)
