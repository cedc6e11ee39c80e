# SPDX-License-Identifier: Apache-2.0
"""slabmon run on the running kernel: planted objects are found exactly, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.kernel import left_behind, ours
from tests.live.workload import messages
from tests.support.paths import ROOT

pytestmark = pytest.mark.live

SLABMON = (sys.executable, "-m", "slabmon", "run")
LIMIT_SECONDS = 120
HELD, OTHERS = 37, 53
# Sends HELD messages, prints its queues, and exits.
LEAK = f"""
from tests.live.workload import Messages
queue = Messages()
for _ in range({HELD}):
    queue.send(900)
print(*queue._queues)
"""
# A process that stays, with HELD sockets, files and pipes.
STAY = f"""
import os, socket, time
sockets = [socket.socket(socket.AF_UNIX) for _ in range({HELD})]
files = [os.open("/dev/null", os.O_RDONLY) for _ in range({HELD})]
pipes = [os.pipe() for _ in range({HELD})]
print(os.getpid(), flush=True)
os.close(1)
os.close(2)
time.sleep({LIMIT_SECONDS})
"""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = ours()
    yield
    assert not left_behind(before)


def run(
    path: Path, *arguments: str, command: tuple[str, ...], code: int = 0
) -> tuple[dict[str, Any], str]:
    """Run it; return the report and the command's standard output."""
    done = subprocess.run(
        [*SLABMON, "--format", "json", "-o", str(path), *arguments, "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=ROOT,
    )
    assert done.returncode == code
    return json.loads(path.read_text()), done.stdout


def objects_by_site(report: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Objects left, by function and cache."""
    found: dict[tuple[str, str], int] = {}
    for row in report["stacks"]:
        key = row["site"]["symbol"], row["cache"]
        found[key] = found.get(key, 0) + row["objects"]
    return found


@contextmanager
def busy() -> Iterator[None]:
    """Load by a process that is not the command's: it allocates, and holds more and more."""
    stop = threading.Event()
    with messages() as queue:

        def work() -> None:
            while not stop.is_set():
                queue.churn(50, 700)
                for _ in range(OTHERS):
                    queue.send(700)
                stop.wait(0.02)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    "command",
    [
        ("true",),
        ("sh", "-c", "ls / | wc -l; echo a | cat; (exit 0) & wait"),
        (
            sys.executable,
            "-c",
            "import os, socket; socket.socketpair(); os.pipe(); open('/etc/os-release')",
        ),
    ],
    ids=["true", "shell", "python"],
)
def test_a_clean_command_leaves_nothing_beside_unrelated_load(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with busy():
        report, _ = run(tmp_path / "run.json", "--error-exitcode", "9", command=command)
    assert report["left"] == {"objects": 0, "bytes": 0}, report["stacks"]
    assert report["stacks"] == []


def test_messages_that_a_command_leaves_are_counted_exactly(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    arguments = ("--settle", "1", "--error-exitcode", "9")
    with busy():
        report, output = run(path, *arguments, command=(sys.executable, "-c", LEAK), code=9)
    for queue in output.split():
        subprocess.run(["ipcrm", "-q", queue], check=True)
    found = objects_by_site(report)
    assert found.pop(("load_msg", "msg_msg-1k")) == HELD
    # The queues themselves; nothing else may be listed.
    assert {symbol for symbol, _ in found} <= {"newque", "ipc_addid", "percpu_counter_init"}
    (row,) = (row for row in report["stacks"] if row["site"]["symbol"] == "load_msg")
    assert row["bytes"] == HELD * 1024
    assert "do_msgsnd" in row["stack"]
    assert list(row["processes"].values()) == [HELD]


def test_a_process_that_stays_is_named_with_what_it_holds(tmp_path: Path) -> None:
    script = f"{sys.executable} -c '{STAY}' & exit 3"
    report, output = run(
        tmp_path / "run.json", "--settle", "1", command=("bash", "-c", script), code=3
    )
    holder = int(output)
    os.kill(holder, signal.SIGKILL)
    assert any(f"({holder})" in note for note in report["notes"])
    found = objects_by_site(report)
    sockets = sum(count for (symbol, _), count in found.items() if symbol == "sk_prot_alloc")
    assert sockets == HELD
    pipes = sum(count for (symbol, _), count in found.items() if symbol == "alloc_pipe_info")
    assert pipes == 2 * HELD  # the pipe, and its array of buffers
    opened = sum(
        row["objects"]
        for row in report["stacks"]
        if row["site"]["symbol"] == "alloc_empty_file" and "path_openat" in row["stack"]
    )
    assert opened >= HELD


def test_a_cache_can_be_named(tmp_path: Path) -> None:
    """Then objects of other caches, and other processes' of this cache, are not tracked."""
    arguments = ("--settle", "0", "--exact", "cache=msg_msg-1k")
    with busy():
        report, output = run(
            tmp_path / "run.json", *arguments, command=(sys.executable, "-c", LEAK)
        )
    for queue in output.split():
        subprocess.run(["ipcrm", "-q", queue], check=True)
    assert objects_by_site(report) == {("load_msg", "msg_msg-1k"): HELD}


def test_the_commands_streams_are_its_own() -> None:
    done = subprocess.run(
        [*SLABMON, "--", "sh", "-c", "read line; echo got $line; echo warn >&2; exit 4"],
        input="text\n",
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert (done.returncode, done.stdout) == (4, "got text\n")
    assert done.stderr.startswith("warn\nslabmon: nothing left by sh -c ")


def test_an_interrupt_ends_command_and_session_cleanly() -> None:
    with subprocess.Popen(
        [*SLABMON, "--settle", "60", "--", "sh", "-c", "echo ready; exec sleep 100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 128 + signal.SIGINT
    assert "nothing left" in errors
    assert time.monotonic() - start < 60
