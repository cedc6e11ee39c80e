# SPDX-License-Identifier: Apache-2.0
"""The file of what verdicts have watched: written in turns, whole or not at all; and how long it
lasts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.state.checkpoint_file import SLOT_BYTES, CheckpointFile, open_checkpoint_file
from slabmon.state.settings import StateSettings
from slabmon.state.slots import HEAD, head


@pytest.fixture
def descriptor() -> Iterator[int]:
    opened = os.memfd_create("checkpoint")
    yield opened
    os.close(opened)


def content(descriptor: int) -> bytes | None:
    return CheckpointFile(descriptor).read()


def test_nothing_written_is_nothing(descriptor: int) -> None:
    assert content(descriptor) is None


def test_what_was_written_last_is_read_by_another_process(descriptor: int) -> None:
    for number in range(5):
        writer = CheckpointFile(descriptor)
        writer.read()
        for each in range(3):
            written = f"{number} {each}".encode() * (5 - each)
            writer.write(written)
            assert content(descriptor) == written


@pytest.mark.parametrize("slot", [0, SLOT_BYTES])
def test_a_writer_that_dies_halfway_leaves_what_was_before(descriptor: int, slot: int) -> None:
    writer = CheckpointFile(descriptor)
    writer.write(b"first")
    writer.write(b"second")
    os.pwrite(descriptor, b"\xff", slot + HEAD.size)
    assert content(descriptor) == (b"first" if slot else b"second")
    again = CheckpointFile(descriptor)
    before = again.read()
    again.write(b"third")
    os.pwrite(descriptor, b"\xff", (0 if slot == 0 else SLOT_BYTES) + HEAD.size)
    assert content(descriptor) == before, "the slot that was damaged is written first"


def test_one_that_takes_over_while_the_other_still_writes(descriptor: int) -> None:
    old, new = CheckpointFile(descriptor), CheckpointFile(descriptor)
    old.write(b"old")
    assert new.read() == b"old"
    old.write(b"late")
    new.write(b"new")
    assert content(descriptor) == b"new"


@pytest.mark.parametrize(
    "forged",
    [
        HEAD.pack(1 << 63, 1, 0) + b"x",
        HEAD.pack(1, 1 << 31, 0),
        head((1 << 64) - 1, b"x") + b"x",
        head(7, b"xx") + b"x",
        b"\xff" * 100,
    ],
)
def test_what_nobody_writes_is_nothing(descriptor: int, forged: bytes) -> None:
    os.pwrite(descriptor, forged, 0)
    file = CheckpointFile(descriptor)
    assert file.read() is None
    file.write(b"good")
    assert content(descriptor) == b"good"


def test_what_is_too_large_is_an_error_and_changes_nothing(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slabmon.state.checkpoint_file.SLOT_BYTES", 64)
    file = CheckpointFile(descriptor)
    file.write(b"x" * (64 - HEAD.size))
    with pytest.raises(OSError, match="49 bytes, 48 at most"):
        file.write(b"y" * 49)
    assert content(descriptor) == b"x" * 48


def test_a_full_disk_is_an_error_and_changes_nothing(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = CheckpointFile(descriptor)
    file.write(b"before")
    write = os.pwrite
    for room in (0, 3):

        def full(fd: int, data: bytes, position: int, room: int = room) -> int:
            if room and len(data) > room:
                return write(fd, data[:room], position)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            file.write(b"after")
        monkeypatch.setattr(os, "pwrite", write)
        assert content(descriptor) == b"before"


class Place:
    """A directory with a lock."""

    def __init__(self, folder: Path) -> None:
        self.settings = StateSettings(lock_file=str(folder / "lock"))
        self.file = folder / "lock.verdicts"

    def run(self, *, is_service: bool = False, keep: bool = True, crash: bool = False) -> None:
        """A daemon's life: a web process writes what it has read, and one letter more."""
        settings = StateSettings(keep=keep, lock_file=self.settings.lock_file)
        with open_checkpoint_file(settings, is_service) as descriptor:
            file = CheckpointFile(descriptor)
            self.found = file.read()
            file.write((self.found or b"") + b"x")
            if crash:
                raise RuntimeError

    def crash(self) -> None:
        with pytest.raises(RuntimeError):
            self.run(crash=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_lasts_over_crashes_and_is_readable_by_root_alone(place: Place) -> None:
    place.crash()
    assert place.file.stat().st_mode & 0o777 == 0o600
    place.crash()
    assert place.found == b"x"
    place.run()
    assert place.found == b"xx"


def test_an_end_on_request_removes_it_unless_a_manager_decides(place: Place) -> None:
    place.run(is_service=True)
    assert place.file.exists()
    place.run()
    assert place.found == b"x"
    assert not place.file.exists()


def test_where_nothing_is_kept_it_has_no_name_and_an_old_one_goes(place: Place) -> None:
    place.crash()
    place.run(keep=False)
    assert place.found is None
    assert not place.file.exists()


def test_without_a_directory_it_has_no_name_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path / "gone")
    place.run()
    place.run()
    assert place.found is None
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("verdicts begin again when the daemon does: no ")


def test_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    place.file.symlink_to(precious)
    place.run(is_service=True)
    assert precious.read_text() == "precious"
