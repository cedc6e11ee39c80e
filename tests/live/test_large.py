# SPDX-License-Identifier: Apache-2.0
"""Page-backed kmalloc on the running kernel: counted once, freed with its bytes."""

from __future__ import annotations

import ctypes
import os
import struct

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from tests.live.kernel import _bpf

pytestmark = pytest.mark.live

N = 211  # prime
VALUE = 16_000  # one page order above the largest slab bucket
BUCKET = 16_384
_MAP_CREATE, _MAP_UPDATE_ELEM, _ARRAY = 0, 2, 2


def test_a_large_kmalloc_of_dynamic_size_counts_once() -> None:
    """BPF_MAP_UPDATE_ELEM copies the value into a kvmalloc of its size and frees it again
    (kernel/bpf/syscall.c, map_update_elem). From 6.11 on such a kmalloc has two events."""
    key = ctypes.create_string_buffer(4)
    value = ctypes.create_string_buffer(VALUE)
    array = _bpf(_MAP_CREATE, bytearray(struct.pack("<IIIII", _ARRAY, 4, VALUE, 1, 0)))
    assert array >= 0
    attributes = struct.pack("<IIQQQ", array, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    try:
        with open_tracker(Settings()) as tracker:
            before = {c.name: c for c in tracker.snapshot().caches}.get("kmalloc-large")
            for _ in range(N):
                assert _bpf(_MAP_UPDATE_ELEM, bytearray(attributes)) == 0
            snapshot = tracker.snapshot()
    finally:
        os.close(array)
    after = {c.name: c for c in snapshot.caches}["kmalloc-large"]
    start = (
        (before.allocs, before.frees, before.allocated_bytes, before.freed_bytes)
        if before
        else (0, 0, 0, 0)
    )
    mine = [site for site in snapshot.sites if site.allocated_bytes == N * BUCKET]
    assert [site.allocs for site in mine] == [N]
    assert not mine[0].symbol.startswith(("__kmalloc", "__kvmalloc", "__do_kmalloc"))
    assert after.allocs - start[0] >= N
    assert after.frees - start[1] >= N
    assert after.allocated_bytes - start[2] >= N * BUCKET
    assert after.freed_bytes - start[3] >= N * BUCKET
    # Nothing else large was going on, unless slabmon says whose it was.
    others = sum(
        s.allocs
        for s in snapshot.sites
        if s not in mine and s.allocs and s.allocated_bytes // s.allocs > 8192
    )
    assert after.allocs <= N + others
