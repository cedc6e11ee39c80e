# SPDX-License-Identifier: Apache-2.0
"""A process that does one thing and sends the result, beside a program that goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Self

_RECEIVE_BYTES = 1 << 16
_END_SECONDS = 1.0
# BLAS, which no such process uses, would start a thread and its stack for every CPU.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Worker:
    """A process that runs a module, and this end of its channel, which does not block. The module's
    arguments are the descriptor of the other end, then `arguments`.

    Call receive() whenever `channel` is readable, until it returns True. close() ends the process
    at any time.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it, with these variables beside this process'. Raises OSError if there is no room
        for another process."""
        self.channel, child_end = socket.socketpair()
        self.channel.setblocking(False)
        try:
            with child_end:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(child_end.fileno()), *arguments],
                    pass_fds=(child_end.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=os.environ | _ENVIRONMENT | dict(environment or {}),
                )
        except BaseException:
            self.channel.close()
            raise
        self.pid = self._process.pid
        self.received = bytearray()

    def receive(self) -> bool:
        """Add some of what has arrived to `received`; return whether the process has sent all it
        had to."""
        try:
            data = self.channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.received += data
        return not data

    def ending(self) -> str:
        """Return the last line that the process, which has closed its end, wrote to standard error,
        else how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        lines = (self._process.stderr.read() or b"").decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def killed(self) -> bool:
        """Return whether the process, which has closed its end, was killed (SIGKILL)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        return self._process.returncode == -signal.SIGKILL

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.channel.close()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
