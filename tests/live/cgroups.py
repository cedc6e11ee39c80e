# SPDX-License-Identifier: Apache-2.0
"""Cgroups that memory is charged to, of both versions, and memory that is charged to another one
than the task's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
_WATCH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_CLOEXEC)
assert libc.inotify_add_watch(watch, os.fsencode(sys.argv[1]), 0x100) > 0  # IN_CREATE
print("ready", flush=True)
sys.stdin.read()
"""
_MAKE = """
import os, sys
for number in range(int(sys.argv[2])):
    os.close(os.open(f"{sys.argv[1]}/file{number}", os.O_CREAT | os.O_WRONLY))
print("ready", flush=True)
sys.stdin.read()
"""


def own_cgroup() -> str:
    """This process's cgroup in the hierarchy that memory is charged in (cgroups(7))."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    return next((paths[n] for n in paths if "memory" in n.split(",")), paths.get("", "/"))


@contextlib.contextmanager
def memory_cgroups(top: Path, count: int) -> Iterator[list[Path]]:
    """Cgroups below one of this process's in the hierarchy mounted at `top`, removed afterwards."""
    parent = top / f"slabmon-test-{os.getpid()}"
    parent.mkdir()
    if (parent / "cgroup.subtree_control").exists():
        (parent / "cgroup.subtree_control").write_text("+memory")
    made = [parent / f"child{number}" for number in range(count)]
    try:
        for path in made:
            path.mkdir()
        yield made
    finally:
        for path in (*made, parent):
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()


@contextlib.contextmanager
def watched(watcher: Path, maker: Path, folder: Path, count: int) -> Iterator[None]:
    """One process watches a folder, another one makes so many files in it. An event waits for the
    watcher, and is charged to the cgroup in which that opened its inotify group
    (inotify_handle_inode_event(), fs/notify/inotify/inotify_fsnotify.c)."""
    with contextlib.ExitStack() as stack:
        for cgroup, text in ((watcher, _WATCH), (maker, _MAKE)):
            process = stack.enter_context(_running(cgroup, text, str(folder), str(count)))
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield


@contextlib.contextmanager
def _running(cgroup: Path, text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a cgroup, until the end of the block."""
    enter = f"import os; open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n"
    with subprocess.Popen(
        [sys.executable, "-c", enter + text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
