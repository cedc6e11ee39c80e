# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only or gone, below history, recordings and reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from slabmon.store.recording import Recording
from tests.live.daemon import PATIENCE_SECONDS, Daemon
from tests.live.disk import Disk, fill, small_disk, use_up_inodes
from tests.support.recordings import record

pytestmark = [pytest.mark.live, pytest.mark.beside]

UP = "slabmon_history_up"


@pytest.fixture
def disk() -> Iterator[Disk]:
    with small_disk(4096) as result:
        yield result


class Host:
    """A daemon whose history is on a disk of its own."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.daemon = Daemon(folder, *disk.prefix)
        self.daemon.config.write_text(
            f'[history]\npath = "{disk.path}/history/slabs.db"\ninterval_seconds = 1\n'
        )
        self.daemon.start()
        assert self.daemon.process is not None
        self.pid = self.daemon.process.pid
        self.mounted = disk.path
        self.disk = disk.seen_by(self.pid)
        self.folder = self.disk / "history"

    def ask(self, path: str) -> dict[str, float]:
        with urllib.request.urlopen(self.daemon.url + path, timeout=30) as answer:
            document: dict[str, float] = json.load(answer)
            return document

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.daemon.log()
            time.sleep(0.3)

    def until_recording(self, expected: float) -> None:
        self.until(lambda: self.daemon.scrape().get(UP) == expected)

    def end(self) -> None:
        self.daemon.signal(signal.SIGTERM)
        assert self.daemon.wait() == 0


@pytest.fixture
def host(tmp_path: Path, disk: Disk) -> Iterator[Host]:
    result = Host(tmp_path, disk)
    try:
        result.until_recording(1)
        yield result
    finally:
        result.end()


def test_history_on_a_full_disk_answers_and_resumes(host: Host) -> None:
    first = host.ask("/api/v1/history")["first"]
    fill(host.disk)
    host.until_recording(0)
    assert host.daemon.has_logged("cannot record history, retrying")
    time.sleep(5)
    last = host.ask("/api/v1/history")["last"]
    assert host.ask("/api/v1/history")["first"] == first
    assert host.ask(f"/api/v1/snapshot?at={first}")["schema"]
    assert host.daemon.scrape()["slabmon_up"] == 1
    (host.disk / "filler").unlink()
    host.until_recording(1)
    host.until(lambda: host.ask("/api/v1/history")["last"] > last)
    assert host.ask("/api/v1/history")["first"] == first
    assert host.daemon.log().count("cannot record history") == 1
    assert host.daemon.log().count("recording history again") == 1


def test_history_whose_directory_is_removed_answers_and_resumes(host: Host) -> None:
    first = host.ask("/api/v1/history")["first"]
    owner = host.folder.stat()
    shutil.rmtree(host.folder)
    host.until_recording(0)
    assert host.daemon.has_logged("is missing or not writable")
    assert host.ask(f"/api/v1/snapshot?at={first}")["schema"]
    assert host.daemon.scrape()["slabmon_up"] == 1
    host.folder.mkdir()
    shutil.chown(host.folder, owner.st_uid, owner.st_gid)
    host.until_recording(1)
    assert host.ask("/api/v1/history")["first"] > first
    assert host.daemon.log().count("cannot record history") == 1


def test_history_whose_disk_is_gone_answers_and_starts_another(host: Host) -> None:
    first = host.ask("/api/v1/history")["first"]
    Disk.unmount(host.pid, host.mounted)
    host.until_recording(0)
    assert host.daemon.has_logged("is missing or not writable")
    assert host.ask(f"/api/v1/snapshot?at={first}")["schema"]
    assert host.daemon.scrape()["slabmon_up"] == 1
    assert host.daemon.log().count("cannot record history") == 1


@pytest.mark.parametrize("trouble", ["full", "inodes", "read-only"])
def test_a_new_web_process_serves_and_reads_what_it_cannot_write(host: Host, trouble: str) -> None:
    web = host.daemon.web_process()
    first = host.ask("/api/v1/history")["first"]
    os.kill(host.pid, signal.SIGSTOP)  # its successor is to start afterwards
    try:
        os.kill(web, signal.SIGKILL)
        host.until(lambda: closed_its_files(web))
        if trouble == "full":
            fill(host.disk)
        elif trouble == "inodes":
            use_up_inodes(host.disk)
        else:
            Disk.remount(host.pid, host.mounted, "ro")
    finally:
        os.kill(host.pid, signal.SIGCONT)
    host.until(lambda: restarted(host))
    assert host.daemon.scrape()["slabmon_up"] == 1
    # Without inodes the log that the last process left can still be written.
    host.until_recording(1 if trouble == "inodes" else 0)
    assert host.ask("/api/v1/history")["first"] == first
    if trouble == "full":
        (host.disk / "filler").unlink()
    elif trouble == "read-only":
        Disk.remount(host.pid, host.mounted, "rw")
    host.until_recording(1)
    assert host.ask("/api/v1/history")["first"] == first


def closed_its_files(pid: int) -> bool:
    """Whether a killed process is a zombie without other threads. Before that, as do_exit() of
    kernel/exit.c does it, its memory goes first and then its files."""
    threads = os.listdir(f"/proc/{pid}/task")
    return threads == [str(pid)] and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def restarted(host: Host) -> bool:
    try:
        return host.daemon.scrape().get("slabmon_web_restarts_total", 0) >= 1
    except OSError:
        return False


def run(disk: Disk, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script on the disk; in it, "$slabmon" is the command."""
    prologue = f'cd {disk.path}; slabmon="{sys.executable} -m slabmon"; '
    return subprocess.run(
        [*disk.prefix, "sh", "-c", prologue + script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


class Recorder:
    """`slabmon record` onto a disk of its own."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.said = folder / "said"
        self.mounted = disk.path
        command = [sys.executable, "-m", "slabmon", "record", "--interval", "0.1s", "-o"]
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [*disk.prefix, *command, str(disk.path / "slabs.db")], stderr=said
            )
        self.until_said("recording to ")
        self.disk = disk.seen_by(self.process.pid)

    def until_said(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.said.read_text():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.1)

    def until_recorded(self, count: int, folder: Path) -> int:
        """Wait until the file holds so many snapshots, all readable; return how many it holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for file in self.disk.glob("slabs.db*"):
                shutil.copy(file, folder)
            with Recording(folder / "slabs.db") as recording:
                times = recording.times()
                for time_ in times:
                    recording.at(time_)
            if len(times) >= count:
                return len(times)
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture
def recorder(disk: Disk, tmp_path: Path) -> Iterator[Recorder]:
    result = Recorder(disk, tmp_path)
    yield result
    result.process.kill()
    result.process.wait()


def test_record_warns_once_and_goes_on_when_there_is_space_again(
    recorder: Recorder, tmp_path: Path
) -> None:
    before = recorder.until_recorded(2, tmp_path)
    fill(recorder.disk)
    recorder.until_said("; retrying")
    assert recorder.until_recorded(before, tmp_path) >= before, "what was written stays readable"
    (recorder.disk / "filler").unlink()
    recorder.until_said("recording again")
    before = recorder.until_recorded(before + 3, tmp_path)
    recorder.process.send_signal(signal.SIGTERM)
    assert recorder.process.wait(PATIENCE_SECONDS) == 0
    said = recorder.said.read_text()
    assert said.count("slabmon: warning: recording ") == 1
    assert re.search(r"^\d+ snapshots recorded, \d+ left out$", said, re.M)


def test_a_recording_on_a_read_only_disk_is_one_error(disk: Disk) -> None:
    done = run(disk, "mount -o remount,ro .; $slabmon record -o slabs.db")
    assert (done.returncode, done.stderr) == (
        2,
        "slabmon: error: cannot write slabs.db: Read-only file system\n",
    )


def test_record_ends_with_one_error_when_its_disk_is_gone(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.until_recorded(2, tmp_path)
    Disk.unmount(recorder.process.pid, recorder.mounted)
    assert recorder.process.wait(PATIENCE_SECONDS) == 2
    said = recorder.said.read_text().splitlines()
    assert said[-1] == (
        f"slabmon: error: {recorder.mounted}/slabs.db was moved, deleted or unmounted while it was "
        "recorded to; start another recording"
    )
    assert re.fullmatch(r"\d+ snapshots recorded", said[-2])


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("head -c 9000000 /dev/zero > filler 2> /dev/null", "No space left on device"),
        (
            "n=0; while touch $n 2> /dev/null; do n=$((n+1)); done",
            "No space left on device",
        ),
        ("mount -o remount,ro .", "Read-only file system"),
    ],
)
def test_a_report_is_written_whole_or_not_at_all(
    disk: Disk, tmp_path: Path, trouble: str, reason: str
) -> None:
    slabs = record(tmp_path / "slabs.db", 5)
    done = run(
        disk,
        f"echo before > page.html; {trouble};"
        '$slabmon report --replay "$1" -o new.html;'
        '$slabmon report --replay "$1" -o page.html; code=$?; cat page.html;'
        "ls -A | grep html; exit $code",
        str(slabs),
    )
    assert done.returncode == 2
    assert done.stderr == "".join(
        f"slabmon: error: cannot write {name}: {reason}\n" for name in ("new.html", "page.html")
    )
    assert done.stdout == "before\npage.html\n"


def test_a_snapshot_into_a_full_file_is_one_error(disk: Disk) -> None:
    done = run(
        disk,
        "head -c 9000000 /dev/zero > filler 2> /dev/null;"
        "$slabmon snapshot --seconds 0 --format json > out.json",
    )
    assert done.returncode == 70
    assert done.stderr == "slabmon: error: cannot write the output: no space left on device\n"
