# SPDX-License-Identifier: Apache-2.0
"""The ledger of this host's memory, and memory that no counter names."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.memory.ledger import KERNEL_PAGES, Ledger, account

pytestmark = pytest.mark.live
MOST_UNACCOUNTED = 0.02
PIPES, PIPE_BYTES = 97, 1 << 20


def ledger() -> Ledger:
    census = take_census(CensusSettings(cpu_seconds=60.0), pages_only=True)
    assert census.memory is not None
    found = account(census.memory.reading, census.memory)
    with open("/proc/meminfo") as meminfo:
        total = int(meminfo.readline().split()[1]) << 10
    assert sum(row.bytes for row in found.rows) + found.unaccounted_bytes == total
    assert found.total_bytes == total
    return found


def kernel_pages(found: Ledger) -> int:
    return next(row.bytes for row in found.rows if row.name == KERNEL_PAGES)


@contextmanager
def full_pipes() -> Iterator[int]:
    """Pipes that hold data: pages of the kernel that are in no slab. Yields how many bytes."""
    with contextlib.ExitStack() as ends:
        for _ in range(PIPES):
            for end in (pipe := os.pipe()):
                ends.callback(os.close, end)
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(pipe[1], False)
            assert os.write(pipe[1], bytes(PIPE_BYTES)) == PIPE_BYTES
        yield PIPES * PIPE_BYTES


def test_rows_add_up_and_leave_little_unaccounted() -> None:
    found = ledger()
    assert abs(found.unaccounted_bytes) <= MOST_UNACCOUNTED * found.total_bytes


def test_what_pipes_hold_is_kernel_pages() -> None:
    """Others allocate meanwhile: guests know exact figures (tests/vm/guest/test_memory.py)."""
    empty = kernel_pages(ledger())
    with full_pipes() as held:
        full = kernel_pages(ledger())
    assert full - empty == pytest.approx(held, rel=0.2)
