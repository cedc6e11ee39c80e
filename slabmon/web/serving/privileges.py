# SPDX-License-Identifier: Apache-2.0
"""Drops all privileges of the web process, before it takes its first request."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
from pathlib import Path

from slabmon.base.errors import PermissionDenied, SlabmonError, UsageError

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL, _LAST_CAPABILITY = 4, 63
DEFAULT_USERS = ("slabmon", "nobody")
# File descriptors besides connections: standard streams, channel, listeners, event loop, and
# connections that are accepted only to be refused.
_SPARE_DESCRIPTORS = 128
_DATA_BYTES = 1 << 30

_libc = ctypes.CDLL(None, use_errno=True)


def find_user(name: str | None) -> pwd.struct_passwd:
    """Return the user `name`, or without a name the first of DEFAULT_USERS that exists. Raises
    UsageError."""
    for candidate in (name,) if name else DEFAULT_USERS:
        try:
            user = pwd.getpwnam(candidate)
        except (KeyError, ValueError):
            continue
        if user.pw_uid == 0:
            raise UsageError("web.user must not be root; create a system user slabmon")
        return user
    raise UsageError(f"no user {name or 'nobody'!r}; create it, or set web.user to another")


def _prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return int(_libc.prctl(option, *values))


def limit(connections: int) -> None:
    """Limit file descriptors and memory; forbid core dumps, new threads and processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_DESCRIPTORS
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    for kind, value in (
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_DATA, _DATA_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (value, value))


def drop(user: pwd.struct_passwd) -> None:
    """Become `user` for good: without capabilities or a way to gain any, without supplementary
    groups, not traceable by other processes. Raises SlabmonError if any of that fails."""
    try:
        for capability in range(_LAST_CAPABILITY + 1):
            _prctl(_PR_CAPBSET_DROP, capability)  # needs CAP_SETPCAP; no_new_privs alone suffices
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except PermissionError as error:
        raise PermissionDenied(
            f"the web process cannot become user {user.pw_name}: {error.strerror}; run slabmon "
            "as root with CAP_SETUID and CAP_SETGID"
        ) from error
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) or not _harmless(Path("/proc/self/status").read_text()):
        raise SlabmonError("the web process could not drop its privileges and does not serve")
    # Last, for root then owns our files in /proc.
    if _prctl(_PR_SET_DUMPABLE, 0):
        raise SlabmonError("the web process could not be made undumpable and does not serve")


def _harmless(status: str) -> bool:
    """Return whether /proc/self/status shows no privilege."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return (
        all(int(fields[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
        and "0" not in fields["Uid"].split() + fields["Gid"].split()
        and not fields["Groups"].split()
        and fields["NoNewPrivs"].strip() == "1"
        and fields["Threads"].strip() == "1"  # another thread would have kept its own
    )
