"""Memory of what goes on for long: give back at once what a snapshot needed for a moment, and do
not search what it is made of for garbage."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
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
