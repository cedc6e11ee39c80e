# SPDX-License-Identifier: Apache-2.0
"""Starts the web process: always a new program, never a fork (ADR 11, ADR 18).

A fork would have the address-space layout of the privileged process, and what that holds in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from slabmon.daemon.orphans import PROGRAM
from slabmon.runtime.tuning import SINGLE_THREADED

# The part of the environment that a process which parses requests needs.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TZ", "JOURNAL_STREAM")


class Child(Protocol):
    """A child process: the part of subprocess.Popen that is used of it."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        ...

    def wait(self, timeout: float) -> int:
        """Return its exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


# Takes the descriptors of the child's end of the channel and of the listening sockets.
Spawner = Callable[[int, Sequence[int]], Child]


def spawn(checkpoint: int, channel: int, listeners: Sequence[int]) -> Child:
    """Start the web process with these descriptors open, and no others but standard error.
    `checkpoint` is that of the file in state/checkpoint_file.py."""
    descriptors = (checkpoint, channel, *listeners)
    # -P: never import from the working directory.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", PROGRAM, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | SINGLE_THREADED
