# SPDX-License-Identifier: Apache-2.0
"""Opens files without blocking, detects that one has changed, and replaces them as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slabmon.base.errors import PermissionDenied, UsageError

Identity = tuple[int, ...]


def identity(path: str) -> Identity:
    """Return a value that changes whenever the file does; empty while it cannot be examined."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size


def open_regular(path: str | Path) -> int:
    """Return a descriptor that reads a file. Raises OSError, of what is no regular file too: to
    open a FIFO would block until it has a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "not a regular file")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an error that says that this file cannot be written."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(f"cannot write {path}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def check_writable(path: Path) -> None:
    """Raise the OSError that write_whole() would, as far as that can be known before. Nothing is
    made or changed."""
    path = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = 0
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if mode and os.access(path, os.W_OK) and not stat.S_ISREG(mode):
        return
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except PermissionError:
        if not mode or not os.access(path, os.W_OK):
            raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either complete or not there: as a temporary file beside it, renamed at
    the end. An earlier file stays until then, and its mode is kept.

    Devices and pipes are written to directly. So is a file in a directory that is not writable,
    which is emptied on failure. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = 0
    if mode and not stat.S_ISREG(mode):
        path.write_bytes(content)
        return
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except PermissionError:
        if not mode:
            raise
        _write_in_place(path, content)
        return
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, stat.S_IMODE(mode) if mode else 0o666 & ~_umask())
            file.write(content)
            file.flush()
            os.fsync(descriptor)  # some file systems report a full disk only here
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_in_place(path: Path, content: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.truncate()
        try:
            remaining = memoryview(content)
            while remaining:
                remaining = remaining[file.write(remaining) :]
        except BaseException:
            file.truncate(0)
            raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
