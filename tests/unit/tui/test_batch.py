# SPDX-License-Identifier: Apache-2.0
"""top -b, and the options of top."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slabmon.base.errors import UsageError
from slabmon.cli.main import main
from slabmon.model import Snapshot
from slabmon.sources.live import LiveSource
from slabmon.sources.recording import RecordingSource
from slabmon.store.writer import RecordingWriter
from slabmon.tui import batch
from slabmon.tui.browser import SORT_LETTERS, letter_column
from slabmon.tui.header import joined
from slabmon.tui.start import Start
from slabmon.views.catalogue import VIEWS
from tests.support.builders import window_of
from tests.support.terminal import GONE, Script, host, start


def test_a_census_is_requested_if_its_view_is_printed() -> None:
    source: Any = Steps(replace(host(1), census=None), host(2))
    with redirect_stdout(io.StringIO()) as output:
        batch.run(source, replace(start(), view="owners", delay=0.0, count=2))
    first, second = output.getvalue().split("slabmon top")[1:]
    assert "no census yet" in first
    assert "struct dentry" in second
    assert source.censuses == 1


class Steps(Script):
    """Shows one thing after the other."""

    def __init__(self, *steps: Snapshot | Exception) -> None:
        super().__init__(steps[0])
        self.steps = list(steps)

    def snapshot(self, details: bool = False) -> Snapshot:
        self.now = self.steps.pop(0)
        return super().snapshot(details)


def batched(source: Any, **options: Any) -> tuple[str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        assert batch.run(source, start(delay=0.01, **options)) == 0
    return output.getvalue(), errors.getvalue()


def test_so_many_pages_and_no_more() -> None:
    source = Steps(host(10), host(20), host(30))
    output, errors = batched(source, count=3)
    assert output.count("slabmon top - ") == 3
    assert "tracking 30.0s" in output
    assert not errors
    assert not source.steps
    assert (source.opened, source.closed) == (1, 1)


class Local(Steps, LiveSource):  # type: ignore[misc]
    """A local session: nothing is known of what was before it."""


def test_a_local_session_is_watched_before_its_first_page() -> None:
    source = Local(host(0.01), host(20), host(30))
    output, _ = batched(source, count=2)
    first, second = output.split("slabmon top - ")[1:]
    assert "tracking 20.0s" in first
    assert "tracking 30.0s" in second
    assert not source.steps


def test_a_page_without_rows_says_why() -> None:
    output, _ = batched(Script(host(10)), count=1, filter="nosuchname")
    head, _, table = output.partition("\n\n")
    assert head.splitlines()[-1] == "no row matches the filter"
    assert len(table.strip().splitlines()) == 1  # headings, as for programs that read the rows


def test_every_page_has_the_conclusion_once() -> None:
    _, second, *_ = batched(Steps(host(10)), count=1, view="caches")[0].splitlines()
    conclusion = second.removeprefix("overview: ")
    assert conclusion != second
    for view in VIEWS:
        lines = batched(Steps(host(10)), count=1, view=view)[0].splitlines()
        assert sum(line.endswith(conclusion) for line in lines) == 1, view


def test_a_recording_begins_where_growth_is_known(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    with RecordingWriter(path) as history:
        for seconds in range(10, 1210, 30):
            taken = host(seconds)
            history.append(replace(taken, caches=taken.caches[:3]), at=1e9 + seconds)
    output, _ = batched(RecordingSource(path), count=1)
    assert "tracking 10m10s" in output
    assert "growth over 10m00s" in output


def test_pauses_and_suspension_are_in_the_header() -> None:
    last = host(130)
    last = replace(last, tracking=replace(last.tracking, suspended=8 * 3600.0))
    output, _ = batched(Steps(host(10), host(20), host(30), last), count=4)
    pages = output.split("slabmon top - ")[1:]
    assert not any("NOT READ" in page or "SUSPENDED" in page for page in pages[:3])
    assert "NOT READ 1m30s of 2m00s" in pages[3]
    assert "host SUSPENDED 8h00m" in pages[3]


def test_a_daemon_that_is_away_for_a_while_is_waited_for() -> None:
    output, errors = batched(Steps(host(10), GONE, GONE, host(20)), count=2)
    assert output.count("slabmon top - ") == 2
    assert errors.count("cannot reach slabmon") == 2


def test_a_daemon_that_is_not_there_is_an_error() -> None:
    source = Script(GONE)
    with pytest.raises(UsageError, match="cannot reach"):
        batched(source)
    assert source.closed == 1


def test_order_filter_and_view_are_as_asked_for() -> None:
    output, _ = batched(Script(host(10)), count=1, sort="-name", filter="live > 1K")
    lines = output.splitlines()
    rows = lines[lines.index("") + 2 :]
    assert [row.split()[0] for row in rows if row] == ["kmalloc-large", "kmalloc-64", "dentry"]
    output, _ = batched(Script(host(10)), count=1, view="drivers", sort="n")
    assert "nvme" in output


@pytest.mark.parametrize(
    ("sort", "column"),
    [
        ("live", "live_bytes"),
        ("-live", "live_bytes"),
        ("a", "active_objects"),
        ("u", "use_ratio"),
        ("p90", "age_p90_seconds"),
        ("n", "name"),
        ("growth", "growth_bytes_per_hour"),
    ],
)
def test_columns_are_named_in_any_way(sort: str, column: str) -> None:
    if sort == "p90":
        sort = "p90 age"
    if sort == "growth":
        sort = "growth_b"
    browser = start(sort=sort).browser(window_of(host(10), host(20)))
    assert browser.sort == column
    assert browser.place.inverted == sort.startswith("-")


@pytest.mark.parametrize("view", VIEWS)
def test_sort_letters_are_columns_of_their_view(view: str) -> None:
    for letter in (*SORT_LETTERS, "n"):
        column = letter_column(VIEWS[view], letter)
        assert column is None or column in VIEWS[view].columns
    assert letter_column(VIEWS[view], "n") is not None


def test_every_sort_letter_of_slabtop_means_something_for_caches() -> None:
    assert all(letter_column(VIEWS["caches"], letter) for letter in "abclnopsuv"[:10])


@pytest.mark.parametrize(
    "options",
    [
        ["-n", "0"],
        ["-n", "-1"],
        ["-n", "many"],
        ["-n", "1000000001"],
        ["-n", "1.5"],
        ["-d", "0"],
        ["-d", "0.05"],
        ["-d", "nan"],
        ["-d", "inf"],
        ["-d", "3601"],
        ["-d", "soon"],
        ["-s", "colour"],
        ["-s", "live_"],
        ["--view", "nothing"],
        ["--view", "gfp", "-s", "c"],
        ["--connect", "ftp://x"],
        ["--replay", "/absent", "-b"],
        ["--replay", "/absent", "--connect", "http://x:1"],
    ],
    ids=" ".join,
)
def test_bad_options_are_one_error_line(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["top", *options])
    except SystemExit as ended:
        code = int(str(ended.code))
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.startswith("slabmon: error: ")
    assert errors.count("\n") == 1


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    with RecordingWriter(path) as history:
        taken = host(10)
        history.append(replace(taken, caches=taken.caches[:3]), at=1e9)
    return path


def shell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slabmon", "top", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_batch_does_without_a_terminal_and_without_textual(recording: Path) -> None:
    code = (
        "import sys; from slabmon.cli.main import main; "
        f"assert main(['top', '--replay', {str(recording)!r}, '-b', '-n', '1']) == 0; "
        "assert 'textual' not in sys.modules and 'rich' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kmalloc-64" in done.stdout


def test_a_wrong_filter_is_one_error_line(recording: Path) -> None:
    done = shell("--replay", recording, "-b", "--filter", "colour > 3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_without_a_terminal_it_says_what_to_do(recording: Path) -> None:
    done = shell("--replay", recording)
    assert done.returncode == 2
    assert "use -b" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(recording: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "slabmon", "top", "--replay", recording, "-b", "-d", "0.1"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_header_loses_nothing(width: int) -> None:
    parts = ["short", "a" * 19, "b" * 30, "c", "words that are broken where there is no room"]
    lines = joined(parts, width)
    assert all(len(line) <= width for line in lines)
    whole = "".join(lines).replace(" ", "").replace("|", "")
    assert whole == "".join(parts).replace(" ", "")


def test_a_start_is_checked_before_anything_is_opened() -> None:
    with pytest.raises(UsageError):
        Start(2.0, None, "caches", "colour", "").check()
