# SPDX-License-Identifier: Apache-2.0
"""A recording played as a source: speed, seeking, its ends; and the options that choose one."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.cli.source_options import add_connect, add_replay, open_source
from slabmon.kernel.settings import Settings
from slabmon.sources.daemon import DaemonSource
from slabmon.sources.live import LiveSource
from slabmon.sources.recording import RecordingSource
from slabmon.store.writer import RecordingWriter
from tests.support.recordings import START, STEP, moment, record
from tests.support.snapshots import assert_same

COUNT = 12


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("replayed") / "slabs.db", COUNT)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def shows(source: RecordingSource, number: int) -> None:
    assert_same(source.snapshot(), moment(number))


def test_it_plays_from_the_first_to_the_last(recording: Path) -> None:
    clock = Clock()
    with RecordingSource(recording, monotonic=clock) as source:
        for passed, number in ((0, 0), (9.9, 0), (0.1, 1), (STEP * 7, 8), (1e6, COUNT - 1)):
            clock.now += passed
            shows(source, number)
        assert source.clock.now == START + (COUNT - 1) * STEP


@pytest.mark.parametrize("speed", [0.5, 10, 3600])
def test_speed(recording: Path, speed: float) -> None:
    clock = Clock()
    with RecordingSource(recording, speed, monotonic=clock) as source:
        clock.now += 4 * STEP / speed
        shows(source, 4)
        assert source.clock.speed == speed


def test_pause_and_changes_of_speed_go_on_where_it_was(recording: Path) -> None:
    clock = Clock()
    with RecordingSource(recording, monotonic=clock) as source:
        clock.now += 3 * STEP
        source.clock.play(0)
        clock.now += 1000
        shows(source, 3)
        source.clock.play(-1)
        clock.now += 2 * STEP
        shows(source, 1)
        clock.now += 1000
        shows(source, 0)


def test_seeking(recording: Path) -> None:
    clock = Clock()
    with RecordingSource(recording, 0, START + 6 * STEP, clock) as source:
        shows(source, 6)
        source.clock.seek(START + 2.5 * STEP)
        assert source.clock.now == START + 2.5 * STEP
        shows(source, 2)
        source.clock.seek(0)
        shows(source, 0)
        source.clock.seek(START * 2)
        shows(source, COUNT - 1)


def test_the_recording_answers_beside_it(recording: Path) -> None:
    with RecordingSource(recording) as source:
        assert len(source.recording.times()) == COUNT
        shows(source, 0)


def test_a_recording_that_grows_is_followed(tmp_path: Path) -> None:
    clock = Clock()
    with RecordingWriter(tmp_path / "slabs.db") as history:
        history.append(moment(0), START)
        with RecordingSource(tmp_path / "slabs.db", monotonic=clock) as source:
            clock.now += STEP
            shows(source, 0)
            history.append(moment(1), START + STEP)
            shows(source, 1)


def test_an_empty_recording_is_an_error_at_once(tmp_path: Path) -> None:
    record(tmp_path / "slabs.db", 0)
    with pytest.raises(UsageError, match="is empty"), RecordingSource(tmp_path / "slabs.db"):
        pass


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_connect(parser)
    add_replay(parser)
    return parser.parse_args(arguments)


def test_options_choose_the_source(recording: Path) -> None:
    settings = Settings()
    assert isinstance(open_source(options(), settings), LiveSource)
    assert isinstance(open_source(options("--connect", "unix:/x"), settings), DaemonSource)
    assert isinstance(open_source(options("--replay", str(recording)), settings), RecordingSource)
    with pytest.raises(UsageError, match="cannot be combined"):
        open_source(options("--connect", "unix:/x", "--replay", "x"), settings)
