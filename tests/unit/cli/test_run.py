# SPDX-License-Identifier: Apache-2.0
"""slabmon run on the command line, over a command and a kernel that a test plays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.base.errors import SlabmonError
from slabmon.cli import run as cli
from slabmon.cli.main import main
from slabmon.kernel import session
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.model import Snapshot
from tests.support.builders import Object, cache, site, snapshot, tracked

STACKS = {1: ("kmalloc", "open_thing [thing]", "vfs_open")}


class Kernel:
    """A tracker whose objects a test sets: `left[n]` is what the n-th look sees, the last one for
    ever, `freed` what a reading of the slabs finds gone."""

    def __init__(self) -> None:
        self.left: list[int] = [0]
        self.freed = 0
        self.looks = self.drains = self.readings = 0
        self.problem = ""
        self.settings: Settings | None = None

    def drain(self) -> int:
        self.drains += 1
        return 0

    def snapshot(self, details: bool = False) -> Snapshot:
        count = 0
        if details:
            count = self.left[min(self.looks, len(self.left) - 1)] - self.freed * self.readings
            self.looks += 1
        return snapshot(
            caches=(cache(),),
            sites=(site("open_thing", 0x1C, "thing"),),
            devices=(),
            losses={},
            tracked=tracked([Object(stack=1, tgid=1 << 22) for _ in range(max(0, count))], STACKS),
        )

    def forget_freed(self, cpu_seconds: float) -> int:
        assert cpu_seconds > 0
        self.readings += 1
        if self.problem:
            raise SlabmonError(self.problem)
        return self.freed


class Played:
    """A command that ends at once."""

    pid = 77
    exit_code: int | None = 0
    signal: int | None = None
    problem = ""
    argv: tuple[str, ...] = ()

    def __init__(self, argv: list[str]) -> None:
        type(self).argv = tuple(argv)

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def release(self) -> str:
        return self.problem

    def wait(self, each: Callable[[], object], seconds: float) -> int:
        each()
        return self.exit_code or 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    @contextmanager
    def open_tracker(settings: Settings) -> Iterator[Kernel]:
        made.settings = settings
        yield made

    monkeypatch.setattr(session, "open_tracker", open_tracker)
    monkeypatch.setattr(cli, "interrupted", lambda seconds: False)
    monkeypatch.setattr(cli, "synchronize_rcu", lambda: None)
    monkeypatch.setattr(cli, "_INITIAL_PID_NAMESPACE", os.stat("/proc/self/ns/pid").st_ino)
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    class Now(Played):
        """A command that this test may change."""

    monkeypatch.setattr(cli, "Command", Now)
    return Now


def run(*arguments: str) -> int:
    return main(["run", *arguments])


@pytest.mark.usefixtures("command")
def test_a_clean_command_leaves_nothing(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--error-exitcode", "9", "--", "ls", "-l") == 0
    assert capsys.readouterr() == ("", "slabmon: nothing left by ls -l\n")
    assert (kernel.looks, kernel.readings, kernel.drains) == (1, 0, 1)


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_the_command_keeps_its_own_options(
    kernel: Kernel, command: type[Played], dashes: tuple[str, ...]
) -> None:
    assert run("--settle", "0", *dashes, "cmd", "--format", "x", "--", "-o") == 0
    assert command.argv == ("cmd", "--format", "x", "--", "-o")


@pytest.mark.parametrize(
    ("left", "code", "status", "result"),
    [(0, "9", 3, 3), (7, "9", 3, 9), (7, "9", 0, 9), (7, "0", 3, 3), (7, None, 0, 0)],
)
def test_the_exit_code_is_the_commands_or_that_of_an_error(
    kernel: Kernel, command: type[Played], left: int, code: str | None, status: int, result: int
) -> None:
    kernel.left = [left]
    command.exit_code = status
    options = () if code is None else ("--error-exitcode", code)
    assert run("--settle", "0", *options, "--", "cmd") == result


@pytest.mark.usefixtures("command")
def test_what_is_left_is_listed_and_looked_for_in_the_slabs(
    kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.left, kernel.freed = [9], 2
    assert run("--settle", "0", "--format", "json", "--", "cmd") == 0
    document = json.loads(capsys.readouterr().err)
    assert (kernel.readings, document["freed_unseen"], document["left"]["objects"]) == (1, 2, 7)
    assert document["stacks"][0]["site"]["module"] == "thing"


@pytest.mark.usefixtures("command")
def test_it_waits_until_nothing_is_left(kernel: Kernel) -> None:
    kernel.left = [9, 7, 5, 0]
    assert run("--settle", "60", "--error-exitcode", "9", "--", "cmd") == 0
    assert kernel.looks == 4


@pytest.mark.usefixtures("command")
def test_slabs_that_cannot_be_read_are_noted_once(
    kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.left, kernel.problem = [3], "no budget"
    assert run("--settle", "0", "--", "cmd") == 0
    errors = capsys.readouterr().err
    assert "objects freed in bulk or by kfree_rcu() may be listed: no budget" in errors


@pytest.mark.usefixtures("command")
def test_a_signal_ends_the_wait_not_the_report(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.left = [3]
    monkeypatch.setattr(cli, "interrupted", lambda seconds: seconds > 0)
    assert run("--settle", "3600", "--error-exitcode", "9", "--", "cmd") == 9
    errors = capsys.readouterr().err
    assert "3 objects" in errors
    assert "was interrupted" in errors


@pytest.mark.usefixtures("command")
def test_a_signal_before_the_start_ends_it(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "interrupted", lambda seconds: True)
    assert run("--", "cmd") == 130


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("text", "exact"),
    [
        (None, Filter(process_tree=77)),
        ("cache=dentry", Filter(cache="dentry", process_tree=77)),
        ("module=thing", Filter(module="thing")),
        ("site=open_thing", Filter(site="open_thing")),
        ("cgroup=/job", Filter(cgroup="/job")),
        ("pid=1", Filter(pid=1)),
        ("family=kmalloc-64", Filter(family="kmalloc-64", process_tree=77)),
    ],
)
def test_the_filter_is_limited_to_the_command_unless_it_says_whose(
    kernel: Kernel, text: str | None, exact: Filter
) -> None:
    assert run(*(() if text is None else ("--exact", text)), "--", "cmd") == 0
    assert kernel.settings is not None
    assert kernel.settings.exact == exact


@pytest.mark.usefixtures("command")
def test_a_module_that_never_came_is_noted(
    kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--exact", "module=thnig", "--", "cmd") == 0
    assert "no allocation of a module thnig was seen" in capsys.readouterr().err
    assert run("--exact", "module=thing", "--", "cmd") == 0
    assert capsys.readouterr().err == "slabmon: nothing left by cmd\n"


def test_a_command_that_cannot_be_run_is_an_error(
    kernel: Kernel, command: type[Played], capsys: pytest.CaptureFixture[str]
) -> None:
    command.problem, command.exit_code = "No such file or directory", 127
    assert run("--", "cmd") == 127
    assert capsys.readouterr().err == "slabmon: error: cannot run cmd: No such file or directory\n"
    assert kernel.looks == 0


@pytest.mark.usefixtures("kernel")
def test_the_report_goes_to_a_file_or_to_standard_output(
    command: type[Played], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "junit.xml"
    assert run("--format", "junit", "-o", str(path), "--", "cmd") == 0
    assert path.read_text().startswith("<?xml")
    assert capsys.readouterr() == ("", "")
    assert run("-o", "-", "--", "cmd") == 0
    assert capsys.readouterr().out == "slabmon: nothing left by cmd\n"
    command.argv = ()
    assert run("-o", "/absent/x", "--", "cmd") == 2
    assert command.argv == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--"], "expected a command"),
        ([], "expected a command"),
        (["--error-exitcode", "256", "--", "x"], "from 0 to 255"),
        (["--error-exitcode", "-1", "--", "x"], "from 0 to 255"),
        (["--settle", "-1", "--", "x"], "expected seconds"),
        (["--exact", "", "--", "x"], "filter is empty"),
        (["--format", "xml", "--", "x"], "invalid choice"),
    ],
)
def test_bad_usage_is_one_line_and_runs_nothing(
    kernel: Kernel,
    command: type[Played],
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = run(*arguments)
    except SystemExit as error:
        code = int(str(error))
    errors = capsys.readouterr().err
    assert (code, errors.count("\n")) == (2, 1)
    assert words in errors
    assert kernel.settings is None
    assert command.argv == ()


@pytest.mark.usefixtures("kernel", "command")
def test_processes_cannot_be_followed_in_a_namespace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_INITIAL_PID_NAMESPACE", 1)
    assert run("--", "cmd") == 4
    assert "--pid=host" in capsys.readouterr().err
    assert run("--exact", "module=thing", "--", "cmd") == 0
