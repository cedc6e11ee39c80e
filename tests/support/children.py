# SPDX-License-Identifier: Apache-2.0
"""Fakes for the daemon's control code: a clock that is set by hand, and web processes that are no
processes but the child's end of a real channel."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Sequence

from slabmon.runtime.channel import HEADER_BYTES, Answer, Header, Started
from slabmon.runtime.event_loop import EventLoop

_TICK_SECONDS = 0.1


class ManualClock:
    """Monotonic time that moves only in run()."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def run(self, loop: EventLoop, seconds: float = 0.0) -> None:
        """Let `seconds` pass on the loop, in ticks."""
        end = self.now + seconds
        while True:
            for _ in range(10):  # more than become due in one tick
                if loop.running:
                    loop.step(0)
            if self.now >= end:
                return
            self.now = min(self.now + _TICK_SECONDS, end)


class FakeChild:
    """A web process, by hand. It reports a successful start with start()."""

    def __init__(self, pid: int, channel: int, listeners: Sequence[int]) -> None:
        self.pid = pid
        self.channel = socket.socket(fileno=os.dup(channel))
        self.channel.setblocking(False)
        self.listeners = tuple(listeners)
        self.code: int | None = None
        self.killed = False
        self.reported = False
        self._received = self._settings = b""

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout: float) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("child", timeout)
        return self.code

    def kill(self) -> None:
        self.killed = True
        self.exit(-9)

    def exit(self, code: int) -> None:
        """End, as a process does that exits (or with a negative code: by a signal)."""
        self._received += self._read()
        self.code = code
        self.channel.close()

    def send(self, data: bytes) -> None:
        """Send to the collector."""
        self.channel.sendall(data)

    def start(self, started: Started | None = None) -> None:
        """Report the outcome of the start."""
        self.send((started or Started()).pack())
        self.reported = True

    def settings(self) -> bytes:
        """Return the line of settings, the first that arrived."""
        self.answers()
        return self._settings

    def answers(self) -> list[Answer]:
        """Return the answers that arrived since the last call."""
        self._received += self._read()
        if self._received[:1] == b"{":
            self._settings, _, self._received = self._received.partition(b"\n")
        answers = []
        while len(self._received) >= HEADER_BYTES:
            header = Header.unpack(self._received[:HEADER_BYTES])
            end = HEADER_BYTES + header.figures_bytes + header.body_bytes
            if len(self._received) < end:
                break
            answers.append(header.answer(self._received[HEADER_BYTES:end]))
            self._received = self._received[end:]
        return answers

    def _read(self) -> bytes:
        data = b""
        with contextlib.suppress(OSError):  # nothing more to read, or closed
            while piece := self.channel.recv(1 << 16):
                data += piece
        return data


class FakeSpawner:
    """Makes FakeChild after FakeChild. `prepare` sees each of them first, and may refuse it."""

    def __init__(self, prepare: Callable[[FakeChild], object] = lambda _: None) -> None:
        self._pids = itertools.count(2_000_000_001)  # of no process that there is
        self.prepare = prepare
        self.children: list[FakeChild] = []

    def __call__(self, channel: int, listeners: Sequence[int]) -> FakeChild:
        child = FakeChild(next(self._pids), channel, listeners)
        try:
            self.prepare(child)
        except OSError:
            child.channel.close()
            raise
        self.children.append(child)
        return child

    @property
    def last(self) -> FakeChild:
        """The child that was started last."""
        return self.children[-1]

    def close(self) -> None:
        """Close what is still open."""
        for child in self.children:
            child.channel.close()
