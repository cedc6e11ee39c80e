"""Memory allocation of a daemon: give back at once what a snapshot needed for a moment."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
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
    """Returns to the kernel what is free now, wherever it lies between what is in use: at the start
    much is needed for a moment. A millisecond; no effect with another C library."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
