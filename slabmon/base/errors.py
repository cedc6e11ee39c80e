# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on, each with the exit code the command line promises."""

import errno
import os

# Files that the kernel makes. Containers and sandboxes hide some, or show others in their place.
_KERNEL_FILES = ("/proc/", "/sys/")
_REFUSED = (errno.EPERM, errno.EACCES)
_EXHAUSTED = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)


class SlabmonError(Exception):
    """An expected failure. The message says what failed, why, and what to do."""

    exit_code = 70


class UsageError(SlabmonError):
    """Bad arguments, configuration or input file."""

    exit_code = 2


class DamagedSnapshot(UsageError):
    """One snapshot of a recording or a history cannot be read; others may be."""


class PermissionDenied(SlabmonError):
    """The process lacks a privilege."""

    exit_code = 3


class NeedsRoot(PermissionDenied):
    """The kernel of this host can only be read as root."""


class UnsupportedHost(SlabmonError):
    """This kernel or host lacks something that slabmon needs."""

    exit_code = 4


def of_environment(error: Exception) -> SlabmonError | None:
    """Return what an error of the system says of the host or of what confines this process; None if
    it may be a bug."""
    if isinstance(error, MemoryError):
        return UnsupportedHost(
            "out of memory: raise the memory limit of the service (MemoryMax=), container or shell "
            "(ulimit -v), or free memory on the host"
        )
    if isinstance(error, ModuleNotFoundError) and not _is_own(error.name or ""):
        return UnsupportedHost(
            f"the Python module {error.name} is missing, which slabmon needs: its installation is "
            "not complete; run apt-get --fix-broken install for the Debian package, else install "
            "slabmon again"
        )
    if not isinstance(error, OSError):
        return None
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    problem = f"{where}{os.strerror(error.errno or 0)}"
    if error.errno in _REFUSED:
        return PermissionDenied(
            f"{problem}: this process may not do what slabmon has to; run it as root outside a "
            "restricted container (seccomp, AppArmor, SELinux); --debug shows where it failed"
        )
    if where.startswith(_KERNEL_FILES):
        return UnsupportedHost(
            f"{problem}: slabmon reads it; mount the host's /proc and /sys, which a container may "
            "hide"
        )
    if error.errno == errno.ENOSYS:
        return UnsupportedHost(
            f"{problem}: the kernel or a sandbox has no such system call; run slabmon on the "
            "host's own kernel, with a seccomp profile that allows bpf()"
        )
    if error.errno in _EXHAUSTED:
        return UnsupportedHost(
            f"{problem}: a limit of this process, container or host is reached; raise limits of "
            "memory, processes and open files (ulimit -a, MemoryMax=, TasksMax=)"
        )
    return None


def _is_own(module: str) -> bool:
    return module.partition(".")[0] in ("", "slabmon")
