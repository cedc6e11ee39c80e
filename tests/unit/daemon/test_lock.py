# SPDX-License-Identifier: Apache-2.0
"""One daemon at a time, and what the next one learns about one that was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slabmon.base.errors import PermissionDenied, UsageError
from slabmon.daemon.lock import only_daemon
from slabmon.daemon.orphans import ProcessIdentity


def test_a_second_daemon_is_told_the_first_ones_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with only_daemon(path) as lock:
        assert not lock.crashed
        with pytest.raises(UsageError, match=rf"process {os.getpid()} .*systemctl stop"):
            only_daemon(path).__enter__()
        assert path.read_text() == f"{os.getpid()}\n", "the one refused changes nothing"
        path.write_text("")
        with pytest.raises(UsageError, match="not recorded"):
            only_daemon(path).__enter__()
    with only_daemon(path) as lock:
        assert not lock.crashed
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.read_text() == ""


def test_the_lock_file_of_a_daemon_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("123456789\n")
    with only_daemon(path) as lock:
        assert lock.crashed
        assert lock.orphans == ()
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_web_processes_of_a_daemon_that_was_killed_are_known(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with only_daemon(path) as lock:
        lock.record([os.getpid(), 2_000_000_001])
        killed = path.read_text()
    path.write_text(killed + "nonsense\n")
    with only_daemon(path) as lock:
        assert lock.crashed
        assert lock.orphans == (ProcessIdentity.of(os.getpid()),)
        lock.record([])
        assert path.read_text() == f"{os.getpid()}\n"


def test_no_right_to_the_file_is_an_error_and_no_room_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionDenied, match="lock-file"):
        only_daemon(tmp_path / "lock").__enter__()
    monkeypatch.setattr(os, "open", full)
    with only_daemon(tmp_path / "lock") as lock:
        assert "No space left" in caplog.text
        lock.record([1])


def test_a_full_disk_loses_the_numbers_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    path = tmp_path / "lock"
    monkeypatch.setattr(os, "pwrite", full)
    with only_daemon(path), pytest.raises(UsageError, match="not recorded"):
        only_daemon(path).__enter__()
