# SPDX-License-Identifier: Apache-2.0
"""slabmon report on the command line: sources, formats, errors."""

from __future__ import annotations

import errno
import gzip
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from slabmon.base.errors import UnsupportedHost, UsageError
from slabmon.cli.main import main
from slabmon.kernel import session
from slabmon.model import Snapshot
from slabmon.runtime import listeners
from slabmon.sources.daemon import DaemonSource
from slabmon.sources.live import LiveSource
from tests.support.builders import window_of
from tests.support.recordings import damage, moment, record


class Kernel:
    """What open_tracker() gives."""

    taken = censuses = 0

    def snapshot(self, details: bool = False) -> Snapshot:
        self.taken += 1
        return moment(self.taken)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    made = Kernel()

    def open_tracker(_: object) -> AbstractContextManager[Kernel]:
        return nullcontext(made)

    def request_census(_: LiveSource) -> None:
        made.censuses += 1

    monkeypatch.setattr(session, "open_tracker", open_tracker)
    monkeypatch.setattr(LiveSource, "request_census", request_census)
    monkeypatch.setattr(listeners, "DEFAULT_SOCKET", str(tmp_path / "nobody.sock"))
    return made


@pytest.fixture
def slabs(tmp_path: Path) -> str:
    return str(record(tmp_path / "slabs.db", 30))


def run(*arguments: str) -> int:
    return main(["report", *arguments])


@pytest.mark.usefixtures("kernel")
def test_each_format_is_written(slabs: str, tmp_path: Path) -> None:
    for name, begin in (("html", b"<!DOCTYPE html>"), ("folded", b"probe_card_[card]")):
        path = tmp_path / f"out.{name}"
        assert run("--replay", slabs, "--format", name, "-o", str(path)) == 0
        assert begin in path.read_bytes()
    path = tmp_path / "out.pb.gz"
    assert run("--replay", slabs, "--format", "pprof", "-o", str(path)) == 0
    assert b"probe_card" in gzip.decompress(path.read_bytes())


