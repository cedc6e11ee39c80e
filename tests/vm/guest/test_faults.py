# SPDX-License-Identifier: Apache-2.0
"""Faults of the host: slabmon continues, and reports its losses."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from tests.live.daemon import PINS, Daemon
from tests.live.workload import messages
from tests.vm.guest import planted as module

N = 1013  # prime
LENGTH = 900


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


@contextmanager
def undone(done: tuple[str, ...], undo: tuple[str, ...]) -> Iterator[None]:
    run(*done)
    try:
        yield
    finally:
        run(*undo)


def sent(tracker: Tracker) -> int:
    """Messages since tracking began, by their call site."""
    sites = tracker.snapshot().sites
    return sum(s.allocs for s in sites if s.symbol in ("load_msg", "alloc_msg"))


def test_a_step_of_the_clock_moves_nothing() -> None:
    with open_tracker(Settings()) as tracker:
        before, clock = tracker.snapshot().tracking, time.monotonic()
        wall = time.time()
        try:
            time.clock_settime(time.CLOCK_REALTIME, wall + 86400)
            after = tracker.snapshot().tracking
        finally:
            time.clock_settime(time.CLOCK_REALTIME, wall + time.monotonic() - clock)
    assert after.since == before.since
    assert 0 < after.seconds - before.seconds < 3600


def test_a_cpu_that_goes_offline_keeps_its_counts() -> None:
    cpu = "/sys/devices/system/cpu/cpu1/online"
    switch = ("sh", "-c", f"echo 0 > {cpu}"), ("sh", "-c", f"echo 1 > {cpu}")
    with messages() as queue, open_tracker(Settings()) as tracker:
        queue.churn(N, LENGTH)
        assert sent(tracker) == N
        with undone(*switch):
            queue.churn(N, LENGTH)
            assert sent(tracker) == 2 * N
        queue.churn(N, LENGTH)
        assert sent(tracker) == 3 * N


def test_without_tracefs_counting_is_exact() -> None:
    again = "mount -t debugfs debugfs /sys/kernel/debug; mount -t tracefs tracefs {}"
    with (
        undone(
            ("umount", "/sys/kernel/tracing"),
            ("sh", "-c", again.format("/sys/kernel/tracing")),
        ),
        messages() as queue,
    ):
        run("umount", "-R", "/sys/kernel/debug")
        with open_tracker(Settings()) as tracker:
            queue.churn(N, LENGTH)
            assert sent(tracker) == N
            assert any(c.name == "kernel" and c.allocs for c in tracker.snapshot().gfp)


def test_slabinfo_that_cannot_be_read_is_said_and_comes_back() -> None:
    with open_tracker(Settings()) as tracker:
        assert any(c.slabinfo for c in tracker.snapshot().caches)
        with undone(
            ("mount", "--bind", "/dev/null", "/proc/slabinfo"), ("umount", "/proc/slabinfo")
        ):
            snapshot = tracker.snapshot()
            assert not any(c.slabinfo for c in snapshot.caches)
            assert snapshot.features["slabinfo"].state == "degraded"
        snapshot = tracker.snapshot()
        assert any(c.slabinfo for c in snapshot.caches)
        assert snapshot.features["slabinfo"].state == "on"


def test_a_module_unloaded_while_tables_are_read() -> None:
    rounds = 5
    failed: list[BaseException] = []

    def reload() -> None:
        try:
            for _ in range(rounds):
                module.load()
                module.run("sizes")
                module.run("release")
                module.unload()
        except BaseException as error:
            failed.append(error)

    with open_tracker(Settings()) as tracker:
        thread = threading.Thread(target=reload)
        thread.start()
        while thread.is_alive():
            tracker.snapshot(details=True)
        thread.join()
        snapshot = tracker.snapshot()
    assert not failed, failed
    assert snapshot.losses["events_full"] == 0
    assert any(site.module == module.NAME for site in snapshot.sites)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons; they are ended afterwards."""
    started: list[Daemon] = []

    def start(*prefix: str, lock: Path | None = None, configuration: str = "") -> Daemon:
        started.append(Daemon(tmp_path, *prefix, lock=lock))
        started[-1].config.write_text(configuration)
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        if one.process is not None:
            one.process.terminate()
            assert one.wait() == 0
    assert not PINS.exists()


def test_without_a_bpf_file_system_counting_goes_on(daemon: Callable[..., Daemon]) -> None:
    """It cannot be mounted either: mount(2) is refused."""
    refused = ("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin")
    with undone(("umount", "/sys/fs/bpf"), ("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")):
        one = daemon(*refused)
        samples = one.scrape()
        assert samples['slabmon_feature_state{feature="state",state="degraded"}'] == 1
        assert "state is not kept" in one.log()


def test_no_room_for_the_lock_file_is_said(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    with undone(
        ("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", str(full)),
        ("umount", "-l", str(full)),
    ):
        one = daemon(lock=full / "lock")
        assert "no lock file" in one.log()
        assert one.scrape_until("slabmon_up", 1)["slabmon_up"] == 1


def test_no_room_for_history_is_said_and_it_goes_on_when_there_is(
    daemon: Callable[..., Daemon],
) -> None:
    folder = Path("/run/small")  # the web process writes there, as nobody
    folder.mkdir()
    with undone(
        ("mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "small", str(folder)),
        ("umount", "-l", str(folder)),
    ):
        filler = folder / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 20))
        history = f"path = '{folder}/slabs.db'\ninterval_seconds = 1\n"
        one = daemon(configuration=f"[history]\n{history}")
        assert one.has_logged("cannot record history")
        assert one.scrape_until("slabmon_up", 1)["slabmon_up"] == 1
        filler.unlink()
        assert one.has_logged("recording history again")
