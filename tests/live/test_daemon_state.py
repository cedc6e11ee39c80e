# SPDX-License-Identifier: Apache-2.0
"""The daemon over kill -9, a second daemon, a reload, and an end on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slabmon.daemon.supervisor import CHECK_SECONDS, SILENT_CHECKS
from slabmon.views.window import POINT_SECONDS
from tests.live.collector import wait_for
from tests.live.daemon import PINS, Daemon
from tests.live.kernel import left_behind, ours
from tests.live.workload import messages

pytestmark = [pytest.mark.live, pytest.mark.beside]

BEFORE, DEAD, AFTER = 1013, 2003, 503  # primes
COUNTER = 'slabmon_cache_allocations_total{cache="msg_msg-1k"}'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Not started yet. Afterwards nothing of it may be left."""
    mounts = Path("/proc/mounts")
    loaded, before = ours(), mounts.read_text()
    result = Daemon(tmp_path)
    yield result
    if result.process is not None:
        result.signal(signal.SIGTERM)
        assert result.wait() == 0
    assert not left_behind(loaded)
    assert mounts.read_text() == before
    assert not PINS.exists()


def test_counters_go_on_over_kill_9(daemon: Daemon) -> None:
    daemon.start()
    with messages() as queue:
        queue.churn(BEFORE, 900)
        old = daemon.scrape_until(COUNTER, BEFORE)
        daemon.signal(signal.SIGKILL)
        assert daemon.wait() == -signal.SIGKILL
        queue.churn(DEAD, 900)
        daemon.start()
        queue.churn(AFTER, 900)
        new = daemon.scrape_until(COUNTER, BEFORE + DEAD + AFTER)
    assert old[COUNTER] == BEFORE
    assert new[COUNTER] == BEFORE + DEAD + AFTER
    assert new["slabmon_tracking_since_seconds"] == old["slabmon_tracking_since_seconds"]
    assert "counters continue" in daemon.log()
    own = ("slabmon_process_", "slabmon_scrape_", "slabmon_web_", "slabmon_http_")
    fallen = [
        name
        for name, value in old.items()
        if "_total" in name and not name.startswith(own) and new.get(name, -1) < value
    ]
    assert not fallen


