# SPDX-License-Identifier: Apache-2.0
"""The process that takes a census: what confines it, and how its errors arrive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.census.codec import encode
from slabmon.kernel.census import child, memory, run
from slabmon.kernel.census.settings import CensusSettings
from slabmon.runtime import worker
from slabmon.runtime.figures import CensusFailure
from tests.unit.export.test_census import CENSUS

SETTINGS = CensusSettings()
FAILURES: dict[type[SlabmonError], CensusFailure] = {
    PermissionDenied: CensusFailure.UNSUPPORTED,
    UnsupportedHost: CensusFailure.UNSUPPORTED,
    memory.BudgetSpent: CensusFailure.CPU,
}
Start = Callable[..., subprocess.Popen[bytes]]


def running(code: str) -> Start:
    """Start Python code instead of the process that takes censuses."""
    original: Start = subprocess.Popen
    return lambda command, **options: original([command[0], "-c", code, *command[4:]], **options)


def sending(data: bytes, then: str = "") -> Start:
    """Start a process that sends these bytes, one at a time, instead."""
    return running(
        "import socket, sys, time\n"
        "channel = socket.socket(fileno=int(sys.argv[1]))\n"
        f"for byte in {data!r}: channel.sendall(bytes([byte]))\n{then}"
    )


@pytest.mark.parametrize(
    "error", [PermissionDenied, UnsupportedHost, UsageError, memory.BudgetSpent, SlabmonError]
)
def test_an_error_of_the_child_is_raised_here(
    monkeypatch: pytest.MonkeyPatch, error: type[SlabmonError]
) -> None:
    def fail() -> None:
        raise error("census: what went wrong; what to do")

    monkeypatch.setattr(memory, "start_compiler", fail)
    last = child.report(SETTINGS, lambda _: None)
    monkeypatch.setattr(subprocess, "Popen", sending(last.pack()))
    kind = UsageError if error is memory.BudgetSpent else error
    with pytest.raises(kind, match=r"^census: what went wrong; what to do$") as raised:
        run.take_census(SETTINGS)
    assert raised.value.exit_code == error.exit_code
    assert last.failure == FAILURES.get(error, CensusFailure.OTHER)


def test_memory_that_does_not_suffice_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(memory, "start_compiler", fail)
    last = child.report(SETTINGS, lambda _: None)
    assert "--memory-mib, or census.memory_mib of a daemon" in last.error
    assert (last.failure, last.exit_code) == (CensusFailure.MEMORY, 2)


def test_a_child_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stderr.write('the reason\\n'); sys.exit(9)"
    monkeypatch.setattr(subprocess, "Popen", running(code))
    with pytest.raises(SlabmonError, match="ended early: the reason"):
        run.take_census(SETTINGS)


def test_a_child_that_is_killed_had_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", running("import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(UnsupportedHost, match=r"memory runs out.*MemoryMax=.*--memory-mib"):
        run.take_census(SETTINGS)


def test_a_file_of_the_kernel_that_is_hidden_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        Path("/sys/absent").read_bytes()

    monkeypatch.setattr(memory, "start_compiler", fail)
    last = child.report(SETTINGS, lambda _: None)
    assert last.error.startswith("census: /sys/absent: No such file")
    assert (last.failure, last.exit_code) == (CensusFailure.UNSUPPORTED, 4)


def test_the_child_is_nice_small_and_never_dumped() -> None:
    code = (
        "import os, resource\n"
        "from slabmon.kernel.census import child\n"
        "from slabmon.kernel.census.settings import CensusSettings\n"
        "child.confine(CensusSettings(memory_mib=300))\n"
        "print(os.nice(0), resource.getrlimit(resource.RLIMIT_CORE)[0],\n"
        "      resource.getrlimit(resource.RLIMIT_DATA)[0],\n"
        "      open('/proc/self/oom_score_adj').read())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    niceness, core, data, score = map(int, result.stdout.split())
    assert niceness >= 10
    assert (core, data) == (0, 300 << 20)
    assert score == 1000, "without memory the kernel ends the census, not the daemon"


def test_used_up_cpu_time_is_an_error_that_says_so() -> None:
    memory.Budget(1e9).check()
    with pytest.raises(UsageError, match=r"--cpu-seconds, or census\.cpu_seconds of a daemon"):
        memory.Budget(0.0).check()


def test_settings_have_bounds() -> None:
    with pytest.raises(UsageError):
        CensusSettings(cpu_seconds=0)
    with pytest.raises(UsageError):
        CensusSettings(memory_mib=1)


def test_the_share_that_is_done_is_reported_until_the_census_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = child.Report(done=0.25), child.Report(done=1.0, census=encode(CENSUS))
    data = b"".join(message.pack() for message in messages)
    monkeypatch.setattr(subprocess, "Popen", sending(data))
    shares: list[float] = []
    monkeypatch.setattr(worker, "_RECEIVE_BYTES", 64)
    assert run.take_census(SETTINGS, shares.append) == CENSUS
    assert 0.25 in shares
    assert shares == sorted(shares)


def test_no_process_is_left_when_the_parent_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subprocess, "Popen", running("import time; time.sleep(60)"))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    children = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        run.take_census(SETTINGS, interrupt)
    assert set(psutil.Process().children()) == children
