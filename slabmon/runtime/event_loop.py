# SPDX-License-Identifier: Apache-2.0
"""The collector's event loop: one thread, readable and writable descriptors, timers, signals."""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import TracebackType

Work = Callable[[], object]


class Loop:
    """Runs callbacks one at a time until stop(). What a callback raises ends run()."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._signals: dict[int, Work] = {}
        self.running = True
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self.watch(self._woken, self._on_signals)

    def watch(self, watched: socket.socket, work: Work, writable: bool = False) -> None:
        """Calls `work` while the socket is readable (or writable), instead of what it called
        before."""
        event = selectors.EVENT_WRITE if writable else selectors.EVENT_READ
        if watched in self._selector.get_map():
            self._selector.modify(watched, event, work)
        else:
            self._selector.register(watched, event, work)

    def unwatch(self, watched: socket.socket) -> None:
        """Ends watch(); a socket that is not watched is fine."""
        if watched in self._selector.get_map():
            self._selector.unregister(watched)

    def later(self, seconds: float, work: Work) -> None:
        """Calls `work` once, after so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), work))

    def every(self, seconds: float, work: Work) -> None:
        """Calls `work` again and again, so many seconds after it returned."""

        def again() -> None:
            work()
            self.later(seconds, again)

        self.later(seconds, again)

    def on_signal(self, number: int, work: Work) -> None:
        """Calls `work` after each such signal, never in the middle of something else."""
        self._signals[number] = work
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def _on_signals(self) -> None:
        for number in self._woken.recv(4096):
            if number in self._signals:
                self._signals[number]()

    def stop(self) -> None:
        """Makes run() return after the current callback."""
        self.running = False

    def run(self) -> None:
        """Waits and calls until stop()."""
        while self.running:
            self.step(3600)

    def step(self, seconds: float) -> None:
        """Waits at most so long for something to call, and calls it."""
        now = time.monotonic()
        due = self._timers[0][0] - now if self._timers else seconds
        if due <= 0:
            heapq.heappop(self._timers)[2]()
            return
        for key, _ in self._selector.select(min(due, seconds)):
            # The callback before may have ended the loop, or unwatched this socket.
            if self.running and key.fileobj in self._selector.get_map():
                key.data()

    def close(self) -> None:
        """Gives signals back to their defaults."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def __enter__(self) -> Loop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
