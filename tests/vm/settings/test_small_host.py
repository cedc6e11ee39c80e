# SPDX-License-Identifier: Apache-2.0
"""A host of 512 MiB: slabmon starts, what it costs there, what it says if too little is left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.daemon import Daemon
from tests.vm.guest.bpf_objects import Footprint, assert_back_to
from tests.vm.guest.test_lifecycle import SLABMON
from tests.vm.settings.boot import require_memory

require_memory(512)
LEFT_MIB = 70  # less than the compiler of the BPF programs takes
MOST_PSS_MIB = 128
WALL_SECONDS = 900


def meminfo(name: str) -> int:
    """MiB."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[name].split()[0]) >> 10


def kills() -> int:
    """Processes that the kernel has killed for lack of memory."""
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["oom_kill"])


def pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no Pss of process {pid}")


@pytest.mark.parametrize(
    "command",
    [
        ("snapshot", "--seconds", "1"),
        ("census", "--cpu-seconds", "900"),
        ("memory", "--cpu-seconds", "900"),
    ],
    ids=lambda command: command[0],
)
def test_commands_fit(command: tuple[str, ...]) -> None:
    before = kills()
    done = subprocess.run(
        [SLABMON, *command, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=WALL_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert kills() == before


def test_the_daemon_fits(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    before, available = kills(), meminfo("MemAvailable")
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        assert daemon.scrape_until("slabmon_up", 1)["slabmon_up"] == 1
        assert daemon.process is not None
        cost = sum(pss_mib(pid) for pid in (daemon.process.pid, daemon.web_process()))
        taken = available - meminfo("MemAvailable")
    finally:
        daemon.signal(15)
        assert daemon.wait() == 0
    record_property("pss_mib", round(cost))
    record_property("less_available_mib", taken)
    assert cost < MOST_PSS_MIB
    assert kills() == before


@contextmanager
def little_memory(folder: Path) -> Iterator[None]:
    """Fill the memory up to LEFT_MIB. This process is not to be killed for it."""
    mine = Path("/proc/self/oom_score_adj")
    old = mine.read_text()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=95%", "tmpfs", folder], check=True)
    mine.write_text("-900")
    try:
        with (folder / "ballast").open("wb") as file:
            while meminfo("MemAvailable") > LEFT_MIB:
                file.write(bytes(1 << 20))
                file.flush()
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        mine.write_text(old)


def usual_score() -> None:
    Path("/proc/self/oom_score_adj").write_text("0")


def test_too_little_memory_is_named(tmp_path: Path) -> None:
    """Of a command. The kernel kills a daemon itself where not even its first process has room."""
    before = Footprint.now()
    with little_memory(tmp_path):
        done = subprocess.run(
            [SLABMON, "snapshot", "--seconds", "1"],
            capture_output=True,
            text=True,
            timeout=WALL_SECONDS,
            preexec_fn=usual_score,
        )
    print(done.stderr)
    assert done.returncode == 4, done.stderr
    assert "out of memory" in done.stderr
    assert "free memory on the host" in done.stderr
    assert "Traceback" not in done.stderr
    assert_back_to(before)
