# SPDX-License-Identifier: Apache-2.0
"""Recordings that are damaged, foreign or made to harm: one clear error, never a crash."""

from __future__ import annotations

import sqlite3
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabmon.base.errors import DamagedSnapshot, SlabmonError, UsageError
from slabmon.store import codec
from slabmon.store.compression import pack, unpack
from slabmon.store.recording import Recording
from slabmon.store.writer import CHAIN, RecordingWriter
from tests.support.recordings import START, STEP, damage, moment, noisy, record
from tests.support.snapshots import show_everything

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COUNT = 70
PAGE = 1024


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("hostile") / "slabs.db", COUNT)


@pytest.fixture
def path(tmp_path: Path, intact: Path) -> Path:
    (tmp_path / "slabs.db").write_bytes(intact.read_bytes())
    return tmp_path / "slabs.db"


def read_all(path: Path) -> int:
    """Reads a recording in every way; returns how many snapshots could be shown. Whatever else
    than a SlabmonError happens is for the test to fail on."""
    shown = 0
    try:
        with Recording(path) as found:
            first, last = found.span()
            for time in (first, (first + last) / 2, last):
                try:
                    show_everything(found.at(time).snapshot)
                    shown += 1
                except SlabmonError as error:
                    check(error, path)
            for snapshot in found.between():
                assert snapshot.time == snapshot.time
                shown += 1
    except SlabmonError as error:
        check(error, path)
    return shown


def check(error: SlabmonError, path: Path) -> None:
    message = str(error)
    assert error.exit_code in (2, 3)
    assert str(path) in message
    assert len(message) < 600
    assert message.isprintable()


def test_the_intact_one_can_be_read(path: Path) -> None:
    assert read_all(path) == COUNT + 3


@settings(max_examples=80)
@given(st.data())
def test_damaged_anywhere(path: Path, intact: Path, data: st.DataObject) -> None:
    damaged = bytearray(intact.read_bytes())
    size = len(damaged)
    for _ in range(data.draw(st.integers(1, 5))):
        # Heads of pages matter most: they are what SQLite follows.
        page = data.draw(st.integers(0, size // PAGE - 1)) * PAGE
        inside = data.draw(st.one_of(st.integers(0, 110), st.integers(0, PAGE - 1)))
        raw = data.draw(st.binary(min_size=1, max_size=8))
        damaged[page + inside : page + inside + len(raw)] = raw
    path.write_bytes(damaged[:size])
    read_all(path)


@given(st.integers(0, 2**20))
def test_cut_off_anywhere(path: Path, intact: Path, size: int) -> None:
    whole = intact.read_bytes()
    path.write_bytes(whole[: size % len(whole)])
    read_all(path)


@given(st.binary(max_size=4096))
def test_a_hostile_log_beside_it(path: Path, log: bytes) -> None:
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(b"\x37\x7f\x06\x82" + log)
    try:
        read_all(path)
    finally:
        wal.unlink(missing_ok=True)


@settings(max_examples=30)
@given(st.data())
def test_writing_to_a_damaged_one(path: Path, intact: Path, data: st.DataObject) -> None:
    damaged = bytearray(intact.read_bytes())
    size = len(damaged)
    position = data.draw(st.one_of(st.integers(0, 110), st.integers(0, size - 1)))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        with RecordingWriter(path) as history:
            for number in range(3):
                history.append(moment(number), START + number)
    except SlabmonError as error:
        check(error, path)
    for leftover in path.parent.glob("slabs.db*"):
        leftover.unlink()
    path.write_bytes(intact.read_bytes())
    with RecordingWriter(path) as history:  # nothing of the attempt holds the file
        assert history.span()[0] == START


def change(path: Path, *statements: str) -> None:
    """Changes a recording with SQL."""
    with sqlite3.connect(path, isolation_level=None) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("PRAGMA application_id = 1", "not a slabmon recording"),
        ("PRAGMA user_version = 2", "format 2"),
        ("CREATE TABLE more (x)", "not those of a recording"),
        (
            "CREATE TRIGGER t AFTER INSERT ON snapshots BEGIN DELETE FROM snapshots; END",
            "not those",
        ),
        ("DROP INDEX snapshots_time", "not those"),
        ("DELETE FROM snapshots", "is empty"),
    ],
)
def test_what_is_no_recording_of_ours(path: Path, statement: str, says: str) -> None:
    change(path, statement)
    with pytest.raises(UsageError, match=says), Recording(path) as found:
        found.at(0)


