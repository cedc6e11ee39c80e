# SPDX-License-Identifier: Apache-2.0
"""Which processes run, since when, and how many descriptors they have open."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from slabmon.base.clock import suspended
from slabmon.model import Process

MAX_PROCESSES = 128
# Between looks at the same processes.
STEP_SECONDS = 10.0
_PROC = Path("/proc")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_START_TIME = 19  # field of /proc/PID/stat, counted from the one behind the name (proc(5): 22)


class Processes:
    """Processes by thread group id, which is that of the first PID namespace in a tracked object:
    elsewhere, and where /proc hides processes of others, nothing is known of them."""

    def __init__(self, proc: Path = _PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc, self._clock = proc, clock
        self._tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
        self._last: tuple[Process, ...] | None = None
        self._asked: frozenset[int] = frozenset()
        self._at = -STEP_SECONDS

    def read(self, tgids: Iterable[int]) -> tuple[Process, ...] | None:
        """Return the first MAX_PROCESSES of these, None if nothing is known of them."""
        wanted = list(tgids)[:MAX_PROCESSES]
        if self._asked.issuperset(wanted) and self._clock() - self._at < STEP_SECONDS:
            return self._last
        self._at, self._asked = self._clock(), frozenset(wanted)
        self._last = self._look(wanted) if in_first_namespace(self._proc) else None
        return self._last

    def _look(self, tgids: Iterable[int]) -> tuple[Process, ...] | None:
        # To whole ticks, as starts are: its two clocks are not read at the same instant, and a
        # process must start at the same time whenever it is looked at.
        slept = round(suspended() * 1e9 / self._tick_ns) * self._tick_ns
        found = []
        for tgid in tgids:
            if not tgid:  # the idle tasks, which are always there
                found.append(Process(tgid=0, started_ns=0))
                continue
            folder = self._proc / str(tgid)
            try:
                text = (folder / "stat").read_bytes()
            except OSError:
                if exists(tgid):
                    return None  # hidden (hidepid)
                found.append(Process(tgid=tgid))
                continue
            ticks = int(text.rpartition(b")")[2].split()[_START_TIME])
            found.append(
                Process(
                    tgid=tgid,
                    started_ns=max(0, ticks * self._tick_ns - slept),
                    descriptors=_descriptors(folder / "fd"),
                )
            )
        return tuple(found)


def in_first_namespace(proc: Path = _PROC) -> bool:
    """Return whether this process sees ids of tasks as the kernel itself does."""
    with suppress(OSError):
        return (proc / "self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
    return False


def exists(task: int) -> bool:
    """Return whether there is a process or thread of this id."""
    try:
        os.kill(task, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _descriptors(folder: Path) -> int | None:
    """Return how many descriptors are open: the size of the directory from 6.2 on (fs/proc/fd.c),
    else its entries, which may not be listed."""
    try:
        return folder.stat().st_size or len(os.listdir(folder))
    except OSError:
        return None
