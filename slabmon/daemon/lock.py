# SPDX-License-Identifier: Apache-2.0
"""One daemon at a time: two would adopt, and detach, each other's programs."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from slabmon.base.errors import PermissionDenied, UsageError
from slabmon.daemon.orphans import ProcessIdentity

log = logging.getLogger(__name__)

_MAX_BYTES = 4096


class DaemonLock:
    """The lock file, held: the number of this process, then a line for each of its web processes.

    `crashed`: the daemon before ended without notice. `orphans`: the web processes it had then.
    """

    def __init__(self, descriptor: int | None, content: str = "") -> None:
        self._descriptor = descriptor
        self.crashed = bool(content)
        identities = map(ProcessIdentity.parse, content.splitlines()[1:])
        self.orphans = tuple(identity for identity in identities if identity)
        self.record([])

    def record(self, web_pids: Iterable[int]) -> None:
        """Write down the web processes of this daemon, for the case that it is killed."""
        if self._descriptor is None:
            return
        identities = filter(None, map(ProcessIdentity.of, web_pids))
        content = "".join(f"{line}\n" for line in (os.getpid(), *identities))
        # A full disk loses the numbers, not the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content.encode(), 0)


@contextlib.contextmanager
def only_daemon(path: Path) -> Iterator[DaemonLock]:
    """Hold the lock file for the length of the block; the kernel releases it however the process
    ends.

    Raises UsageError, which names the process that holds it, or PermissionDenied. Where the file
    cannot be created for another reason, nothing is locked and a warning is logged.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise PermissionDenied(
            f"cannot open the lock file {path}: {error.strerror}; run as root, or choose another "
            "--state.lock-file"
        ) from error
    except OSError as error:
        log.warning(
            "no lock file at %s (%s): nothing keeps a second daemon from starting",
            path,
            error.strerror,
        )
        yield DaemonLock(None)
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(_busy(path, _read(descriptor))) from None
        try:
            yield DaemonLock(descriptor, _read(descriptor))
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, _MAX_BYTES, 0).decode("ascii", "replace")


def _busy(path: Path, content: str) -> str:
    holder = content.partition("\n")[0]
    who = f"as process {holder}" if holder.isdecimal() else "(its process number is not recorded)"
    return (
        f"another slabmon daemon is running {who} and holds {path}; use that one, or stop it "
        "first: systemctl stop slabmon, or kill its process"
    )
