# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes and error lines. Nothing is loaded here."""

from __future__ import annotations

import argparse
import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slabmon import __version__
from slabmon.base.errors import (
    NeedsRoot,
    PermissionDenied,
    SlabmonError,
    UnsupportedHost,
    UsageError,
)
from slabmon.cli.main import build_parser, main
from slabmon.kernel import session
from slabmon.kernel.settings import Settings
from slabmon.runtime import listeners

COMMANDS = next(
    dict(action.choices)
    for action in build_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
)


class Reached(AssertionError):
    """The command went on to the kernel."""


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here gets as far as loading programs."""
    fail_with(monkeypatch, Reached("open_tracker was called"))


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @contextmanager
    def open_tracker(_: Settings) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(session, "open_tracker", open_tracker)


@dataclass
class Result:
    code: int
    output: str
    errors: str


Run = pytest.CaptureFixture[str]


def run(capsys: Run, arguments: Sequence[str]) -> Result:
    """Runs one command as the shell would see it."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    output, errors = capsys.readouterr()
    return Result(code, output, errors)


def is_error_line(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) == 1 and lines[0].startswith("slabmon: error: ") and text.endswith("\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("snapshot --frob", "--frob; see 'slabmon snapshot --help'"),
        ("check extra", "extra; see 'slabmon check --help'"),
        ("--frob check", "--frob; see 'slabmon --help'"),
        (
            "serve --web.listen_address=:1",
            "--web.listen_address=:1; near names: --web.listen-address",
        ),
        ("snapshot --secnods 1", "--secnods 1; near names: --seconds"),
    ],
)
def test_an_unknown_option_leads_to_near_ones_and_to_the_help_of_its_command(
    capsys: Run, line: str, problem: str
) -> None:
    result = run(capsys, line.split())
    assert (result.code, result.output) == (2, "")
    assert result.errors.startswith(f"slabmon: error: unrecognized arguments: {problem}")
    assert is_error_line(result.errors)


