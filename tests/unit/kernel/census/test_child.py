# SPDX-License-Identifier: Apache-2.0
"""The process that takes a census: what confines it, and how its errors arrive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.kernel.census import child, memory, run
from slabmon.kernel.census.child import Answer
from slabmon.kernel.census.settings import CensusSettings

SETTINGS = CensusSettings()


@pytest.mark.parametrize("error", [PermissionDenied, UnsupportedHost, SlabmonError])
def test_an_error_of_the_child_is_raised_here(
    monkeypatch: pytest.MonkeyPatch, error: type[SlabmonError]
) -> None:
    def fail() -> None:
        raise error("census: what went wrong; what to do")

    monkeypatch.setattr(memory, "start_compiler", fail)
    answer = msgspec.msgpack.decode(msgspec.msgpack.encode(child.answer(SETTINGS)), type=Answer)
    with pytest.raises(error, match=r"^census: what went wrong; what to do$") as raised:
        run._result(answer)
    assert type(raised.value) is error


def test_memory_that_does_not_suffice_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(memory, "start_compiler", fail)
    assert "--memory-mib" in child.answer(SETTINGS).error


def test_a_child_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def dying(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        code = "import sys; sys.stderr.write('the reason\\n'); sys.exit(9)"
        return original([command[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", dying)
    with pytest.raises(SlabmonError, match="ended early: the reason"):
        run.take_census(SETTINGS)


def test_the_child_is_nice_small_and_never_dumped() -> None:
    code = (
        "import os, resource\n"
        "from slabmon.kernel.census import child\n"
        "from slabmon.kernel.census.settings import CensusSettings\n"
        "child.confine(CensusSettings(memory_mib=300))\n"
        "print(os.nice(0), resource.getrlimit(resource.RLIMIT_CORE)[0],\n"
        "      resource.getrlimit(resource.RLIMIT_DATA)[0])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    niceness, core, data = map(int, result.stdout.split())
    assert niceness >= 10
    assert (core, data) == (0, 300 << 20)


def test_used_up_cpu_time_is_an_error_that_says_so() -> None:
    memory.Budget(1e9).check()
    with pytest.raises(SlabmonError, match="--cpu-seconds"):
        memory.Budget(0.0).check()


def test_settings_have_bounds() -> None:
    with pytest.raises(UsageError):
        CensusSettings(cpu_seconds=0)
    with pytest.raises(UsageError):
        CensusSettings(memory_mib=1)
