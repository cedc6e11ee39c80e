# SPDX-License-Identifier: Apache-2.0
"""Recordings: what is written is read, what is old goes, nothing else is touched."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import DamagedSnapshot, UsageError
from slabmon.store.recording import LONGEST_CHAIN, Recording
from slabmon.store.writer import CHAIN, RecordingWriter, Retention, check_continued
from tests.support.recordings import START, STEP, damage, moment, noisy, record
from tests.support.snapshots import assert_same, synthetic

COUNT = 2 * CHAIN + 11


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("history") / "slabs.db", COUNT)


def when(number: int) -> float:
    return START + number * STEP


def test_all_moments_in_order(recording: Path) -> None:
    with Recording(recording) as found:
        assert found.span() == (when(0), when(COUNT - 1))
        assert found.times() == [when(i) for i in range(COUNT)]
        for number, (time, snapshot) in enumerate(found.between()):
            assert time == when(number)
            assert_same(snapshot, moment(number))
        assert number == COUNT - 1


@given(st.lists(st.integers(-1, COUNT), min_size=1, max_size=6), st.floats(0, 0.99))
def test_any_moment_in_any_order(recording: Path, numbers: list[int], later: float) -> None:
    with Recording(recording) as found:
        for number in numbers:
            nearest = min(max(number, 0), COUNT - 1)
            time, snapshot = found.at(when(number) + later * STEP)
            assert time == when(nearest)
            assert_same(snapshot, moment(nearest))


def test_the_ends_of_time(recording: Path) -> None:
    with Recording(recording) as found:
        assert found.at(float("-inf")).time == when(0)
        assert found.at(float("inf")).time == when(COUNT - 1)
        assert found.at(1e300).time == when(COUNT - 1)


def test_a_part_of_it(recording: Path) -> None:
    with Recording(recording) as found:
        some = [moment.time for moment in found.between(when(58), when(61))]
        assert some == [when(i) for i in range(58, 62)]
        assert found.times(when(COUNT)) == []


def test_a_finished_recording_is_one_file_of_its_owner(recording: Path) -> None:
    assert [path.name for path in recording.parent.iterdir()] == [recording.name]
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600


def test_reading_changes_nothing(recording: Path) -> None:
    before = recording.read_bytes()
    with Recording(recording) as found:
        found.at(when(7))
    assert recording.read_bytes() == before


def test_a_moment_at_rest_takes_little(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    with RecordingWriter(path) as history:
        for number in range(CHAIN):
            history.append(moment(0), when(number))
    with sqlite3.connect(path) as database:
        sizes = [size for (size,) in database.execute("SELECT length(data) FROM snapshots")]
    assert max(sizes[1:]) < 100 < sizes[0]


def keys(path: Path) -> list[int]:
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT id FROM snapshots WHERE id = key").fetchall()
    database.close()
    return [number for (number,) in found]


def test_a_host_at_rest_needs_few_whole_snapshots(tmp_path: Path) -> None:
    large = replace(moment(0), tracked=synthetic(1, 1, 1, 2_000).tracked)
    with RecordingWriter(tmp_path / "slabs.db") as history:
        for number in range(LONGEST_CHAIN + 2):
            history.append(large, when(number))
    assert keys(tmp_path / "slabs.db") == [1, LONGEST_CHAIN + 1]


def test_a_host_that_changes_much_gets_them_often(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "slabs.db") as history:
        for number in range(2 * CHAIN + 1):
            history.append(noisy(number), when(number))
    assert keys(tmp_path / "slabs.db") == [1, CHAIN + 1, 2 * CHAIN + 1]


def test_recording_goes_on_after_a_pause(tmp_path: Path) -> None:
    path = record(tmp_path / "slabs.db", 3)
    with RecordingWriter(path) as history:
        history.append(moment(3), when(3))
        history.append(moment(4), when(4))
        assert_same(history.at(when(4)).snapshot, moment(4))
    with Recording(path) as found:
        for number, (_, snapshot) in enumerate(found.between()):
            assert_same(snapshot, moment(number))
        assert number == 4


def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path) -> None:
    times = [when(i) for i in (5, 6, 2, 3, 7)]
    with RecordingWriter(tmp_path / "slabs.db", Retention(seconds=10 * STEP)) as history:
        for number, time in enumerate(times):
            history.append(moment(number), time)
        assert history.times() == sorted(times)
        for number, time in enumerate(times):
            assert_same(history.at(time).snapshot, moment(number))
        assert [m.time for m in history.between()] == sorted(times)


def test_reading_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    with RecordingWriter(path) as history:
        history.append(moment(0), when(0))
        with Recording(path) as found:
            for number in range(1, 5):
                history.append(moment(number), when(number))
                assert found.span() == (when(0), when(number))
                assert_same(found.at(when(number)).snapshot, moment(number))


def test_what_retention_deletes_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    with RecordingWriter(path, Retention(seconds=STEP)) as history:
        for number in range(2 * CHAIN):
            history.append(moment(number), when(number))
        with Recording(path) as found:
            reading = found.between()
            assert next(reading).time == when(CHAIN)
            for number in range(2 * CHAIN, 3 * CHAIN + 2):
                history.append(moment(number), when(number))
            assert next(reading, None) is None


@pytest.mark.parametrize("age", [0, 1, 10, 11, CHAIN + 10, CHAIN + 11, 2 * CHAIN + 10, 3 * CHAIN])
def test_retention_by_age_keeps_all_that_is_younger(tmp_path: Path, age: int) -> None:
    path = record(tmp_path / "slabs.db", COUNT, Retention(seconds=age * STEP))
    with Recording(path) as found:
        kept = found.times()
    oldest_asked = max(0, COUNT - 1 - age)
    assert kept == [when(i) for i in range(oldest_asked - oldest_asked % CHAIN, COUNT)]


def test_retention_by_size(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    limit = 1 << 20
    sizes = []
    with RecordingWriter(path, Retention(bytes=limit)) as history:
        for number in range(5 * CHAIN):
            history.append(noisy(number), when(number))
            sizes.append(path.stat().st_size)
        kept = history.times()
    assert max(sizes) <= limit + (1 << 16)
    assert kept[-1] == when(5 * CHAIN - 1)
    assert CHAIN <= len(kept) < 5 * CHAIN
    with Recording(path) as found:
        assert len(list(found.between())) == len(kept)


def test_the_latest_group_outlives_any_limit(tmp_path: Path) -> None:
    path = record(tmp_path / "slabs.db", CHAIN + 5, Retention(seconds=0.001, bytes=1))
    with Recording(path) as found:
        assert found.times() == [when(i) for i in range(CHAIN, CHAIN + 5)]


def test_lower_limits_shrink_the_file(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    with RecordingWriter(path) as history:
        for number in range(3 * CHAIN):
            history.append(noisy(number), when(number))
    limit = path.stat().st_size // 2
    with RecordingWriter(path, Retention(bytes=limit)):
        pass
    assert path.stat().st_size <= limit
    with Recording(path) as found:
        assert found.span()[1] == when(3 * CHAIN - 1)


def test_an_empty_recording(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "slabs.db") as history:
        for read in (history.span, lambda: history.at(0)):
            with pytest.raises(UsageError, match="is empty"):
                read()
        assert not history.times()
        assert next(history.between(), None) is None


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    with RecordingWriter(path) as history:
        with pytest.raises(UsageError, match="another process records"):
            RecordingWriter(path)
        history.append(moment(0), when(0))
    with RecordingWriter(path) as history:
        assert_same(history.at(when(0)).snapshot, moment(0))


def test_a_failed_append_leaves_the_recording_whole(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "slabs.db") as history:
        history.append(moment(0), when(0))
        history._database.execute("PRAGMA max_page_count = 1")
        large = replace(moment(1), tracked=synthetic(objects=10_000).tracked)
        with pytest.raises(UsageError, match="full"):
            history.append(large, when(1))
        history._database.execute("PRAGMA max_page_count = 100000")
        history.append(moment(2), when(2))
        assert history.times() == [when(0), when(2)]
        assert_same(history.at(when(2)).snapshot, moment(2))


def test_a_snapshot_can_be_read_in_steps_while_others_are_read_and_written(tmp_path: Path) -> None:
    record(path := tmp_path / "slabs.db", 9)
    with RecordingWriter(path) as history:
        steps, others = history.steps(when(8)), history.steps(when(5))
        assert [next(steps), next(steps), next(others)] == [None, None, None]
        history.append(moment(9), when(9))
        assert_same(history.at(when(2)).snapshot, moment(2))
        for number, reading in ((8, steps), (5, others)):
            *pauses, recorded = reading
            assert set(pauses) == {None}
            assert recorded is not None
            assert recorded.time == when(number)
            assert_same(recorded.snapshot, moment(number))


def test_a_snapshot_that_retention_deletes_between_steps_is_an_error(tmp_path: Path) -> None:
    record(path := tmp_path / "slabs.db", 9)
    with RecordingWriter(path) as history:
        steps = history.steps(when(8))
        assert next(steps) is None
        history._database.execute("DELETE FROM snapshots")
        with pytest.raises(UsageError, match="snapshot 9: a snapshot it builds on is missing"):
            list(steps)


@pytest.mark.parametrize("content", [b"", None], ids=["no bytes", "no tables"])
def test_a_file_with_nothing_in_it_becomes_a_recording(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "slabs.db"
    if content is None:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA journal_mode = WAL")
        database.close()
    else:
        path.write_bytes(content)
    record(path, 2)
    with Recording(path) as found:
        assert len(found.times()) == 2


@pytest.mark.parametrize("kind", ["text", "database"])
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other"
    if kind == "text":
        path.write_text("not a database " * 1000)
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE snapshots (id INTEGER)")
        database.close()
    before = path.read_bytes()
    for opened in (RecordingWriter, Recording):
        with pytest.raises(UsageError, match="other"):
            opened(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(("damaged", "found"), [(1, 1), (4, 6), (6, 6), (2, None)])
def test_what_is_to_be_continued_is_looked_at_for_damage(
    tmp_path: Path, damaged: int, found: int | None
) -> None:
    path = tmp_path / "slabs.db"
    for _ in range(2):  # a group of three snapshots each
        record(path, 3)
    before = path.read_bytes()
    check_continued(path, damage=True)
    assert path.read_bytes() == before
    damage(path, damaged)
    check_continued(path)
    with (
        nullcontext()
        if found is None
        else pytest.raises(DamagedSnapshot, match=f"snapshot {found}")
    ):
        check_continued(path, damage=True)


@pytest.mark.parametrize("content", [b"", None, "absent"])
def test_where_there_is_nothing_there_is_no_damage(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "slabs.db"
    if content == b"":
        path.write_bytes(b"")
    elif content is None:
        record(path, 0)
    check_continued(path, damage=True)
    assert path.exists() == (content != "absent")


def test_damaged_pages_are_found_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    for _ in range(3):
        with RecordingWriter(path) as writer:
            writer.append(noisy(1))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2048 * 1024
    content[middle : middle + 1024] = b"\xa5" * 1024
    path.write_bytes(content)
    check_continued(path)
    with pytest.raises(UsageError, match=r"slabs\.db is damaged: .* page "):
        check_continued(path, damage=True)
    assert path.read_bytes() == content


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "slabs.db"):
        for opened in (RecordingWriter, Recording):
            with pytest.raises(UsageError):
                opened(path)
