# SPDX-License-Identifier: Apache-2.0
"""Output in encodings that lack some characters, and output that is closed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slabmon.cli import streams
from tests.support.recordings import record


@pytest.fixture
def recording(tmp_path: Path) -> str:
    return str(record(tmp_path / "recording", 3))


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs slabmon with these arguments and redirections."""
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m slabmon {command}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=90,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "~ 5.0 #### v a.b \\xff ?"),
        ("latin-1", "± 5.0 #### v a.b \\xff ?"),
        ("utf-8", "± 5.0 ▁▂▇█ ▼ a…b \\xff 名"),
    ],
)
def test_what_an_encoding_lacks_is_replaced_one_for_one(encoding: str, shown: str) -> None:
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding=encoding)
    streams._tolerant(stream).write("± 5.0 ▁▂▇█ ▼ a…b \\xff 名")
    stream.flush()
    assert data.getvalue().decode(encoding) == shown


def test_what_is_not_unicode_is_replaced_too() -> None:
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding="utf-8")
    streams._tolerant(stream).write("/tmp/\udcff")
    stream.flush()
    assert data.getvalue() == b"/tmp/?"


COMMANDS = (
    "--help",
    "top -b -n 2 -d 0.1 -s growth_stderr_bytes_per_hour --replay {0}",
    "top -b -n 1 --view cgroups --replay {0}",
    "leaks --replay {0}",
    "leaks --format json --replay {0}",
    "report --format folded --replay {0}",
    "report -o /dev/null --replay {0}",
    "replay /absent/\udcff",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_fails_for_an_encoding(
    command: str, environment: dict[str, str], recording: str
) -> None:
    done = shell(command.format(recording), **environment)
    assert done.returncode == (2 if "absent" in command else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"bug" not in done.stderr
    assert (done.stdout + done.stderr).isascii() or "latin-1" in environment.values()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["--help", "top --help", *COMMANDS[1:4]])
def test_a_closed_output_is_an_error_of_one_line(command: str, recording: str) -> None:
    done = shell(command.format(recording) + " >&-")
    assert done.returncode == 70
    assert done.stderr == b"slabmon: error: cannot write the output: standard output is closed\n"


@pytest.mark.slow
def test_closed_streams_are_not_taken_for_other_files(recording: str) -> None:
    assert shell(f"top -b -n 1 --replay {recording} <&- 2>&-").returncode == 0
    done = shell(f"top --replay {recording} <&-")
    assert done.returncode == 2
    assert b"needs a terminal" in done.stderr
    assert shell(f"top -b -n 1 --replay {recording} <&- >&- 2>&-").returncode == 70
    assert shell(f"record -o {recording} --connect unix:/absent <&- >&- 2>&-").returncode == 2


@pytest.mark.slow
def test_a_limit_of_file_sizes_is_no_bug(recording: str, tmp_path: Path) -> None:
    command = f"ulimit -f 0; exec {sys.executable} -m slabmon leaks --replay {recording}"
    with (tmp_path / "output").open("wb") as output:
        done = subprocess.run(
            ["sh", "-c", command], stdout=output, stderr=subprocess.PIPE, check=False, timeout=90
        )
    assert done.returncode == 70
    assert done.stderr == b"slabmon: error: cannot write the output: file too large\n"


@pytest.mark.slow
def test_help_that_cannot_be_written_is_an_error_of_one_line() -> None:
    done = shell("--help >/dev/full")
    assert done.returncode == 70
    assert done.stderr == b"slabmon: error: cannot write the output: no space left on device\n"
