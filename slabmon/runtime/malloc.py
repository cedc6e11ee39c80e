# SPDX-License-Identifier: Apache-2.0
"""Memory of what goes on for long: give back at once what a snapshot needed for a moment, and do
not search what it is made of for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MADV_DONTNEED = 4
_LARGE = 128 << 10
_SNAPSHOT_OBJECTS = 100_000


def be_frugal() -> None:
    """Makes glibc return large blocks to the kernel when they are freed, always: by default its
    threshold grows up to 32 MiB with the blocks it sees, and they stay. Call it early. No effect
    with another C library."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)


def collect_rarely() -> None:
    """Searches for cyclic garbage once per so many objects as a large snapshot has, instead of 700.
    Snapshots and tables have no cycles, and searching them took as long as making them (measured:
    of a redraw of 15,000 rows 30 to 60 of 93 ms)."""
    gc.freeze()
    gc.set_threshold(_SNAPSHOT_OBJECTS, 20, 100)


def settle() -> None:
    """What is there now stays: garbage collection need not look at it, nor write to it."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Returns to the kernel what is garbage or free now, wherever it lies between what is in use.
    Some milliseconds; with another C library what is large enough."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def let_go_of_files() -> None:
    """Unmaps the pages of code and constants. What is used again is mapped again, from memory;
    what was used at the start alone no longer counts as this process's. Call it once: a debugger's
    breakpoints in those pages are lost."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError):
        for start, length in untouched(Path("/proc/self/smaps").read_bytes()):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)


def untouched(smaps: bytes) -> Iterator[tuple[int, int]]:
    """Address and length of what is mapped from files, privately, and was never written to: there
    nothing but the file's own pages is lost. From /proc/PID/smaps (proc_pid_smaps(5))."""
    found = None
    for line in smaps.splitlines():
        first, *fields = line.split()
        if not first.endswith(b":"):
            mode, inode = fields[0], fields[3]
            place = [int(number, 16) for number in first.split(b"-")]
            found = place if mode in (b"r-xp", b"r--p") and inode != b"0" else None
        elif first == b"Anonymous:" and found and fields[0] == b"0":
            yield found[0], found[1] - found[0]
