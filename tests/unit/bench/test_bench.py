# SPDX-License-Identifier: Apache-2.0
"""slabmon bench without a kernel: pairing, workloads, other tools that come and go."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from slabmon.bench.measure import Spread, added, measure, one_cpu
from slabmon.bench.modes import NOTHING, Nothing
from slabmon.bench.peers import Absent, Peer, running
from slabmon.bench.workloads import WORKLOADS, MessageQueue, Workload
from slabmon.cli.bench import table
from slabmon.cli.main import main


class Counted(Workload):
    """Says what was attached when it ran."""

    name, about = "counted", "nothing"

    def __init__(self, attached: list[str]) -> None:
        self.attached, self.seen = attached, set[tuple[str, ...]]()

    def run(self, iterations: int) -> None:
        self.seen.add(tuple(self.attached))
        if "broken" in self.attached:
            raise BlockingIOError


class Named(Nothing):
    def __init__(self, name: str, attached: list[str]) -> None:
        super().__init__(name)
        self.attached = attached

    def on(self) -> None:
        self.attached.append(self.name)

    def off(self) -> None:
        self.attached.remove(self.name)


def test_each_round_has_a_block_of_each_mode_by_itself() -> None:
    attached: list[str] = []
    workload, found = Counted(attached), dict[str, list[float]]()
    modes = [Named("a", attached), Named("b", attached)]
    assert len(list(measure(workload, modes, 7, found))) == 7
    assert {name: len(times) for name, times in found.items()} == {"a": 7, "b": 7}
    assert workload.seen == {(), ("a",), ("b",)}, "not attached while iterations are chosen"
    assert attached == []


def test_nothing_stays_attached_after_an_error() -> None:
    attached: list[str] = []
    with pytest.raises(BlockingIOError):
        list(measure(Counted(attached), [Named("broken", attached)], 3, {}))
    assert attached == []


def test_what_a_mode_adds_is_paired_by_rounds() -> None:
    times = {NOTHING: [100.0, 900.0, 300.0], "x": [150.0, 960.0, 340.0]}
    assert added(times, "x", 2.0) == Spread(22.5, 25.0, 27.5)


def test_one_cpu_is_given_back() -> None:
    before = os.sched_getaffinity(0)
    with one_cpu(None) as cpu:
        assert os.sched_getaffinity(0) == {cpu} == {max(before)}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_workloads_run_and_leave_nothing_behind(kind: type[Workload]) -> None:
    descriptors, queues = os.listdir("/proc/self/fd"), Path("/proc/sysvipc/msg").read_text()
    workload = kind()
    workload.run(11)
    workload.close()
    assert os.listdir("/proc/self/fd") == descriptors
    if kind is MessageQueue:
        assert Path("/proc/sysvipc/msg").read_text() == queues


def shell(script: str, ready: str = "ready") -> Peer:
    return Peer("peer", "a script", ("sh", "-c", script), "dash", ready)


def test_a_tool_is_waited_for_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slabmon.bench.peers._SETTLE_SECONDS", 0.0)
    with running(shell("sleep 0.2; echo ready; sleep 100")) as tool:
        assert tool.output() == "ready\n"
        assert tool.process.poll() is None
    assert tool.process.poll() is not None
    assert not Path(tool.folder).exists()


def test_a_tool_that_does_not_listen_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slabmon.bench.peers._SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("slabmon.bench.peers._STOP_SECONDS", 0.2)
    begin = time.monotonic()
    with running(shell("trap '' INT; echo ready; while :; do sleep 1; done")) as tool:
        pass
    assert tool.process.poll() is not None
    assert time.monotonic() - begin < 60


def test_a_tool_can_tidy_up_though_we_ignore_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process in the background of a script does."""
    monkeypatch.setattr("slabmon.bench.peers._SETTLE_SECONDS", 0.0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with running(shell("trap 'exit 7' INT; echo ready; while :; do sleep 1; done")) as tool:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert tool.process.returncode == 7


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        (
            shell("echo begins; echo it failed: no probes; echo more; exit 1"),
            "it failed: no probes",
        ),
        (shell("echo one; echo two"), "two"),
        (shell("exit 1", ready=""), "it ended at once"),
        (
            Peer("gone", "", ("no-such-tool",), "no-package"),
            "no-such-tool is not installed; Debian: no-package",
        ),
    ],
)
def test_a_tool_that_does_not_run_here_is_absent_with_the_reason(
    peer: Peer, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slabmon.bench.peers._SETTLE_SECONDS", 0.2)
    with pytest.raises(Absent, match=why), running(peer):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workload", "nonsense"], "unknown workload 'nonsense': expected fork-and-exec,"),
        (["--rounds", "3"], "--rounds: expected at least 4"),
        (["--real-rounds", "3"], "--real-rounds: expected at least 4"),
        (["--cpu", "99999"], "--cpu 99999: this process may not run on that CPU"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("slabmon: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_table_names_modes_and_tools() -> None:
    spread = {"low": 90.0, "median": 100.4, "high": 120.0}
    ratio = {"low": 0.99, "median": 1.013, "high": 1.1}
    figures = {"cpu_ratio": ratio, "throughput_ratio": ratio}
    document: dict[str, Any] = {
        "machine": {"kernel": "6.18", "cpu": "EPYC", "cpus": 2, "measured_cpu": 1, "load": 0.25},
        "real": [
            {
                "workload": "tar",
                "about": "a pipe",
                "unit": "archives",
                "per_second": {"low": 1.0, "median": 1234.0, "high": 1500.0},
                "modes": [{"mode": "default", **figures}],
                "peers": [{"name": "memleak", **figures}, {"name": "perf", "absent": "no"}],
            },
            {"workload": "redis", "about": "", "unit": "", "absent": "not installed"},
        ],
        "workloads": [
            {
                "workload": "message queue",
                "about": "messages",
                "kmalloc_pairs": 1.0,
                "kmem_cache_pairs": 0.0,
                "modes": [
                    {"mode": "nothing", "iteration_ns": spread},
                    {"mode": "default", "added_ns": spread, "ratio": 1.25},
                    {"mode": "exact", "added_ns": spread, "ratio": None},
                ],
            }
        ],
        "peers": [
            {"name": "perf", "added_ns": spread, "ratio": 22.0},
            {"name": "memleak", "absent": "not installed"},
        ],
    }
    lines = list(table(document))
    assert "tar: a pipe; 1,234.0 archives/s" in lines
    both = "CPU 1.013 (0.990 to 1.100)  throughput 1.013 (0.990 to 1.100)"
    assert f"  default              {both}" in lines
    assert f"  memleak              {both}" in lines
    assert "redis: not available: not installed" in lines
    assert "  default                  100 (90 to 120)      1.25 x empty" in lines
    assert "  exact                    100 (90 to 120)" in lines
    assert "  perf                     100 (90 to 120)      22.00 x empty" in lines
    assert "  memleak              not available: not installed" in lines
