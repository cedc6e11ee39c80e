# SPDX-License-Identifier: Apache-2.0
"""top, report and leaks over a server that knows the past: the same as of the recording itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.cli.main import main
from tests.support.recordings import START, STEP, record

COUNT = 30


@pytest.fixture(scope="module")
def slabs(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(record(tmp_path_factory.mktemp("past") / "slabs.db", COUNT))


@pytest.fixture(scope="module")
def url(slabs: str) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "slabmon",
        "replay",
        slabs,
        "--speed",
        "0",
        "--start",
        str(START + (COUNT - 1) * STEP),
        "--web.listen-address",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.stdout.readline().split()[1].rstrip("/.")
        finally:
            process.terminate()


@pytest.mark.parametrize(
    "times", [("--to", "-100s"), ("--from", "-200s"), ("--from", "-200s", "--to", "-50s")]
)
def test_a_report_of_a_daemons_past_is_that_of_its_recording(
    url: str, slabs: str, tmp_path: Path, times: tuple[str, ...]
) -> None:
    found = []
    for source in (("--connect", url), ("--replay", slabs)):
        path = tmp_path / source[0]
        assert main(["report", *source, *times, "--format", "folded", "-o", str(path)]) == 0
        found.append(path.read_bytes())
        page = tmp_path / "page"
        assert main(["report", *source, *times, "-o", str(page)]) == 0
        assert "too short to tell whether anything leaks" in page.read_text()
    assert found[0] == found[1]
    assert found[0]


def test_a_report_of_a_daemon_knows_what_grew(url: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", "--connect", url, "-o", str(page)]) == 0
    assert "in the last 4m50s" in page.read_text()
    assert main(["report", "--connect", url, "--seconds", "0", "-o", str(page)]) == 0
    assert "Growth is unknown" in page.read_text()


def test_a_time_the_daemon_does_not_know(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--connect", url, "--to", "-1d", "-o", str(tmp_path / "x")]) == 2
    assert "is outside the history of the daemon" in capsys.readouterr().err


def test_top_knows_growth_and_verdicts_at_once(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "-b", "-n", "1", "--connect", url]) == 0
    assert "growth over 4m50s" in capsys.readouterr().out
    assert main(["top", "-b", "-n", "1", "--connect", url, "--view", "verdicts"]) == 0
    assert "suspect" in capsys.readouterr().out
