# SPDX-License-Identifier: Apache-2.0
"""Errors of the system: what of them is the host's, or of what confines the process."""

from __future__ import annotations

import errno
import os

import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, of_environment


def failed(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (failed(errno.EPERM), PermissionDenied, "Operation not permitted.*seccomp"),
        (failed(errno.EACCES, "/sys/fs/bpf"), PermissionDenied, "^/sys/fs/bpf: Permission denied"),
        (failed(errno.ENOENT, "/proc/self/mounts"), UnsupportedHost, "^/proc/self/mounts: .*mount"),
        (failed(errno.EIO, "/sys/kernel/slab"), UnsupportedHost, "container may hide"),
        (failed(errno.ENOSYS), UnsupportedHost, "no such system call"),
        (failed(errno.EMFILE), UnsupportedHost, "Too many open files.*ulimit"),
        (failed(errno.EAGAIN), UnsupportedHost, "TasksMax="),
        (failed(errno.ENOMEM), UnsupportedHost, "MemoryMax="),
        (MemoryError(), UnsupportedHost, "^out of memory.*MemoryMax="),
        (ModuleNotFoundError(name="msgspec"), UnsupportedHost, "module msgspec.*--fix-broken"),
    ],
    ids=str,
)
def test_the_cause_and_what_to_do_are_named(
    error: Exception, kind: type[SlabmonError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        raise of_environment(error) or error


@pytest.mark.parametrize(
    "error",
    [
        failed(errno.ENOENT, "/etc/slabmon.toml"),
        failed(errno.EBADF),
        OSError("odd"),
        ValueError(),
        ModuleNotFoundError(name="slabmon.moved"),
    ],
    ids=str,
)
def test_what_may_be_a_bug_stays_one(error: Exception) -> None:
    assert of_environment(error) is None
