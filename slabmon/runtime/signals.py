# SPDX-License-Identifier: Apache-2.0
"""Waits for the signals that ask a command to stop, instead of being interrupted by them."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals() -> Iterator[Callable[[float], bool]]:
    """Within the block, SIGINT and SIGTERM only end a wait. Gives the function that waits: it takes
    seconds and returns whether one of them has arrived."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        try:
            yield lambda seconds: bool(select.select([receiver], [], [], max(0.0, seconds))[0])
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
