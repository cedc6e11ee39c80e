# SPDX-License-Identifier: Apache-2.0
"""How a web process comes into being: as a new program, or as a copy of this one.

A copy shares what both import, so that it counts once, but it also has whatever is in memory: only
the first web process is one, made before anything of the kernel has been read (ADR 11).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from slabmon.runtime import logs
from slabmon.runtime.malloc import settle

# What a process that parses requests needs to know of our environment.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TZ", "JOURNAL_STREAM")
# numpy's worker threads would keep what the thread that gives privileges up gives up.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1"}
_POLL_SECONDS = 0.01
_PR_SET_NAME = 15


class Child(Protocol):
    """A process of ours, as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        ...

    def wait(self, timeout: float) -> int:
        """Its exit code; subprocess.TimeoutExpired if it does not end within so many seconds."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


# From the number of its channel and those of the listening sockets.
Birth = Callable[[int, Sequence[int]], Child]


def execute(channel: int, listeners: Sequence[int]) -> Child:
    """A new program, with nothing of this one's memory."""
    # -P: whatever lies in the working directory is not to be imported.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "slabmon.web.process", str(channel), *map(str, listeners)],
        pass_fds=(channel, *listeners),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return kept | SINGLE_THREADED


class _Copy:
    """A forked process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("slabmon", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def copy(channel: int, listeners: Sequence[int]) -> Child:
    """A copy of this process, which must have one thread. What is in memory now is left alone by
    both garbage collectors, or it would not stay shared."""
    import numpy.ma  # noqa: F401  (numpy does, when first asked for distinct values)

    settle()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _live(channel, listeners)
    return _Copy(pid)


def _live(channel: int, listeners: Sequence[int]) -> NoReturn:
    """The copy's life. It never returns into what the original was doing."""
    code = 70
    try:
        _forget(channel, *listeners)
        from slabmon.web.process import main

        code = main([str(channel), *map(str, listeners)])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _forget(*kept: int) -> None:
    """Session, directory, environment and descriptors as in a new program."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"slabmon-web", 0, 0, 0)
    os.setsid()
    os.chdir("/")
    environment = _environment()
    os.environ.clear()
    os.environ.update(environment)
    logs.tear_down()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (0, 1, 2, *kept):
            with contextlib.suppress(OSError):  # that of the listing is closed already
                os.close(int(name))
