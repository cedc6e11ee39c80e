# SPDX-License-Identifier: Apache-2.0
"""One daemon at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slabmon.base.errors import PermissionDenied, UsageError
from slabmon.daemon.lock import only_daemon


def test_a_second_daemon_is_told_the_first_ones_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with only_daemon(path) as crashed:
        assert not crashed
        with pytest.raises(UsageError, match=rf"process {os.getpid()} .*systemctl stop"):
            only_daemon(path).__enter__()
        path.write_text("")
        with pytest.raises(UsageError, match="not recorded"):
            only_daemon(path).__enter__()
    with only_daemon(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_lock_file_of_a_daemon_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("123456789\n")
    with only_daemon(path) as crashed:
        assert crashed
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
    with only_daemon(tmp_path / "lock"):
        assert "No space left" in caplog.text
