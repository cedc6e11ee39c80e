# SPDX-License-Identifier: Apache-2.0
"""A command that starts when it is told to, and gets the signals meant for it."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

# Ended or asked for, while a command runs. Others have their usual effect on slabmon itself.
_PASSED_ON = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_WATCHED = (*_PASSED_ON, signal.SIGCHLD)
# si_code of signals that the kernel sends, as a terminal's driver does on Ctrl-C
# (include/uapi/asm-generic/siginfo.h): to all processes of the foreground, the command included.
_SI_KERNEL = 0x80
# What shells, env(1) and timeout(1) exit with.
_NOT_FOUND, _NOT_EXECUTABLE, _SIGNALLED = 127, 126, 128
_ERRNO = struct.Struct("i")


class Command:
    """A child process with this process's standard streams, environment and process group.

    It waits until release() lets it run; wait() passes signals on to it. To the end of the `with`
    block this process gets signals through wait() and interrupted() only.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Fork. The child executes `argv` when it is released, and never if this process ends."""
        self.argv = list(argv)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        waiting, self._start = os.pipe()
        self._failure, failing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._become(waiting, failing)
        os.close(waiting)
        os.close(failing)
        self.exit_code: int | None = None
        self.signal: int | None = None

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *exc: object) -> None:
        for descriptor in (self._start, self._failure):
            os.close(descriptor)  # it ends now if it has not been released
        if self.exit_code is None:
            self.wait(lambda: None, 1.0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _become(self, waiting: int, failing: int) -> NoReturn:
        """Be the command, in the child: wait, then execute it."""
        try:
            os.close(self._start)
            if os.read(waiting, 1):
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                    signal.signal(number, signal.SIG_DFL)
                if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background job
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
                try:
                    os.execvp(self.argv[0], self.argv)
                except OSError as error:
                    os.write(failing, _ERRNO.pack(error.errno or 0))
        finally:
            os._exit(_NOT_FOUND)

    def release(self) -> str:
        """Let it run. Return why it could not be executed, or ""."""
        with suppress(BrokenPipeError):  # somebody has killed it
            os.write(self._start, b"x")
        failure = os.read(self._failure, _ERRNO.size)
        if not failure:
            return ""
        (number,) = _ERRNO.unpack(failure)
        os.waitpid(self.pid, 0)
        not_found = isinstance(OSError(number, ""), FileNotFoundError)
        self.exit_code = _NOT_FOUND if not_found else _NOT_EXECUTABLE
        return os.strerror(number)

    def wait(self, each: Callable[[], object], seconds: float) -> int:
        """Wait until it has ended; call `each` every so many seconds. Return its exit code, 128 + N
        if signal N ended it."""
        while self.exit_code is None:
            self._pass_on(signal.sigtimedwait(_WATCHED, seconds))
            each()
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                self.signal = -code if code < 0 else None
                self.exit_code = _SIGNALLED - code if code < 0 else code
        return self.exit_code

    def _pass_on(self, info: signal.struct_siginfo | None) -> None:
        if info is None or info.si_signo not in _PASSED_ON or info.si_code == _SI_KERNEL:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, info.si_signo)


def interrupted(seconds: float) -> bool:
    """Wait, after the command has ended; return whether this process was asked to end meanwhile."""
    end = time.monotonic() + seconds
    while True:
        info = signal.sigtimedwait(_WATCHED, max(0.0, end - time.monotonic()))
        if info is None:
            return False
        if info.si_signo in _ENDING:
            return True
