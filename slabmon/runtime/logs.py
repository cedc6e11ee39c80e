# SPDX-License-Identifier: Apache-2.0
"""Logs to journald with fields under systemd, else to standard error. Repeated lines are held back
and counted."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass

from slabmon.base.errors import UsageError

LEVELS = ("debug", "info", "warning", "error")
JOURNAL = "/run/systemd/journal/socket"
# sd-daemon(3), which are those of syslog(3).
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
# Lines from one place in the source: BURST at once, then one in SECONDS.
BURST, SECONDS = 5, 60.0
_MOST_BYTES = 64 << 10


@dataclass(frozen=True)
class LogSettings:
    """`level`: the lowest level that is logged."""

    level: str = "info"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(f"level: expected one of {', '.join(LEVELS)}, got {self.level!r}")


class RateLimit(logging.Filter):
    """Holds back lines from one place in the source that come too often, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        # By place in the source: lines that may still pass, since when, lines held back.
        self._seen: dict[tuple[str, int], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this line may pass."""
        now = time.monotonic()
        entry = self._seen.setdefault((record.pathname, record.lineno), [BURST, now, 0])
        entry[0] = min(BURST, entry[0] + (now - entry[1]) / SECONDS)
        entry[1] = now
        if entry[0] < 1:
            entry[2] += 1
            return False
        entry[0] -= 1
        if entry[2]:
            record.msg = f"{record.getMessage()} ({int(entry[2])} similar lines were held back)"
            record.args = ()
            entry[2] = 0
        return True


class JournalHandler(logging.Handler):
    """journald's own protocol (systemd.io, "Native Journal Protocol"): one datagram of fields."""

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            message = self.format(record)
            fields = {
                "MESSAGE": message,
                "PRIORITY": str(_PRIORITY.get(record.levelno, 5)),
                "SYSLOG_IDENTIFIER": "slabmon",
                "LOGGER": record.name,
                "CODE_FILE": record.pathname,
                "CODE_LINE": str(record.lineno),
                "CODE_FUNC": record.funcName,
            }
            data = b"".join(journal_field(name, value) for name, value in fields.items())
            self._socket.sendto(data, socket.MSG_DONTWAIT, self._path)
        except OSError:
            # journald is restarting or overloaded: standard error is better than nothing.
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{message}\n")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def journal_field(name: str, value: str) -> bytes:
    """Return one field as journald takes it; a value of several lines with its length."""
    data = value.encode("utf-8", "backslashreplace")[:_MOST_BYTES]
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def to_journal() -> bool:
    """Return whether standard error is the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def set_up(settings: LogSettings) -> None:
    """Set up logging for this process; call it again to change the level."""
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        root.removeHandler(earlier)
        earlier.close()
    handler: logging.Handler
    if to_journal():
        handler = JournalHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(RateLimit())
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
