# SPDX-License-Identifier: Apache-2.0
"""The file in which web processes keep what verdicts have watched, each for the next one.

The collector opens it and hands its descriptor down; it never reads it. The file is beside the
lock, by default in /run, and lasts as counters do: over a crash, and over a restart by a service
manager.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slabmon.state.settings import StateSettings
from slabmon.state.slots import HEAD, checksum, head

log = logging.getLogger(__name__)

SLOT_BYTES = 32 << 20  # the file has holes: it takes what is written
_MAX_NUMBER = 1 << 62


@contextmanager
def open_checkpoint_file(settings: StateSettings, is_service: bool) -> Iterator[int]:
    """Open the file for the length of the block: yields its descriptor.

    After a requested end it is removed, unless a service manager decides. A file without a name
    takes its place, for the web processes of this daemon alone, if nothing is to be kept or it
    cannot be opened.
    """
    path = Path(f"{settings.lock_file}.verdicts")
    if not settings.keep:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    descriptor = _open(path) if settings.keep else os.memfd_create("verdicts")
    try:
        yield descriptor
        if not is_service:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        log.warning("verdicts begin again when the daemon does: no %s (%s)", path, error.strerror)
        return os.memfd_create("verdicts")


class CheckpointFile:
    """Two slots in a file. One process writes at a time, or two while one takes over."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._number, self._slot = 0, 1  # of the last content that is whole

    def read(self) -> bytes | None:
        """Return what was last written completely, or None. Raises OSError."""
        heads = [(*self._head(slot), slot) for slot in (0, 1)]
        for number, length, check, slot in sorted(heads, reverse=True):
            if 0 < number < _MAX_NUMBER and length <= SLOT_BYTES - HEAD.size:
                payload = os.pread(self._descriptor, length, slot * SLOT_BYTES + HEAD.size)
                if len(payload) == length and check == checksum(number, payload):
                    self._number, self._slot = number, slot
                    return payload
        return None

    def _head(self, slot: int) -> tuple[int, int, int]:
        data = os.pread(self._descriptor, HEAD.size, slot * SLOT_BYTES)
        number, length, check = HEAD.unpack(data.ljust(HEAD.size, b"\0"))
        return number, length, check

    def write(self, payload: bytes) -> None:
        """Replace the content. Raises OSError, and then it stays as it was."""
        if len(payload) > SLOT_BYTES - HEAD.size:
            raise OSError(errno.EFBIG, f"{len(payload)} bytes, {SLOT_BYTES - HEAD.size} at most")
        slot, number = 1 - self._slot, self._number + 1
        start = slot * SLOT_BYTES
        remaining, position = memoryview(payload), start + HEAD.size
        while remaining:
            written = os.pwrite(self._descriptor, remaining, position)
            remaining, position = remaining[written:], position + written
        os.pwrite(self._descriptor, head(number, payload), start)
        self._number, self._slot = number, slot
