# SPDX-License-Identifier: Apache-2.0
"""What times choose of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.report.selection import MAX_POINTS, ReportPeriod, of_past
from slabmon.store.recording import Recording
from slabmon.store.writer import RecordingWriter
from tests.support.recordings import START, STEP, moment, record


def of_recording(recording: Recording, start: str | None, end: str | None) -> ReportPeriod:
    return of_past(recording, f"recording {recording.path}", start, end)


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
    with pytest.raises(UsageError, match=r"is outside the recording .* covers 20"):
        of_recording(recording, start, end)


@pytest.mark.parametrize(("start", "end"), [("-50s", "-50s"), ("-50s", "-60s"), ("-42s", "-41s")])
def test_a_change_takes_two_moments(recording: Recording, start: str, end: str) -> None:
    with pytest.raises(UsageError, match="is not before"):
        of_recording(recording, start, end)


def test_moments_of_two_sessions_cannot_be_compared(tmp_path: Path) -> None:
    path = record(tmp_path / "slabs.db", 3)
    with RecordingWriter(path) as history:
        for number in range(3):
            again = moment(number)
            tracking = replace(again.tracking, since=START + 100, seconds=number * STEP)
            history.append(replace(again, tracking=tracking), START + 100 + number * STEP)
    with Recording(path) as recording:
        with pytest.raises(UsageError, match=r"tracking restarted at 20.* choose both before"):
            of_recording(recording, "-2m", None)
        # Without --from the history begins with the session.
        assert of_recording(recording, None, None).window.span == 2 * STEP
