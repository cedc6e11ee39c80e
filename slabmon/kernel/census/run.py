# SPDX-License-Identifier: Apache-2.0
"""Takes a census in another process."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable

import msgspec

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.census.codec import decode
from slabmon.census.model import Census
from slabmon.kernel.census.child import LENGTH, PAGES, Report
from slabmon.kernel.census.settings import CensusSettings
from slabmon.runtime.figures import CensusFailure

_ERRORS = {error.exit_code: error for error in (PermissionDenied, UnsupportedHost, UsageError)}
# BLAS, which no census uses, would start a thread and its stack for every CPU. Arrays of several
# MiB go back to the kernel when they are freed, whatever was freed before (mallopt(3)).
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
}
_TICK_SECONDS = 0.1
_END_SECONDS = 1.0
_RECEIVE_BYTES = 1 << 16


class CensusProcess:
    """A process that takes one census, and this end of its channel, which does not block.

    Call receive() whenever `channel` is readable, until it returns True, then result(). close()
    ends the process at any time.
    """

    def __init__(self, settings: CensusSettings, *, pages_only: bool = False) -> None:
        """Start it; `pages_only`: it only says what each page of memory is, and looks into no slab.
        Raises OSError if there is no room for another process."""
        self.channel, child_end = socket.socketpair()
        self.channel.setblocking(False)
        try:
            with child_end:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "slabmon.kernel.census.child",
                        str(child_end.fileno()),
                        msgspec.json.encode(settings).decode(),
                        *([PAGES] * pages_only),
                    ],
                    pass_fds=(child_end.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=os.environ | _ENVIRONMENT,
                )
        except BaseException:
            self.channel.close()
            raise
        self.pid = self._process.pid
        self._received = bytearray()
        self._last = Report()

    @property
    def done(self) -> float:
        """The share of the work that is done, from 0 to 1."""
        return self._last.done

    @property
    def failure(self) -> CensusFailure:
        """What kind of error result() raises."""
        return self._last.failure

    def receive(self) -> bool:
        """Take some of what has arrived; return whether the process has sent all it had to. Raises
        SlabmonError if it is malformed."""
        try:
            data = self.channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            message = bytes(self._received[LENGTH.size : end])
            try:
                self._last = msgspec.msgpack.decode(message, type=Report)
            except msgspec.MsgspecError as error:
                raise SlabmonError(f"census: malformed report: {error}") from error
            del self._received[:end]
        return not data

    def result(self) -> bytes:
        """Return the census, encoded. Raises PermissionDenied, UnsupportedHost, UsageError if it
        would use more than the settings allow, and SlabmonError."""
        if self._last.error:
            raise _ERRORS.get(self._last.exit_code, SlabmonError)(self._last.error)
        if not self._last.census:
            raise SlabmonError(f"census: the process that takes it ended early: {self._end()}")
        return self._last.census

    def _end(self) -> str:
        """Return the last line that the process wrote to standard error, else how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        lines = (self._process.stderr.read() or b"").decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.channel.close()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> CensusProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def take_census(
    settings: CensusSettings,
    progress: Callable[[float], object] = lambda _: None,
    *,
    pages_only: bool = False,
) -> Census:
    """Return a census of the running kernel. Errors are those of CensusProcess.result().

    `progress` is called ten times a second with the share of the work that is done. `pages_only`:
    see CensusProcess.
    """
    with (
        CensusProcess(settings, pages_only=pages_only) as process,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(process.channel, selectors.EVENT_READ)
        while not (selector.select(_TICK_SECONDS) and process.receive()):
            progress(process.done)
        return decode(process.result())
