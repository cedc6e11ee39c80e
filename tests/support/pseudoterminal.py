# SPDX-License-Identifier: Apache-2.0
"""A command on a pseudo-terminal, as a person's shell would run it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ESCAPES = re.compile(r"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b[=>]|\x1b\].*?(?:\x07|\x1b\\)")
COLOURS = re.compile(r"\x1b\[[0-9;]*?(?<![0-9])(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
_PATIENCE_SECONDS = 90.0
_ON_BY_DEFAULT = {"7", "25"}  # line wrap, cursor


class OnTerminal:
    """`output` is all that was written so far."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, spare: int) -> None:
        self.process = process
        self._terminal = terminal
        self._spare = spare
        self.before = termios.tcgetattr(spare)
        self.output = ""

    def read(self, seconds: float = 0.2) -> str:
        """Takes in what comes within this time, and what follows at once."""
        while select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.output += os.read(self._terminal, 65_536).decode("utf-8", "replace")
            except OSError:
                break
            seconds = 0.05
        return self.output

    @property
    def text(self) -> str:
        """The output without what moves the cursor and sets colours."""
        return _ESCAPES.sub("", self.output)

    def wait_for(self, text: str) -> None:
        """Reads until this text is there."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in {self.text!r}"
            assert self.process.poll() is None or self.read(0.1), self.text
            self.read()

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Waits for the end; the exit code."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        self.read()
        return self.process.wait(1)

    def hang_up(self) -> None:
        """Take the terminal away, as the end of a connection does."""
        os.close(self._spare)
        os.close(self._terminal)
        self._spare = self._terminal = -1

    def close(self) -> None:
        """Close both ends of the terminal."""
        if self._terminal != -1:
            self.hang_up()

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: settings, screen, cursor, mouse, keyboard."""
        modes = dict(re.findall(r"\x1b\[\?(\d+)([hl])", self.output))
        on = {number for number, state in modes.items() if state == "h"}
        return (
            termios.tcgetattr(self._spare) == self.before
            and on <= _ON_BY_DEFAULT
            and all(modes.get(number, "h") == "h" for number in _ON_BY_DEFAULT)
            and self.output.count("\x1b[>") == self.output.count("\x1b[<u")
        )

    def wait_until_stopped(self) -> None:
        """Read until the process is stopped by a signal."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not os.waitid(
            os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            assert time.monotonic() < deadline, self.text
            self.read(0.05)
        self.read()


@contextmanager
def on_terminal(
    *arguments: str, columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[OnTerminal]:
    """slabmon with these arguments on a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "COLORTERM", "COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "slabmon", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        # Ignored signals are inherited: nohup in front of the tests must not reach the command.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        env={**plain, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment},
    )
    terminal = OnTerminal(process, master, slave)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        terminal.close()
