"""Times as people give them, and what of a recording they choose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from slabmon.errors import UsageError
from slabmon.report.moments import MAX_POINTS, of_recording, parse_time
from slabmon.store.history import History
from slabmon.store.recording import Recording
from tests.unit.recordings import START, STEP, moment, record

END = datetime(2026, 3, 2, 4, 30).timestamp()


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
        ("2026-03-01 03:00:05", datetime(2026, 3, 1, 3, 0, 5)),
        ("2026-03-01T03:00Z", datetime.fromisoformat("2026-03-01T03:00+00:00")),
        ("2026-03-01T03:00+02:00", datetime.fromisoformat("2026-03-01T01:00+00:00")),
        ("03:00", datetime(2026, 3, 2, 3)),
        ("04:30", datetime(2026, 3, 2, 4, 30)),
        ("4:30:01", datetime(2026, 3, 1, 4, 30, 1)),
        ("23:59", datetime(2026, 3, 1, 23, 59)),
    ):
        assert parse_time(text, end) == wanted.timestamp(), text


@pytest.mark.parametrize(
    ("text", "seconds"), [("-10m", 600), ("-90", 90), ("-2h", 7200), ("-1.5m", 90), ("-1d", 86400)]
)
def test_times_before_the_end(text: str, seconds: float) -> None:
    assert parse_time(text, END) == END - seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "03:60", "-", "-10x", "2026-13-01", "9999999999-01-01",
             "\u0663:\u0663\u0663"]
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_time(text, END)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    with Recording(record(tmp_path / "slabs.db", 30)) as found:
        yield found


def test_without_times_it_is_about_the_last_moment_and_all_that_led_to_it(
    recording: Recording,
) -> None:
    found = of_recording(recording, None, None)
    assert found.now.time == START + 29 * STEP
    assert found.before is None
    assert found.window.span == 29 * STEP
    assert found.window.snapshot.tracking == found.now.snapshot.tracking


def test_two_times_make_a_change(recording: Recording) -> None:
    found = of_recording(recording, "-200s", "-35s")
    assert found.before is not None
    assert found.before.time == START + 9 * STEP
    assert found.now.time == START + 25 * STEP
    assert found.window.span == 16 * STEP


def test_one_end_is_enough(recording: Recording) -> None:
    until = of_recording(recording, None, "-100")
    assert (until.before, until.now.time, until.window.span) == (None, START + 190, 190)
    since = of_recording(recording, "-100", None)
    assert since.before is not None
    assert since.before.time == START + 190


def test_a_long_recording_is_read_in_steps(tmp_path: Path) -> None:
    with Recording(record(tmp_path / "slabs.db", 3 * MAX_POINTS)) as long:
        window = of_recording(long, None, None).window
    assert len(window.moments) == MAX_POINTS - 1
    assert window.span == (3 * MAX_POINTS - 1) * STEP


@pytest.mark.parametrize(
    ("start", "end"), [("-1h", None), (None, "-1h"), ("2030-01-01", None), ("-999999999999w", None)]
)
def test_a_time_outside_of_the_recording_is_refused(
    recording: Recording, start: str | None, end: str | None
) -> None:
    with pytest.raises(UsageError, match=r"lies outside of the recording .* goes from 20"):
        of_recording(recording, start, end)


@pytest.mark.parametrize(("start", "end"), [("-50s", "-50s"), ("-50s", "-60s"), ("-42s", "-41s")])
def test_a_change_takes_two_moments(recording: Recording, start: str, end: str) -> None:
    with pytest.raises(UsageError, match="is not before"):
        of_recording(recording, start, end)


def test_moments_of_two_sessions_cannot_be_compared(tmp_path: Path) -> None:
    path = record(tmp_path / "slabs.db", 3)
    with History(path) as history:
        for number in range(3):
            again = moment(number)
            tracking = replace(again.tracking, since=START + 100, seconds=number * STEP)
            history.append(replace(again, tracking=tracking), START + 100 + number * STEP)
    with Recording(path) as recording:
        with pytest.raises(UsageError, match=r"tracking began anew at 20.* choose both before"):
            of_recording(recording, "-2m", None)
        # Without --from the history begins with the session.
        assert of_recording(recording, None, None).window.span == 2 * STEP
