# SPDX-License-Identifier: Apache-2.0
"""What a census read of memory stays in the process that takes it: no output, log, file or core
file has content or addresses. Objects of the planted module hold a marker."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.kernel.census.run import CensusProcess
from slabmon.kernel.census.settings import CensusSettings
from tests.vm.guest import planted as module
from tests.vm.guest.test_lifecycle import SLABMON, get, wait_for

MARKER = b"slabmon-planted-marker:"
ADDRESS = re.compile(rb"\bffff[0-9a-f]{12}\b")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
SECONDS = "900"  # of CPU time: emulated
CENSUS_SECONDS = 600.0  # until there is one
OWNERS = 0.36  # share of the work after which objects' words are read


@pytest.fixture(autouse=True)
def marked(planted: None) -> None:
    module.run("marked")


def assert_clean(what: str, *texts: bytes) -> None:
    for text in texts:
        assert MARKER not in text, what
        match = ADDRESS.search(text)
        assert match is None, f"{what}: {text[max(match.start() - 60, 0) : match.end()]!r}"


@pytest.mark.parametrize(
    ("by", "form"), [("cache", "json"), ("signature", "table"), ("type", "csv"), ("module", "csv")]
)
def test_the_command_prints_labels_and_counts(by: str, form: str) -> None:
    arguments = ["census", "--by", by, "--format", form, "--cpu-seconds", SECONDS]
    done = subprocess.run([SLABMON, "--debug", *arguments], capture_output=True, check=True)
    assert len(done.stdout) > 1000
    assert_clean(f"census --by {by} --format {form}", done.stdout, done.stderr)


def answered(path: str, daemon: subprocess.Popen[bytes]) -> bytes:
    """An answer of the daemon; asked for again when a reading took longer than a request waits."""
    answers: list[bytes] = []

    def ask() -> bool:
        answers.extend(filter(None, [get(path)]))
        return bool(answers)

    wait_for(ask, daemon)
    return answers[-1]


def test_the_daemon_serves_logs_and_keeps_no_more(tmp_path: Path) -> None:
    """Also its history."""
    history, log = Path("/var/lib/slabmon-test"), tmp_path / "log"
    arguments = ["--history.path", str(history / "slabs.db"), "--history.interval-seconds", "1"]
    arguments += ["--census.cpu-seconds", SECONDS]
    arguments += ["--log.level", "debug"]
    with (
        log.open("wb") as errors,
        subprocess.Popen([SLABMON, "serve", *arguments], stdout=errors, stderr=errors) as daemon,
    ):
        try:
            wait_for(lambda: get("/api/v1/census"), daemon, CENSUS_SECONDS)
            for path in ("/api/v1/census", "/metrics", "/api/v1/snapshot"):
                assert_clean(path, answered(path, daemon))
            wait_for((history / "slabs.db").exists, daemon)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
    kept = [path for path in history.rglob("*") if path.is_file()]
    assert kept
    for file in (log, *kept):
        assert MARKER not in file.read_bytes()
    assert_clean("log", log.read_bytes())


@pytest.fixture
def cores(tmp_path: Path) -> Iterator[Path]:
    """A directory where the kernel writes core files of any size."""
    before, limit = CORE_PATTERN.read_text(), resource.getrlimit(resource.RLIMIT_CORE)
    CORE_PATTERN.write_text(f"{tmp_path}/core.%p")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_CORE, (limit[0], resource.RLIM_INFINITY))
    CORE_PATTERN.write_text(before)


def core_of(cores: Path, pid: int) -> Path:
    return cores / f"core.{pid}"


def test_a_process_killed_in_a_census_leaves_no_core_file(cores: Path) -> None:
    code = f"import os; kept = {MARKER!r} * 2; os.abort()"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        other.wait()
    assert MARKER * 2 in core_of(cores, other.pid).read_bytes()  # others do
    with CensusProcess(CensusSettings(cpu_seconds=float(SECONDS))) as process:
        while process.done < OWNERS:
            assert not process.receive(), "it was done before it could be killed"
            time.sleep(0.05)
        time.sleep(1)
        os.kill(process.pid, signal.SIGSEGV)
        end = time.monotonic() + 60
        while not process.receive() and time.monotonic() < end:
            time.sleep(0.1)
        pid = process.pid
    assert not core_of(cores, pid).exists()
