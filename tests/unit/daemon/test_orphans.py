# SPDX-License-Identifier: Apache-2.0
"""Web processes that a killed daemon left: those are ended, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slabmon.daemon.orphans import PROGRAM, ProcessIdentity, end_orphan

Start = Callable[..., subprocess.Popen[bytes]]
_SLEEP = "import time; print(flush=True); time.sleep(60)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + _SLEEP


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program that does nothing, with arguments that it ignores."""
    processes = []

    def run(*arguments: str, program: str = _SLEEP) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def identify(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = ProcessIdentity.of(process.pid)
    assert identity
    return identity


def test_an_orphan_is_ended(start: Start) -> None:
    process = start(PROGRAM)
    assert end_orphan(identify(process))
    assert process.wait(10) == -15


def test_one_that_does_not_listen_is_killed(start: Start) -> None:
    process = start(PROGRAM, program=_STUBBORN)
    assert end_orphan(identify(process))
    assert process.wait(10) == -9


def test_a_process_that_has_its_number_now_is_left_alone(start: Start) -> None:
    process = start(PROGRAM)
    pid, began = identify(process)
    assert end_orphan(ProcessIdentity(pid, began - 1))
    assert process.poll() is None


def test_another_program_is_left_alone(start: Start) -> None:
    process = start("slabmon.web.process.other")
    assert end_orphan(identify(process))
    assert process.poll() is None


def test_one_that_has_ended_is_no_obstacle(start: Start) -> None:
    process = start(PROGRAM)
    identity = identify(process)
    process.kill()
    process.wait()
    assert end_orphan(identity)


def test_an_identity_is_read_back_from_its_text() -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity
    assert ProcessIdentity.parse(str(identity)) == identity
    for text in ("", "1", "1 ", "-1 2", "1 2 3", "a b", "1 -2"):
        assert ProcessIdentity.parse(text) is None


def test_the_start_is_found_behind_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    fields = " ".join(str(number) for number in range(3, 30))
    (folder / "stat").write_text(f"7 (a) b (c 1 2) {fields}\n")
    assert ProcessIdentity.of(7, tmp_path) == ProcessIdentity(7, 22)
    (folder / "stat").write_text("7 (short")
    assert ProcessIdentity.of(7, tmp_path) is None