def test_an_endless_view_is_never_run(path: Path) -> None:
    change(
        path,
        "DROP TABLE snapshots",
        "CREATE VIEW snapshots AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id FROM n) "
        "SELECT id, 1 AS time, id AS key, x'' AS data FROM n",
    )
    with pytest.raises(UsageError, match="not those"):
        Recording(path)


def frame_of_unknown_size(raw: bytes) -> bytes:
    packer = zstd.ZstdCompressor()
    return packer.compress(raw[:1], packer.FLUSH_BLOCK) + packer.compress(
        raw[1:], packer.FLUSH_FRAME
    )


ENCODED = codec.encode(moment(0))
BAD_DATA: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: b"\0" * 100,
    "no frame of a snapshot": lambda: pack(b"hello", b""),
    "two frames": lambda: pack(ENCODED, b"") + pack(ENCODED, b""),
    "a cut frame": lambda: pack(ENCODED, b"")[:-5],
    "a frame of unknown size": lambda: frame_of_unknown_size(ENCODED),
    "built on something else": lambda: pack(ENCODED, ENCODED[:-1] + b"x"),
    "of another version": lambda: pack(codec.MAGIC + b"1234" + ENCODED[12:], b""),
    "a bomb": lambda: pack(bytes(codec.MAX_BYTES + 1), b""),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_spoils_only_what_builds_on_it(path: Path, kind: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE snapshots SET data = ? WHERE id = 61", (BAD_DATA[kind](),))
    database.close()
    with Recording(path) as found:
        tracemalloc.start()
        try:
            for number in (60, 65):
                with pytest.raises(UsageError, match="snapshot 6"):
                    found.at(START + number * STEP)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        for number in (0, 59):
            found.at(START + number * STEP)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshots SET key = 66 WHERE id = 65",
        "UPDATE snapshots SET key = -9223372036854775808 WHERE id = 65",
        "UPDATE snapshots SET key = 64 WHERE id = 65",
        "DELETE FROM snapshots WHERE id = 63",
        "DELETE FROM snapshots WHERE id = 61",
    ],
)
def test_groups_that_do_not_fit_together(path: Path, statement: str) -> None:
    change(path, statement)
    with Recording(path) as found:
        with pytest.raises(UsageError, match="snapshot 65"):
            found.at(START + 64 * STEP)
        found.at(START + 50 * STEP)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_the_ends_of_numbering(path: Path, number: int) -> None:
    change(path, f"UPDATE snapshots SET id = {number}, key = {number} WHERE id = 1")
    read_all(path)
    try:
        with RecordingWriter(path) as history:
            history.append(moment(0), START)
    except UsageError as error:
        check(error, path)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_compression_gives_back_what_it_was_given(raw: bytes, previous: bytes) -> None:
    assert unpack(pack(raw, previous), previous) == raw


def test_a_limit_on_what_is_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slabmon.store.compression.MAX_BYTES", len(ENCODED) - 1)
    with Recording(path) as found, pytest.raises(UsageError, match="claims to hold"):
        found.at(START)


def test_one_damaged_snapshot_and_what_builds_on_it_are_left_out_on_request(
    path: Path,
) -> None:
    damage(path, 5)
    group = range(5, CHAIN + 1)
    with Recording(path) as found:
        with pytest.raises(DamagedSnapshot, match="snapshot 5: "):
            list(found.between())
        damaged: dict[float, str] = {}
        shown = [moment.time for moment in found.between(damaged=damaged)]
        assert list(damaged) == [START + (number - 1) * STEP for number in group if number <= COUNT]
        assert sorted([*shown, *damaged]) == found.times()
        with pytest.raises(DamagedSnapshot):
            found.at(START + 4 * STEP)
        with pytest.raises(DamagedSnapshot):
            list(found.steps(START + 4 * STEP))


def test_a_damaged_page_of_one_snapshot_is_that_snapshots(path: Path) -> None:
    """SQLite finds it when it follows the chain of overflow pages."""
    with RecordingWriter(path) as writer:
        writer.append(noisy(COUNT), START + COUNT * STEP)
    data = path.read_bytes()
    with Recording(path) as found:
        raw = found._database.execute("SELECT data FROM snapshots ORDER BY id DESC").fetchone()[0]
    # An overflow page is the number of the next one, and a part of the snapshot.
    page = next(at for at in range(0, len(data), PAGE) if data[at + 4 : at + PAGE] in raw)
    path.write_bytes(data[:page] + b"\xff" * 4 + data[page + 4 :])
    with Recording(path) as found:
        assert found.at(START).time == START
        with pytest.raises(DamagedSnapshot, match="malformed"):
            found.at(START + COUNT * STEP)
