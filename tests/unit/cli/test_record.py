# SPDX-License-Identifier: Apache-2.0
"""slabmon record, over a source that needs no kernel."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from slabmon.base.errors import NeedsRoot, UnsupportedHost
from slabmon.cli.main import main
from slabmon.kernel import session
from slabmon.model import Snapshot
from slabmon.sources.live import LiveSource
from slabmon.store.recording import Recording
from tests.support.recordings import damage, moment, record
from tests.support.snapshots import assert_same


class Kernel:
    """What open_tracker() gives: counts its snapshots, fails or is interrupted at some."""

    def __init__(self) -> None:
        self.taken = 0
        self.fails: set[int] = set()
        self.interrupted_at = -1
        self.censuses = 0
        self.removes: Path | None = None  # at the third snapshot

    def snapshot(self, details: bool = False) -> Snapshot:
        assert details
        number = self.taken
        self.taken += 1
        if number == self.interrupted_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == 2 and self.removes:
            self.removes.unlink()
        if number in self.fails:
            raise UnsupportedHost("tables are gone")
        return moment(number)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    def open_tracker(_: object) -> AbstractContextManager[Kernel]:
        return nullcontext(made)

    def request_census(_: LiveSource) -> None:
        made.censuses += 1

    monkeypatch.setattr(session, "open_tracker", open_tracker)
    monkeypatch.setattr(LiveSource, "request_census", request_census)
    return made


def numbers(path: Path) -> int:
    """How many snapshots there are; each must be the one that was taken."""
    with Recording(path) as found:
        snapshots = [snapshot for _, snapshot in found.between()]
    for number, snapshot in enumerate(snapshots):
        assert_same(snapshot, moment(number))
    return len(snapshots)


def test_it_records_until_it_is_told_to_stop(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slabs.db"
    kernel.interrupted_at = 3
    assert main(["record", "-o", str(path), "--interval", "0.1s"]) == 0
    assert numbers(path) == kernel.taken == 4
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines()[-1] == "4 snapshots recorded"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("options", "censuses"), [([], 1), (["--census", "0"], 0)])
def test_censuses_are_taken_at_intervals_from_the_start(
    tmp_path: Path, kernel: Kernel, options: list[str], censuses: int
) -> None:
    path = tmp_path / "slabs.db"
    assert main(["record", "-o", str(path), "--seconds", "1s", "--interval", "0.2s", *options]) == 0
    assert kernel.censuses == censuses


def test_it_records_for_a_while(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "slabs.db"
    assert main(["record", "-o", str(path), "--interval", "0.1", "--seconds", "0.35s"]) == 0
    assert 3 <= numbers(path) <= 5


@pytest.mark.parametrize(("seconds", "count"), [("0.3s", 2), ("0", 1)])
def test_the_last_snapshot_is_of_the_end(
    tmp_path: Path, kernel: Kernel, seconds: str, count: int
) -> None:
    path = tmp_path / "slabs.db"
    assert main(["record", "-o", str(path), "--seconds", seconds]) == 0
    assert numbers(path) == count
    with Recording(path) as found:
        first, last = found.span()
    assert last - first >= 0.29 * (count - 1)


@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_recording_is_not_continued_and_stays(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    path = record(tmp_path / "slabs.db", 3)
    damage(path, number)
    before = path.read_bytes()
    assert main(["record", "-o", str(path), "--seconds", "0", "--keep", "1h"]) == 2
    error = capsys.readouterr().err
    assert f"recording {path}, snapshot {number}: " in error
    assert error.endswith("; it stays as it is: record to another file\n")
    assert kernel.taken == 0
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be_is_an_error_before_tracking(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path, tmp_path / "none" / "slabs.db"):
        assert main(["record", "-o", str(path)]) == 2
        assert f"cannot write {path}: " in capsys.readouterr().err
    assert kernel.taken == 0


def test_without_a_session_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise NeedsRoot("run it as root")

    monkeypatch.setattr(session, "open_tracker", refuse)
    assert main(["record", "-o", str(tmp_path / "slabs.db")]) == 3
    assert not list(tmp_path.iterdir())


def test_a_failure_in_between_is_told_once_and_recording_goes_on(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.fails, kernel.interrupted_at = {1, 2}, 3
    assert main(["record", "-o", str(tmp_path / "slabs.db"), "--interval", "0.1"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("tables are gone") == 1
    assert "recording again" in errors
    assert "2 snapshots recorded, 2 left out" in errors


def test_a_failure_at_the_end_is_an_error(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.fails, kernel.interrupted_at = {3}, 3
    assert main(["record", "-o", str(tmp_path / "slabs.db"), "--interval", "0.1"]) == 4
    assert numbers(tmp_path / "slabs.db") == 3
    *_, summary, error = capsys.readouterr().err.splitlines()
    assert (summary, error) == (
        "3 snapshots recorded, 1 left out",
        "slabmon: error: tables are gone",
    )


def test_a_file_that_is_gone_is_an_error(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slabs.db"
    kernel.removes = path
    assert main(["record", "-o", str(path), "--interval", "0.1"]) == 2
    *_, summary, error = capsys.readouterr().err.splitlines()
    assert summary == "3 snapshots recorded"
    assert "was moved, deleted or unmounted" in error


def test_a_failure_at_the_start_is_an_error(tmp_path: Path, kernel: Kernel) -> None:
    kernel.fails = {0}
    assert main(["record", "-o", str(tmp_path / "slabs.db")]) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        ["--interval", "0"],
        ["--interval", "x"],
        ["--keep", "x"],
        ["--max-size", "1K"],
        ["--max-size", "x"],
        ["--seconds", "x"],
        ["--exact", "x"],
        ["--connect", "x"],
    ],
)
def test_bad_options_make_no_file(tmp_path: Path, kernel: Kernel, wrong: list[str]) -> None:
    assert main(["record", "-o", str(tmp_path / "slabs.db"), *wrong]) == 2
    assert kernel.taken == 0


def test_limits_are_kept(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "slabs.db"
    for _ in range(2):
        kernel.interrupted_at = kernel.taken
        code = main(
            ["record", "-o", str(path), "--interval", "0.1", "--keep", "1h", "--max-size", "1M"]
        )
        assert code == 0
    assert numbers(path) == 2
