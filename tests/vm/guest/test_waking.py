# SPDX-License-Identifier: Apache-2.0
"""A daemon that sleeps: what wakes it beside caches and devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.live.daemon import Daemon
from tests.live.workload import Messages

CGROUPS = Path("/sys/fs/cgroup")
WAIT_SECONDS = 30.0
# Objects of 1 KiB that move from one cgroup to the other: 307 KiB a second.
LENGTH, EACH, STEPS = 900, 307, 120
STEP_SECONDS = 1.0
HUNGRY = "held = [bytearray(1 << 20) for _ in range(64)]"


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def is_empty(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.procs").read_text()


@pytest.fixture
def cgroups() -> Iterator[tuple[Path, Path]]:
    """Two cgroups with the memory controller, which are removed again."""
    assert wait_until(lambda: "memory" in (CGROUPS / "cgroup.controllers").read_text().split())
    (CGROUPS / "cgroup.subtree_control").write_text("+memory")
    pair = CGROUPS / "slabmon-from", CGROUPS / "slabmon-to"
    for path in pair:
        path.mkdir()
    yield pair
    subprocess.run(["ipcrm", "--all=msg"], check=True)
    for path in pair:
        assert wait_until(partial(is_empty, path))
        path.rmdir()


@pytest.fixture
def daemon(tmp_path: Path, cgroups: tuple[Path, Path]) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    running.config.write_text("[state]\nkeep = false\n[census]\ninterval = '0'\n")
    running.command += ["--tracking", "auto"]
    running.start()
    yield running
    running.signal(signal.SIGTERM)
    running.wait()


@contextmanager
def within(cgroup: Path, work: Callable[[], object]) -> Iterator[None]:
    """Work in another process, which belongs to the cgroup."""
    child = os.fork()
    if not child:
        (cgroup / "cgroup.procs").write_text("0")
        work()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_process_killed_for_memory_wakes_it(daemon: Daemon, cgroups: tuple[Path, Path]) -> None:
    first, _ = cgroups
    assert daemon.scrape()['slabmon_tracking_state{state="asleep"}'] == 1
    (first / "memory.max").write_text(str(16 << 20))
    script = f"open('{first}/cgroup.procs', 'w').write('0'); {HUNGRY}"
    done = subprocess.run([sys.executable, "-c", script])
    assert done.returncode == -signal.SIGKILL
    assert daemon.has_logged("tracking wakes: 1 ")
    assert "out of memory" in daemon.log() or "killed for lack of memory" in daemon.log()
    woken = daemon.scrape_until('slabmon_tracking_stage{stage="sampled"}', 1)
    assert woken['slabmon_tracking_stage{stage="sampled"}'] == 1


def test_growth_of_a_cgroup_that_its_cache_hides_wakes_it(
    daemon: Daemon, cgroups: tuple[Path, Path]
) -> None:
    first, second = cgroups
    held = Messages()

    def hold() -> None:
        for _ in range(EACH * STEPS):
            held.send(LENGTH)

    def give_back_and_hold() -> None:
        """In step: what one cgroup gives back the other takes."""
        reader, writer = os.pipe()
        taker = os.fork()
        if not taker:
            (second / "cgroup.procs").write_text("0")
            os.close(writer)
            taken = Messages()
            while os.read(reader, 1):
                for _ in range(EACH):
                    taken.send(LENGTH)
            os._exit(0)
        hold()
        for _ in range(STEPS):
            for _ in range(EACH):
                held.receive()
            os.write(writer, b"x")
            time.sleep(STEP_SECONDS)

    with within(first, give_back_and_hold):
        assert daemon.has_logged("tracking wakes: cgroup /slabmon-")
