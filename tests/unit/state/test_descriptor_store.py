# SPDX-License-Identifier: Apache-2.0
"""What a killed daemon left pinned."""

from __future__ import annotations

import os
from pathlib import Path

from slabmon.daemon.lock import only_daemon
from slabmon.state.descriptor_store import left_behind


def test_what_is_pinned_while_no_daemon_runs_is_left_behind(tmp_path: Path) -> None:
    pins, lock = tmp_path / "pins", tmp_path / "lock"
    assert left_behind(pins, lock) == 0
    pins.mkdir()
    for name in ("map-pool", "program-on_kfree", "link-kfree", "of_others"):
        (pins / name).touch()
    assert left_behind(pins, lock) == 3
    lock.write_text(f"{os.getpid()}\n")
    assert left_behind(pins, lock) == 0, "a daemon runs"
    lock.write_text("4194304999\n")
    assert left_behind(pins, lock) == 3
    lock.write_text("")
    assert left_behind(pins, lock) == 3


def test_nothing_is_left_behind_while_a_daemon_has_web_processes(tmp_path: Path) -> None:
    pins, lock = tmp_path / "pins", tmp_path / "lock"
    pins.mkdir()
    (pins / "map-pool").touch()
    with only_daemon(lock) as held:
        held.record([os.getpid()])
        assert len(lock.read_text().splitlines()) == 2
        assert left_behind(pins, lock) == 0
    assert left_behind(pins, lock) == 1
