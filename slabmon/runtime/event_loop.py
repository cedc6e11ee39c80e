# SPDX-License-Identifier: Apache-2.0
"""The collector's event loop: one thread, sockets, timers and signals (ADR 17)."""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable

Callback = Callable[[], object]
_LONGEST_WAIT_SECONDS = 3600.0


class EventLoop:
    """Runs callbacks one at a time until stop(). An exception of a callback ends run()."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds; tests pass one of their own."""
        self.time = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []  # a heap by time
        self._order = itertools.count()  # callbacks of one time run in the order of their calls
        self._signals: dict[int, Callback] = {}
        self.running = True
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self.watch(self._woken, self._on_signals)

    def watch(self, watched: socket.socket, callback: Callback, writable: bool = False) -> None:
        """Call `callback` whenever the socket is readable (or writable). A socket has one callback:
        another call replaces it."""
        event = selectors.EVENT_WRITE if writable else selectors.EVENT_READ
        if watched in self._selector.get_map():
            self._selector.modify(watched, event, callback)
        else:
            self._selector.register(watched, event, callback)

    def unwatch(self, watched: socket.socket) -> None:
        """Undo watch(); no error if the socket is not watched."""
        if watched in self._selector.get_map():
            self._selector.unregister(watched)

    def later(self, seconds: float, callback: Callback) -> None:
        """Call `callback` once, in `seconds`."""
        heapq.heappush(self._timers, (self.time() + seconds, next(self._order), callback))

    def every(self, seconds: float, callback: Callback) -> None:
        """Call `callback` again and again, each time `seconds` after it returned."""

        def repeat() -> None:
            callback()
            self.later(seconds, repeat)

        self.later(seconds, repeat)

    def on_signal(self, number: int, callback: Callback) -> None:
        """Call `callback` after each signal of this number, never within another callback."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def _on_signals(self) -> None:
        for number in self._woken.recv(4096):
            if number in self._signals:
                self._signals[number]()

    def stop(self) -> None:
        """Make run() return after the current callback."""
        self.running = False

    def run(self) -> None:
        """Wait and call back until stop()."""
        while self.running:
            self.step(_LONGEST_WAIT_SECONDS)

    def step(self, seconds: float) -> None:
        """Run the callbacks that are due; wait up to `seconds` for the first of them."""
        if self._timers:
            due = self._timers[0][0] - self.time()
            if due <= 0:
                heapq.heappop(self._timers)[2]()
                return
            seconds = min(due, seconds)
        for key, _ in self._selector.select(seconds):
            # An earlier callback may have stopped the loop, or unwatched this socket.
            if self.running and key.fileobj in self._selector.get_map():
                key.data()

    def close(self) -> None:
        """Restore the default actions of signals and close everything."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def __enter__(self) -> EventLoop:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