def test_a_start_that_fails_leaves_what_there_was(daemon: Daemon) -> None:
    def fail() -> None:
        command = [*daemon.command, "--history.path", "/proc/slabs.db"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "history.path" in done.stderr

    loaded = ours()
    fail()
    assert not PINS.exists()
    assert not left_behind(loaded)
    daemon.start()
    since = daemon.scrape()["slabmon_tracking_since_seconds"]
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    kept = sorted(os.listdir(PINS))
    fail()
    assert sorted(os.listdir(PINS)) == kept
    daemon.start()
    assert daemon.scrape()["slabmon_tracking_since_seconds"] == since


def test_the_next_daemon_takes_over_from_an_orphaned_web_process_at_once(daemon: Daemon) -> None:
    """It holds the port, and would answer with old figures for 20 s."""
    begun = time.monotonic()
    daemon.start()
    first_start = time.monotonic() - begun
    daemon.scrape()
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL
    assert daemon.scrape()["slabmon_up"] == 0, "the orphan answers"
    begun = time.monotonic()
    daemon.start()
    assert time.monotonic() - begun < 3 + first_start
    assert daemon.scrape()["slabmon_up"] == 1
    assert "ending web process" in daemon.log()


def has_changed(path: Path, since: float) -> bool:
    return path.stat().st_mtime > since


def test_what_verdicts_have_watched_goes_on_whoever_is_killed(
    daemon: Daemon, tmp_path: Path
) -> None:
    file, watched = tmp_path / "lock.verdicts", "slabmon_leak_observed_seconds"
    daemon.start()
    last = daemon.scrape()
    for restarts, everyone in ((1, False), (0, False), (0, True)):
        wait_for(partial(has_changed, file, time.time()))
        if restarts:
            os.kill(daemon.web_process(), signal.SIGKILL)
            new = daemon.scrape_until("slabmon_web_restarts_total", restarts)
        else:
            web = daemon.web_process()
            daemon.signal(signal.SIGKILL)
            if everyone:
                os.kill(web, signal.SIGKILL)
            daemon.wait()
            daemon.start()
            new = daemon.scrape()
        assert new[watched] > last[watched], daemon.log()
        last = new
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not file.exists()
    assert "verdicts" not in daemon.log()


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes by signal."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Freeze processes in a cgroup of their own
    (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst)."""
    root = Path("/sys/fs/cgroup/freezer")
    if not root.is_dir():
        pytest.skip("this host has no freezer of version 1")
    cgroup = root / f"slabmon-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        for pid in pids:
            (cgroup / "cgroup.procs").write_text(str(pid))
        (cgroup / "freezer.state").write_text("FROZEN")
        while (cgroup / "freezer.state").read_text() != "FROZEN\n":
            time.sleep(0.01)
        yield
    finally:
        (cgroup / "freezer.state").write_text("THAWED")
        for pid in pids:
            (root / "cgroup.procs").write_text(str(pid))
        cgroup.rmdir()


def shown(daemon: Daemon) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the facts of the page's header, and the figures of a cache by column."""
    query = "view=caches&columns=all&filter=name%3Dmsg_msg-1k"
    with urllib.request.urlopen(f"{daemon.url}/api/v1/table?{query}", timeout=60) as answer:
        table = json.load(answer)
    (row,) = table["rows"]
    figures = zip((column["name"] for column in table["columns"]), row["values"], strict=True)
    return {fact["name"]: fact["text"] for fact in table["header"]["facts"]}, dict(figures)


@pytest.mark.parametrize("pause", [stopped, frozen])
def test_a_pause_of_both_processes_loses_and_replaces_nothing_and_is_shown(
    daemon: Daemon, pause: Callable[[list[int]], AbstractContextManager[None]]
) -> None:
    """For longer than a web process may be silent."""
    daemon.start()
    assert daemon.process is not None
    web = daemon.web_process()
    seconds = 1.2 * SILENT_CHECKS * CHECK_SECONDS
    with messages() as queue:
        queue.churn(BEFORE, 900)
        daemon.scrape_until(COUNTER, BEFORE)
        for _ in range(3):  # the page knows its usual interval
            facts, _ = shown(daemon)
            assert "not read" not in facts
            time.sleep(POINT_SECONDS + 1)
        with pause([daemon.process.pid, web]):
            queue.churn(DEAD, 900)
            time.sleep(seconds)
        new = daemon.scrape_until(COUNTER, BEFORE + DEAD)
        facts, figures = shown(daemon)
    assert "not read" in facts
    assert 0 < figures["allocs_per_second"] <= DEAD / seconds, "the pause is part of the interval"
    assert figures["history"].count(None) >= 2
    time.sleep(2 * CHECK_SECONDS)
    assert new[COUNTER] == BEFORE + DEAD
    assert daemon.scrape()["slabmon_web_restarts_total"] == 0
    assert daemon.scrape()["slabmon_up"] == 1
    assert Path(f"/proc/{web}").exists()


def test_a_second_daemon_is_refused_with_the_first_ones_process(daemon: Daemon) -> None:
    daemon.start()
    done = subprocess.run(daemon.command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert daemon.process is not None
    assert f"process {daemon.process.pid} " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reload_changes_what_it_can_and_says_what_it_cannot(daemon: Daemon) -> None:
    daemon.start()
    daemon.config.write_text("[tracking]\nsample_bytes = 4096\nsamples = 4096\n")
    daemon.signal(signal.SIGHUP)
    assert daemon.has_logged("wait for a restart: tracking.samples")
    assert daemon.has_logged("changed: tracking.sample_bytes")
    time.sleep(0.6)  # readings are shared for half a second
    assert daemon.scrape()["slabmon_sample_bytes"] == 4096
    daemon.config.write_text("[tracking]\nsample_byte = 1\n")
    daemon.signal(signal.SIGHUP)
    assert daemon.has_logged("did you mean sample_bytes?")
    assert daemon.scrape()["slabmon_sample_bytes"] == 4096


def test_without_keeping_nothing_is_pinned(daemon: Daemon) -> None:
    daemon.config.write_text("[state]\nkeep = false\n")
    daemon.start()
    assert not PINS.exists()
