# SPDX-License-Identifier: Apache-2.0
"""sd_notify(3), with the file descriptor store and the watchdog.

Implemented here because the packages on PyPI either pass no descriptors or need a compiler; the
protocol is lines of text in a datagram.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Sequence

_BARRIER_MS = 5000


class Notifier:
    """Sends messages to the service manager; without one, every method does nothing."""

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        if address and address[0] in "/@":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._address = "\0" + address[1:] if address[0] == "@" else address

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take NOTIFY_SOCKET out of the environment, so that no child speaks for the service."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def __bool__(self) -> bool:
        return self._socket is not None

    def send(self, *lines: str, descriptors: Sequence[int] = ()) -> bool:
        """Send one message. Return False if there is no manager or it does not listen."""
        if self._socket is None:
            return False
        ancillary = []
        if descriptors:
            data = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)]
        try:
            self._socket.sendmsg(["\n".join(lines).encode()], ancillary, 0, self._address)
        except OSError:
            return False
        return True

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self.send(f"STATUS={' '.join(text.split())}")

    def barrier(self) -> bool:
        """Wait until the manager has read everything sent before; return whether it has."""
        reader, writer = os.pipe()
        try:
            sent = self.send("BARRIER=1", descriptors=(writer,))
            os.close(writer)
            return sent and bool(select.select([reader], [], [], _BARRIER_MS / 1000)[0])
        finally:
            os.close(reader)


def watchdog_seconds() -> float | None:
    """Return for how long the manager waits for a sign of life; None if it does not."""
    with contextlib.suppress(KeyError, ValueError):
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) == os.getpid():
            return int(os.environ["WATCHDOG_USEC"]) / 1e6
    return None
