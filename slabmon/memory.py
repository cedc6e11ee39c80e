"""Memory allocation of a daemon: give back at once what a snapshot needed for a moment."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MADV_DONTNEED = 4
_LARGE = 128 << 10


def be_frugal() -> None:
    """Makes glibc return large blocks to the kernel when they are freed, always: by default its
    threshold grows up to 32 MiB with the blocks it sees, and they stay. Call it early. No effect
    with another C library."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Returns to the kernel what is free now, wherever it lies between what is in use. A
    millisecond; no effect with another C library."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def let_go_of_code() -> None:
    """Unmaps the pages of all code. What runs again is mapped again, from memory; what ran at the
    start alone, a third of it, no longer counts as this process's. Call it once: a debugger's
    breakpoints in those pages are lost."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        for line in maps:
            place, mode, _, _, inode = line.split(None, 5)[:5]
            # Never written to: nothing but the file's own pages is dropped.
            if mode == b"r-xp" and inode != b"0":
                start, end = (int(number, 16) for number in place.split(b"-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
