# SPDX-License-Identifier: Apache-2.0
"""Settings of long-running processes: interpreter, numpy, malloc, name."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

_SNAPSHOT_OBJECTS = 100_000
_M_MMAP_THRESHOLD = -3  # malloc.h
_PR_SET_NAME = 15  # linux/prctl.h
RELEASE_SECONDS = 60.0

# Set before numpy is imported. OpenBLAS starts a thread per CPU otherwise: no code here multiplies
# matrices, and no_new_privs and dropped capabilities hold for the calling thread only.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1"}


def raise_gc_threshold() -> None:
    """Search for cyclic garbage once per 100,000 new objects, a large snapshot, instead of 700.

    Snapshots and tables have no cycles, and scanning them took as long as building them (measured:
    30 to 60 of the 93 ms of a redraw of 15,000 rows).
    """
    gc.freeze()
    gc.set_threshold(_SNAPSHOT_OBJECTS, 20, 100)


def limit_malloc_caching() -> None:
    """Return freed blocks of 128 KiB and more to the kernel, always; no effect without glibc.

    By default glibc raises this threshold to the size of the largest block freed. The text of
    /proc/kallsyms raises it so far that the collector keeps 25 MiB, and answers of the page so far
    that the web process keeps 1 MiB (measured: ADR 18).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def release_memory() -> None:
    """Return what is garbage, or free in the heap, to the kernel; once a minute, as both pile up
    between the rare collections of raise_gc_threshold() (measured: ADR 18)."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def offer_to_oom_killer(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Let the kernel end this process before any other when memory runs out: its parent lives, says
    what happened, and goes on. Where /proc is hidden, the largest process ends."""
    with contextlib.suppress(OSError):
        score.write_text("1000")  # OOM_SCORE_ADJ_MAX (include/uapi/linux/oom.h)


def name_process(name: str) -> None:
    """Set the name that `ps` and /proc/PID/comm show, at most 15 bytes, instead of the
    interpreter's."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
