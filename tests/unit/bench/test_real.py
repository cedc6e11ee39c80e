# SPDX-License-Identifier: Apache-2.0
"""Real workloads without a kernel: pairs of runs, programs that are there and that are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from slabmon.bench import commands, real
from slabmon.bench.commands import COMMANDS, Command, Compile, ForkExec, Postgres, Redis, Server
from slabmon.bench.modes import NOTHING, Nothing
from slabmon.bench.peers import Absent, Peer
from slabmon.bench.real import measure, measure_real, measure_real_peer, once, prepared


class Scripted(Command):
    """Takes 1 CPU second, with "slow" attached 2."""

    name, about, unit = "scripted", "nothing", "steps"
    attached: ClassVar[list[str]] = []
    seen: ClassVar[set[tuple[str, ...]]] = set()
    used = 0.0

    def run(self, count: int) -> int:
        type(self).used += 2.0 if "slow" in self.attached else 1.0
        self.seen.add(tuple(self.attached))
        return 7 * count

    def cpu_seconds(self) -> float:
        return self.used


class Named(Nothing):
    def on(self) -> None:
        Scripted.attached.append(self.name)

    def off(self) -> None:
        Scripted.attached.remove(self.name)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "RUN_SECONDS", 0.0)
    monkeypatch.setattr("slabmon.bench.peers._SETTLE_SECONDS", 0.0)


def test_a_mode_is_compared_with_the_run_of_the_same_round(tmp_path: Path) -> None:
    row: dict[str, Any] = {}
    modes = [Nothing(), Named("slow"), Named("same")]
    assert len(list(measure_real(Scripted(tmp_path), modes, 5, row))) == 5
    assert [mode["mode"] for mode in row["modes"]] == ["slow", "same"]
    assert [mode["cpu_ratio"]["median"] for mode in row["modes"]] == [2.0, 1.0]
    assert (row["rounds"], row["units_per_run"]) == (5, 7)
    assert all(len(runs) == 5 for runs in row["runs"].values())
    assert Scripted.seen == {(), ("slow",), ("same",)}
    assert Scripted.attached == []


def test_another_tool_is_compared_with_runs_before_and_after(tmp_path: Path) -> None:
    row: dict[str, Any] = {}
    tool = Peer("peer", "a script", ("sh", "-c", "echo ready; sleep 100"), "dash", "ready")
    assert len(list(measure_real_peer(tool, Scripted(tmp_path), row))) == 3
    assert row["cpu_ratio"] == {"low": 1.0, "median": 1.0, "high": 1.0}
    gone: dict[str, Any] = {}
    list(measure_real_peer(Peer("gone", "", ("no-such",), "pack"), Scripted(tmp_path), gone))
    assert gone["absent"] == "no-such is not installed; Debian: pack"


def test_what_cannot_run_says_why() -> None:
    class Gone(Scripted):
        name, package = "gone", "pack"

        def prepare(self) -> None:
            self.need("no-such-program")

    class Failing(Scripted):
        name = "failing"

        def run(self, count: int) -> int:
            self.call("sh", "-c", "echo one >&2; echo two >&2; exit 3")
            return count

    rows: list[dict[str, Any]] = []
    list(measure([Gone, Scripted, Failing], [Nothing()], 4, False, rows))
    assert rows[0]["absent"] == "no-such-program is not installed; Debian: pack"
    assert rows[1]["modes"] == []
    assert rows[2]["absent"] == "sh failed with 3: two"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    class Broken(Server):
        name, about, unit = "broken", "", ""

        def run(self, count: int) -> int:
            return count

    with pytest.raises(Absent, match="sh did not start: no port"):
        Broken(tmp_path).start("sh", "-c", "echo no port; exit 1", ready=("false",))


def test_a_server_whose_database_cannot_be_filled_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "17/bin"
    programs.mkdir(parents=True)
    for name, script in {
        "initdb": "exit 0",
        "postgres": "exec sleep 1000",
        "psql": "exit 0",
        "pgbench": "echo no space >&2; exit 1",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(commands, "_POSTGRES", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root would run it as another user
    before = set(psutil.Process().children(recursive=True))
    assert why_absent(Postgres).endswith("pgbench failed with 1: no space")
    assert set(psutil.Process().children(recursive=True)) <= before


def why_absent(kind: type[Command]) -> str:
    """Why it cannot run here, empty if it can."""
    try:
        with prepared(kind):
            return ""
    except Absent as error:
        return str(error)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.name)
def test_programs_run_and_leave_nothing_behind(kind: type[Command]) -> None:
    """Those that are installed; each says why it is not."""
    why = why_absent(kind)
    if why:
        assert kind not in (ForkExec, Compile)
        assert "is not installed; Debian: " in why
        return
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with prepared(kind) as command:
        folder = command.folder
        run = once(command, 1)
    assert min(run.units, run.cpu_seconds, run.per_second) > 0
    assert not folder.exists()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_names_of_commands_are_unique() -> None:
    assert len({kind.name for kind in COMMANDS}) == len(COMMANDS)
    assert {Redis, Postgres} <= set(COMMANDS)
    assert NOTHING not in {kind.name for kind in COMMANDS}
    assert os.path.exists("/bin/true")
