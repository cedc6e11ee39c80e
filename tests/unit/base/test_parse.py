# SPDX-License-Identifier: Apache-2.0
"""Durations and sizes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from slabmon.base.errors import UsageError
from slabmon.base.parse import duration, moment, show_moment, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10", 10), ("10s", 10), ("1.5m", 90), ("12h", 43_200), ("2w", 1_209_600)],
)
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
        with pytest.raises(UsageError, match=r"invalid (duration|size)"):
            parse(text)


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_times_are_local_unless_they_say_otherwise() -> None:
    end = datetime(2026, 3, 2, 4, 30).timestamp()
    for text, wanted in (
        ("2026-03-01T03:00", datetime(2026, 3, 1, 3)),
        (" 2026-03-01 ", datetime(2026, 3, 1)),
        ("2026-03-01 03:00:05", datetime(2026, 3, 1, 3, 0, 5)),
        ("2026-03-01T03:00Z", datetime.fromisoformat("2026-03-01T03:00+00:00")),
        ("2026-03-01 03:00:00+02:00", datetime.fromisoformat("2026-03-01T01:00+00:00")),
        ("03:00", datetime(2026, 3, 2, 3)),
        ("04:30", datetime(2026, 3, 2, 4, 30)),
        ("4:30:01", datetime(2026, 3, 1, 4, 30, 1)),
        ("23:59", datetime(2026, 3, 1, 23, 59)),
        ("1790000000", datetime.fromtimestamp(1.79e9)),
    ):
        assert moment(text, end) == wanted.timestamp(), text
        assert moment(show_moment(wanted.timestamp()), end) == wanted.timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-10m", 600), ("-90", 90), ("-2h", 7200), ("-1.5m", 90), ("-1d", 86400), ("+1h", -3600)],
)
def test_times_before_the_end_and_after(text: str, seconds: float) -> None:
    assert moment(text, 1.7e9) == 1.7e9 - seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "25:00",
        "03:60",
        "-",
        "-10x",
        "-5x",
        "2026-13-01",
        "9999999999-01-01",
        "1e9",
        "nan",
        "9" * 20,
        "9999-99-99 00:00",
        "\u0663:\u0663\u0663",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid time"):
        moment(text, 1.7e9)


def test_moments_out_of_all_bounds_are_shown() -> None:
    assert show_moment(1e300) == "1e+300 s after 1970"
