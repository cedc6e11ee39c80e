# SPDX-License-Identifier: Apache-2.0
"""Ends web processes that a daemon left behind when it was killed.

Such an orphan holds the listening sockets and serves old readings for a while. The next daemon may
end it, but only if it is certain to be one: process numbers are used again.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

PROGRAM = "slabmon.web.process"
_PATIENCE_MS = 500
_PROC = Path("/proc")
_START_FIELD = 22  # of /proc/PID/stat, counted from 1 (proc_pid_stat(5))


class ProcessIdentity(NamedTuple):
    """A process that cannot be mistaken for another: number and start, in clock ticks from boot."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int, proc: Path = _PROC) -> ProcessIdentity | None:
        """Return the identity of a running process, or None if there is none."""
        try:
            stat = (proc / str(pid) / "stat").read_text()
            # The name, field 2, is in parentheses and may hold anything.
            return cls(pid, int(stat.rpartition(")")[2].split()[_START_FIELD - 3]))
        except (OSError, ValueError, IndexError):
            return None

    @classmethod
    def parse(cls, text: str) -> ProcessIdentity | None:
        """Return the identity that str() made this text of, or None if it is anything else."""
        pid, _, start = text.partition(" ")
        return cls(int(pid), int(start)) if pid.isdecimal() and start.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.pid} {self.start}"


def end_orphan(orphan: ProcessIdentity) -> bool:
    """End a web process of an earlier daemon: SIGTERM, then SIGKILL after half a second each.

    Returns whether it has ended. Any other process is left alone.
    """
    try:
        descriptor = os.pidfd_open(orphan.pid)
    except OSError:  # there is none
        return True
    try:
        # The descriptor stays that of this process; what is checked now holds when it is used.
        if ProcessIdentity.of(orphan.pid) != orphan or not _is_web_process(orphan.pid):
            return True
        log.info("ending web process %d of the daemon that was killed", orphan.pid)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if poll.poll(_PATIENCE_MS):
                return True
    except OSError as error:
        log.warning("cannot end web process %d: %s", orphan.pid, error.strerror)
    finally:
        os.close(descriptor)
    return False


def _is_web_process(pid: int) -> bool:
    try:
        return PROGRAM.encode() in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