@pytest.mark.usefixtures("kernel")
def test_without_a_file_it_goes_to_standard_output(
    slabs: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run("--replay", slabs) == 0
    output, errors = capfdbinary.readouterr()
    assert output.startswith(b"<!DOCTYPE html>")
    assert errors == b""


@pytest.mark.parametrize("times", [("--from", "-2m"), ("--from=-2m", "--to", "-30")])
@pytest.mark.usefixtures("kernel")
def test_moments_before_the_end_need_no_equals_sign(
    slabs: str, times: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "out.html"
    assert run("--replay", slabs, "-o", str(path), *times) == 0
    assert "Change in live bytes by kernel stack" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "-5m"], "need a past: use --replay with a recording, or --connect"),
        (["--to", "-5m"], "need a past"),
        (["--to", "-5m", "--seconds", "3"], "cannot be combined with --from and --to"),
        (["--replay", "SLABS", "--seconds", "3"], "--seconds cannot be combined with --replay"),
        (["--replay", "SLABS", "--connect", "http://x:1"], "cannot be combined"),
        (["--replay", "SLABS", "--from", "-5h"], "is outside the recording"),
        (["--replay", "SLABS", "--from", "soon"], "invalid time 'soon'"),
        (["--replay", "SLABS", "--by", "colour"], "expected one of cache, family, site"),
        (
            ["--replay", "SLABS", "--format", "folded", "--value", "allocated", "--by", "cache"],
            "allocation totals are kept by stack and call site only",
        ),
        (["--replay", "/absent.db"], "no recording /absent.db"),
        (["--format", "svg"], "invalid choice"),
        (["--seconds", "-1"], "expected seconds from 0"),
        (["--replay", "SLABS", "-o", "/absent/out.html"], "cannot write /absent/out.html"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    kernel: Kernel,
    slabs: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    try:
        code = run(*(slabs if argument == "SLABS" else argument for argument in arguments))
    except SystemExit as error:
        code = int(str(error))
    output, errors = capsys.readouterr()
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert kernel.taken == 0


@pytest.mark.usefixtures("kernel")
def test_a_page_does_not_fill_a_terminal(
    slabs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run("--replay", slabs) == 2
    assert "use -o FILE" in capsys.readouterr().err
    assert run("--replay", slabs, "--format", "folded") == 0


@pytest.mark.parametrize(
    ("options", "waits"),
    [((), [1.0] * 10), (("--seconds", "0"), []), (("--seconds", "118"), [2.0] * 59)],
)
def test_programs_of_its_own_are_watched_for_a_while(
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    waits: list[float],
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    path = tmp_path / "out.html"
    assert run("-o", str(path), *options) == 0
    assert slept == waits
    assert kernel.taken == len(waits) + 1
    assert kernel.censuses == 1
    assert ("No cache, call site or device grew in the last" in path.read_text()) == bool(waits)


def test_a_daemon_without_history_knows_what_grew_in_the_window_of_its_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("this daemon keeps no history")

    past = window_of(*map(moment, range(10))).past
    monkeypatch.setattr(DaemonSource, "snapshot", lambda *_, **__: moment(10))
    monkeypatch.setattr(DaemonSource, "window", lambda _: past)
    for name in ("span", "at", "leaks"):
        monkeypatch.setattr(DaemonSource, name, refuse)
    path = tmp_path / "out.html"
    assert run("--connect", "http://127.0.0.1:1", "-o", str(path)) == 0
    assert "grew in the last 1m40s" in path.read_text()
    assert "growth: watched" not in path.read_text()
    assert run("--connect", "http://127.0.0.1:1", "--seconds", "0", "-o", str(path)) == 0
    assert "Growth is unknown" in path.read_text()


@pytest.mark.usefixtures("kernel")
def test_a_moment_that_is_not_the_last(slabs: str, tmp_path: Path) -> None:
    path = tmp_path / "out.folded"
    assert run("--replay", slabs, "--to", "-100", "--format", "folded", "-o", str(path)) == 0
    assert path.read_text()


@pytest.mark.usefixtures("kernel")
def test_damaged_snapshots_are_left_out_and_counted(
    slabs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(Path(slabs), 25)  # and what builds on it, to the end
    path = tmp_path / "out.html"
    assert run("--replay", slabs, "-o", str(path)) == 0
    assert "grew in the last 3m50s" in path.read_text()
    error = capsys.readouterr().err
    assert error.startswith(f"slabmon: warning: 6 snapshots were left out: recording {slabs}, ")
    assert error.count("\n") == 1
    assert run("--replay", slabs, "--to", "-10s", "-o", str(path)) == 2
    assert "snapshot 29: " in capsys.readouterr().err
    damage(Path(slabs), 1)
    assert run("--replay", slabs, "-o", str(path)) == 2
    assert "snapshot 30: " in capsys.readouterr().err


@pytest.mark.usefixtures("kernel")
def test_a_dash_is_standard_output(
    slabs: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--replay", slabs, "-o", "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"<!DOCTYPE html>")
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("name", ["", "none/out.html"])
def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_watched(
    kernel: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run("-o", str(tmp_path / name)) == 2
    assert f"cannot write {tmp_path / name}: " in capsys.readouterr().err
    assert kernel.taken == 0


@pytest.mark.parametrize("earlier", [True, False])
def test_a_report_that_fails_leaves_no_file_or_the_last_one(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, earlier: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnsupportedHost("tables are gone")

    path = tmp_path / "out.html"
    if earlier:
        path.write_text("the last one")
    monkeypatch.setattr(kernel, "snapshot", fail)
    assert run("-o", str(path), "--seconds", "0") == 4
    assert path.exists() == earlier
    assert not earlier or path.read_text() == "the last one"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.usefixtures("kernel")
def test_a_terminal_is_told_what_was_written(
    slabs: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    path = tmp_path / "out.folded"
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert run("--replay", slabs, "--format", "folded", "-o", str(path)) == 0
    output, errors = capsys.readouterr()
    assert (output, errors) == ("", f"report written to {path}\n" if terminal else "")


@pytest.mark.usefixtures("kernel")
def test_a_report_that_cannot_be_written_leaves_the_last_one(
    slabs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "page.html"
    path.write_text("the last one")
    monkeypatch.setattr(os, "fsync", full)
    assert run("--replay", slabs, "-o", str(path)) == 2
    assert capsys.readouterr().err == (
        f"slabmon: error: cannot write {path}: No space left on device\n"
    )
    assert path.read_text() == "the last one"
    assert list(folder.iterdir()) == [path]
