# SPDX-License-Identifier: Apache-2.0
"""One daemon at a time: two would adopt, and detach, each other's programs."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from slabmon.base.errors import PermissionDenied, UsageError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_daemon(path: Path) -> Iterator[bool]:
    """Holds the lock file, with this process's number in it, for the length of the block; gives
    whether the daemon before ended without notice.

    The kernel lets go of it however the process ends. UsageError names the daemon that holds it.
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
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(_busy(path, os.pread(descriptor, 20, 0))) from None
        crashed = os.fstat(descriptor).st_size > 0
        # A full disk loses the number, not the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield crashed
    finally:
        with contextlib.suppress(OSError):
            if os.pread(descriptor, 20, 0) == f"{os.getpid()}\n".encode():
                os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _busy(path: Path, content: bytes) -> str:
    holder = content.strip().decode("ascii", "replace")
    who = f"as process {holder}" if holder.isdecimal() else "(its process number is not recorded)"
    return (
        f"another slabmon daemon is running {who} and holds {path}; use that one, or stop it "
        "first: systemctl stop slabmon, or kill its process"
    )
