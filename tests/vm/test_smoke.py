# SPDX-License-Identifier: Apache-2.0
"""One kernel booted from the host's own test run: the test bed works, the planted module too."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from tests.vm import roots
from tests.vm.__main__ import mebibytes, pytest_command
from tests.vm.config import all_locked, kernels
from tests.vm.host import PROJECT, require_host
from tests.vm.machine import run_guest

pytestmark = pytest.mark.beside
KERNEL = "6.12"
PATIENCE_SECONDS = 60


def test_every_kernel_is_locked() -> None:
    """A kernel added to kernels.toml must be pinned, or a fresh checkout cannot boot it."""
    assert list(all_locked()) == list(kernels())


def test_every_setting_is_booted_by_make() -> None:
    """A module added to tests/vm/settings must be run by make test-settings."""
    settings = {path.name for path in (PROJECT / "tests/vm/settings").glob("test_*.py")}
    makefile = (PROJECT / "Makefile").read_text()
    assert settings == {name for name in settings if f"$(SETTINGS)/{name}" in makefile}


@pytest.mark.parametrize(("text", "mib"), [("512M", 512), ("4G", 4096)])
def test_sizes_of_memory(text: str, mib: int) -> None:
    assert mebibytes(text) == mib


@pytest.mark.parametrize("text", ["", "512", "M", "1.5G", "4T"])
def test_what_is_no_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        mebibytes(text)


@pytest.mark.vm
def test_slabmon_and_the_planted_module_agree_on_one_kernel() -> None:
    """A quick part of the guest tests; `make test-vm` runs them all on every kernel."""
    expression = "consistent and gfp or caches_of_the_module or locked_walk"
    result = run_guest(KERNEL, pytest_command(expression=expression), timeout=400)
    assert result.exit_code == 0, result.output


def runs(command: list[str]) -> bool:
    """Whether a process of this command line, to the letter, is there."""
    line = "".join(f"{word}\0" for word in command).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if path.read_bytes() == line:
                return True
    return False


def wait_until(command: list[str], there: bool) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while runs(command) != there:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.vm
def test_a_killed_run_leaves_nothing_running(tmp_path: Path) -> None:
    """Neither the emulator nor a build: processes in a root end with their starter."""
    require_host()
    mine = f"{600 + os.getpid() / 1e8:.8f}"  # seconds, and a name
    command = roots.emulator(["sleep", mine], tmp_path)
    starter = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command]
    )
    wait_until(["sleep", mine], there=True)
    starter.kill()
    starter.wait()
    wait_until(["sleep", mine], there=False)
