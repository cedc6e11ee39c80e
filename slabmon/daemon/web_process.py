# SPDX-License-Identifier: Apache-2.0
"""One web process, seen from the collector: started, listened to, answered, ended."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from collections.abc import Callable, Iterable

from slabmon.daemon.spawn import Spawner
from slabmon.runtime.channel import (
    ALIVE,
    COMMANDS,
    DIGEST,
    RETIRE,
    UNFINISHED_DIGEST,
    WANTED,
    Answer,
    ProtocolError,
    Started,
)
from slabmon.runtime.event_loop import EventLoop
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)

END_SECONDS = 5.0
_REASON_SECONDS = 0.5


class WebProcess:
    """A child process and this end of its channel. Nothing but end() waits for the child.

    Raises OSError if there is no room for another process.

    `on_command` is called with each command, once the answer before has been sent; `on_doubt` with
    the digest of each suspect that is in doubt; `on_started`
    once; `on_gone` with the reason when the child ends or violates the protocol.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: WebSettings,
        listeners: Iterable[socket.socket],
        spawner: Spawner,
        on_command: Callable[[WebProcess, bytes], None],
        on_doubt: Callable[[bytes], None],
        on_started: Callable[[WebProcess, Started], None],
        on_gone: Callable[[WebProcess, str], None],
        *,
        replacement: bool = False,
    ) -> None:
        """`replacement`: see web.settings.ProcessSettings."""
        self._loop = loop
        self._on_command, self._on_started, self._on_gone = on_command, on_started, on_gone
        self._on_doubt = on_doubt
        self.started = False
        # Checks of the supervisor since the last sign of life, or since retire().
        self.checks = 0
        self._released = False  # by give_up() or retire(): its channel is no longer listened to
        self._received = b""
        self._partial = b""  # the beginning of a doubt
        self._unsent = memoryview(b"")
        self._channel, child_end = socket.socketpair()
        with child_end:
            self._process = spawner(child_end.fileno(), [sock.fileno() for sock in listeners])
        self.pid = self._process.pid
        with contextlib.suppress(OSError):  # if it has ended already, that is seen when reading
            self._channel.sendall(settings.packed(replacement))
        self._channel.setblocking(False)
        loop.watch(self._channel, self._receive)

    def _receive(self) -> None:
        try:
            data = self._channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.checks = 0
        if not data:
            self.give_up(self._end_reason())
        elif self.started:
            self._command(data)
        else:
            self._start_message(data)

    def _start_message(self, data: bytes) -> None:
        self._received += data
        try:
            unpacked = Started.unpack(self._received)
        except ProtocolError as error:
            self.give_up(str(error))
            return
        if unpacked is None:
            return
        message, commands = unpacked
        self.started = not message.error
        self._on_started(self, message)
        if commands and not self._released:
            self._command(commands)

    def _command(self, data: bytes) -> None:
        data = self._partial + data
        unfinished = UNFINISHED_DIGEST.search(data)
        self._partial = unfinished[0] if unfinished else b""
        data = data[: len(data) - len(self._partial)]
        for digest in DIGEST.findall(data):
            self._on_doubt(digest)
        data = DIGEST.sub(b"", data)
        command = data.replace(ALIVE, b"").replace(WANTED, b"")
        # A process that follows the protocol waits for the answer before its next command.
        if command and command not in COMMANDS:
            self.give_up("it sent something that is not a command")
            return
        if WANTED in data:
            self._on_command(self, WANTED)
        if not command:
            return
        self._loop.unwatch(self._channel)
        self._on_command(self, command)

    def answer(self, answer: Answer) -> None:
        """Send an answer as fast as the child takes it, then listen for the next command."""
        if self._released:
            return
        self._unsent = memoryview(answer.pack())
        self._send()

    def _send(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.give_up(self._end_reason())
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.watch(self._channel, self._send, writable=True)
        else:
            self._loop.watch(self._channel, self._receive)

    def _end_reason(self) -> str:
        try:
            code = self._process.wait(_REASON_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its channel"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def give_up(self, reason: str) -> None:
        """Stop listening to the child and report why."""
        self._released = True
        self._loop.unwatch(self._channel)
        self._on_gone(self, reason)

    def retire(self) -> None:
        """Ask the child to finish its requests and end."""
        self._released = True
        self.checks = 0
        self._loop.unwatch(self._channel)
        with contextlib.suppress(OSError):
            # In the middle of an answer there is no way to ask.
            if not self._unsent:
                self._channel.send(Answer(RETIRE).pack())

    def ended(self) -> bool:
        """Return whether the child has ended."""
        return self._process.poll() is not None

    def end(self, seconds: float = END_SECONDS) -> None:
        """Wait up to `seconds` for the child to end, then kill it; close the channel."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                self._process.kill()
                self._process.wait(END_SECONDS)
        self._channel.close()
