# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from slabmon.runtime.files import check_writable, write_whole


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["new"]


def test_a_file_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"an earlier and longer content")
    path.chmod(0o604)
    link.symlink_to(path)
    write_whole(link, b"content")
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o604
    assert link.is_symlink()


def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    write_whole(Path(os.devnull), b"content")
    assert not Path(os.devnull).is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_whole(pipe, b"content")
    reader.join(10)
    assert received == [b"content"]


def test_a_file_in_a_folder_that_is_not_writable_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("slabmon.runtime.files.tempfile.mkstemp", refused)
    path = tmp_path / "file"
    with pytest.raises(PermissionError):
        write_whole(path, b"content")
    assert not path.exists()
    path.write_bytes(b"an earlier and longer content")
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("new", None),
        ("old", None),
        ("link", None),
        ("pipe", None),
        ("", IsADirectoryError),
        ("none/new", FileNotFoundError),
        ("old/new", NotADirectoryError),
        ("/dev/null", None),
        ("/proc/new", FileNotFoundError),
    ],
)
def test_whether_a_file_can_be_written_is_known_without_a_change(
    tmp_path: Path, name: str, error: type[OSError] | None
) -> None:
    (tmp_path / "old").write_bytes(b"an earlier content")
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(error) if error else nullcontext():
        check_writable(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "old").read_bytes() == b"an earlier content"


@pytest.mark.parametrize(("name", "writable"), [("file", True), ("file", False), ("new", True)])
def test_a_folder_that_is_not_writable_is_enough_for_a_file_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, writable: bool
) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").touch()
    monkeypatch.setattr("slabmon.runtime.files.tempfile.TemporaryFile", refused)
    monkeypatch.setattr(os, "access", lambda *_: writable)
    fine = name == "file" and writable
    with nullcontext() if fine else pytest.raises(PermissionError):
        check_writable(tmp_path / name)


def test_a_full_device_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"content")