def test_the_promised_commands_are_there() -> None:
    assert {"serve", "snapshot", "check"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_and_version_everywhere(capsys: Run, command: list[str]) -> None:
    shown = run(capsys, [*command, "--help"])
    assert shown.code == 0
    assert shown.output.startswith("usage: slabmon")
    assert shown.errors == ""
    assert "--version" in shown.output
    version = run(capsys, [*command, "--version"])
    assert (version.code, version.output) == (0, f"slabmon {__version__}\n")


def test_help_names_every_command(capsys: Run) -> None:
    output = run(capsys, ["--help"]).output
    assert all(f"\n    {name} " in output for name in COMMANDS)


BAD = [
    [],
    ["unknown"],
    ["--unknown"],
    ["check", "extra"],
    ["check", "two\nlines"],
    ["check", "--format", "xml"],
    ["snapshot", "--format", "xml"],
    ["snapshot", "--view", "nothing"],
    ["snapshot", "--seconds", "-1"],
    ["snapshot", "--seconds", "nan"],
    ["snapshot", "--seconds", "inf"],
    ["snapshot", "--seconds", "soon"],
    ["snapshot", "--by", "colour"],
    ["snapshot", "--by", "cache,cache"],
    ["snapshot", "--by", ""],
    ["snapshot", "--by", "cache", "--view", "sites"],
    ["snapshot", "--view", "pages"],
    ["snapshot", "--exact", ""],
    ["snapshot", "--exact", "colour=red"],
    ["snapshot", "--exact", "min_size=2,max_size=1"],
    ["snapshot", "--sample-bytes", "1"],
    ["snapshot", "--sample-bytes", "many"],
    ["serve", "--config", "/absent/slabmon.toml"],
    ["serve", "--web.listen-address", "localhost"],
    ["serve", "--web.listen-address", "localhost:http", "--config.check"],
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_arguments_are_one_error_line_and_exit_code_2(
    capsys: Run, arguments: list[str]
) -> None:
    result = run(capsys, arguments)
    assert result.code == 2
    assert is_error_line(result.errors), result.errors
    assert result.output == ""


def test_an_error_in_the_command_line_points_to_the_help(capsys: Run) -> None:
    assert "slabmon snapshot --help" in run(capsys, ["snapshot", "--view", "x"]).errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad"), 2),
        (PermissionDenied("not root"), 3),
        (UnsupportedHost("too old"), 4),
        (SlabmonError("broken"), 70),
        (ValueError("a bug\nin two lines"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("command", ["snapshot", "check"])
def test_each_kind_of_failure_has_its_exit_code(
    capsys: Run, monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException, code: int
) -> None:
    fail_with(monkeypatch, error)
    result = run(capsys, [command])
    assert result.code == code
    if not isinstance(error, KeyboardInterrupt):
        assert is_error_line(result.errors), result.errors
        assert str(error).split()[0] in result.errors
        assert "Traceback" not in result.errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(errno.EPERM, "not permitted"), 3),
        (FileNotFoundError(errno.ENOENT, "absent", "/proc/self/mounts"), 4),
        (OSError(errno.ENOSYS, "Function not implemented"), 4),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 4),
        (MemoryError(), 4),
        (FileNotFoundError(errno.ENOENT, "absent", "/tmp/absent"), 70),
    ],
    ids=str,
)
def test_what_confines_slabmon_is_no_bug_of_it(
    capsys: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    fail_with(monkeypatch, error)
    result = run(capsys, ["snapshot"])
    assert result.code == code
    assert is_error_line(result.errors), result.errors
    assert ("this is a bug" in result.errors) == (code == 70)


@pytest.mark.parametrize("command", ["snapshot", "check"])
def test_without_root_it_names_what_a_daemon_on_this_host_can_tell(
    capsys: Run, monkeypatch: pytest.MonkeyPatch, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "slabmon.sock"
    monkeypatch.setattr(listeners, "DEFAULT_SOCKET", str(path))
    fail_with(monkeypatch, NeedsRoot("not root"))
    assert run(capsys, [command]).errors == "slabmon: error: not root\n"
    path.touch()
    result = run(capsys, [command])
    assert result.code == 3
    assert is_error_line(result.errors)
    assert "a daemon runs on this host" in result.errors
    assert "--connect http://127.0.0.1:7522" in result.errors
    named = {name for name in COMMANDS if re.search(rf"\b{name}\b", result.errors)}
    assert named == {
        name for name, parser in COMMANDS.items() if "--connect" in parser.format_help()
    }


def test_a_bug_asks_for_a_report(capsys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division"))
    errors = run(capsys, ["check"]).errors
    assert "ZeroDivisionError: division" in errors
    assert "--debug" in errors


@pytest.mark.parametrize("arguments", [["check", "--debug"], ["--debug", "check"]], ids=" ".join)
@pytest.mark.parametrize("error", [UsageError("bad"), ValueError("bug")])
def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: Exception
) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(type(error)):
        main(arguments)


def test_a_good_configuration_is_accepted_without_the_kernel(capsys: Run, tmp_path: Path) -> None:
    path = tmp_path / "slabmon.toml"
    path.write_text("[tracking]\nsample_bytes = 4096\n")
    result = run(capsys, ["serve", "--config", str(path), "--config.check"])
    assert (result.code, result.errors) == (0, "")
    assert "valid" in result.output


def test_a_bad_configuration_is_named(capsys: Run, tmp_path: Path) -> None:
    path = tmp_path / "slabmon.toml"
    path.write_text("[tracking]\nsample_bytes = 4\n")
    result = run(capsys, ["serve", "--config", str(path), "--config.check"])
    assert result.code == 2
    assert is_error_line(result.errors)
    assert "slabmon.toml: tracking.sample_bytes" in result.errors


def test_a_busy_port_is_found_before_anything_is_loaded(capsys: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        address = ["--web.listen-address", f"127.0.0.1:{port}"]
        result = run(capsys, ["serve", *address, "--state.lock-file", str(tmp_path / "lock")])
    assert result.code == 2
    assert is_error_line(result.errors)
    assert f"127.0.0.1:{port}" in result.errors


def shell(arguments: list[str], output: int) -> subprocess.CompletedProcess[bytes]:
    """Standard output is buffered, as it is for users."""
    return subprocess.run(
        [sys.executable, "-m", "slabmon", *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


def test_a_reader_that_went_away_is_no_error() -> None:
    """slabmon ... | true"""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = shell(["serve", "--config.check"], writing)
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 0


def test_output_that_cannot_be_written_is_an_error() -> None:
    """A full disk must not look like success."""
    with open("/dev/full", "wb") as full:
        done = shell(["serve", "--config.check"], full.fileno())
    assert done.returncode not in (0, 120)
    assert is_error_line(done.stderr.decode())
