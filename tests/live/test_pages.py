# SPDX-License-Identifier: Apache-2.0
"""Pages and per-CPU memory by caller on the running kernel: the contents of pipes and a ring of a
packet socket, whose pages no counter of the kernel names, and a per-CPU array of BPF."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.tables import paths
from slabmon.kernel.tracker import Tracker
from slabmon.model import BlockKind, PageSite, State
from tests.live.kernel import _bpf

pytestmark = pytest.mark.live

PIPES, PIPE_PAGES = 31, 13
BIG_PIPES, BIG_BYTES = 23, 1 << 20
RING_BLOCKS, BLOCK_BYTES = 7, 8 * mmap.PAGESIZE
RING_SITES = ("alloc_pg_vec", "packet_set_ring", "alloc_one_pg_vec_page")
SOL_PACKET, PACKET_RX_RING = 263, 5
F_SETPIPE_SZ = 1031
PERCPU_ARRAY, ELEMENTS, ELEMENT_BYTES = 6, 101, 8
PERCPU_ARRAY_SITES = ("bpf_map_alloc_percpu", "bpf_array_alloc_percpu", "array_map_alloc")
SECONDS = 20.0


@contextmanager
def pipes(count: int, size: int, write: Callable[[int, bytes], int] = os.write) -> Iterator[None]:
    """Hold pipes with so many bytes in each, whole pages."""
    ends: list[int] = []
    try:
        for _ in range(count):
            reader, writer = os.pipe()
            ends += [reader, writer]
            fcntl.fcntl(writer, F_SETPIPE_SZ, size)
            assert write(writer, bytes(size)) == size
        yield
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def ring() -> Iterator[None]:
    """Hold the receive ring of a packet socket (net/packet/af_packet.c)."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        frame = 2048
        frames = RING_BLOCKS * BLOCK_BYTES // frame
        request = struct.pack("4I", BLOCK_BYTES, RING_BLOCKS, frame, frames)
        packets.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        yield


def by_symbol(tracker: Tracker, *symbols: str) -> PageSite:
    """The one row of a function, which has another name on some kernels."""
    rows = [row for row in tracker.snapshot().page_sites if row.symbol in symbols]
    print(rows)
    (row,) = rows
    return row


def pipe_writes(tracker: Tracker) -> PageSite:
    return by_symbol(tracker, "pipe_write", "anon_pipe_write")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_exact_mode_counts_every_page_of_a_process() -> None:
    settings = Settings(exact=Filter(pid=os.getpid()))
    with open_tracker(settings) as tracker:
        with pipes(PIPES, PIPE_PAGES * mmap.PAGESIZE), ring():
            row = pipe_writes(tracker)
            pages = PIPES * PIPE_PAGES
            assert (row.allocs, row.frees, row.live.objects) == (pages, 0, pages)
            assert row.live.bytes == row.live.high_bytes == pages * mmap.PAGESIZE
            assert (row.live.stderr_bytes, row.exact, row.account) == (0, True, None)
            assert row.by == "alloc_pages"
            row = by_symbol(tracker, *RING_SITES)
            assert (row.allocs, row.live.bytes) == (RING_BLOCKS, RING_BLOCKS * BLOCK_BYTES)
            assert (row.sizes, row.by) == (
                {BLOCK_BYTES: RING_BLOCKS * BLOCK_BYTES},
                "__get_free_pages",
            )
        assert pipe_writes(tracker).live.bytes == 0
        row = by_symbol(tracker, *RING_SITES)
        assert (row.frees, row.live.bytes) == (RING_BLOCKS, 0)
        snapshot = tracker.snapshot()
        assert snapshot.losses["blocks_full"] == snapshot.losses["paths_full"] == 0


def test_a_sample_of_pages_is_within_its_error() -> None:
    """Other processes write to pipes, too: the figure is that of before, and what is added."""
    with open_tracker(Settings(pages=True, sample_bytes=64 << 10)) as tracker:
        rows = [r for r in tracker.snapshot().page_sites if r.symbol.endswith("pipe_write")]
        before = sum(row.live.bytes for row in rows)
        with pipes(BIG_PIPES, BIG_BYTES):
            row = pipe_writes(tracker)
            total = BIG_PIPES * BIG_BYTES
            assert not row.exact
            assert row.live.bytes - before == pytest.approx(total, abs=6 * row.live.stderr_bytes)
            assert row.live.low_bytes < total + before
            assert row.live.stderr_bytes == pytest.approx((total * (128 << 10)) ** 0.5, rel=0.5)
        assert pipe_writes(tracker).live.bytes < total / 4
        assert tracker.features["pages"].state == State.ON


def write_vector(end: int, data: bytes) -> int:
    return os.writev(end, [data])


def paths_of_pipes(tracker: Tracker) -> int:
    """The number of call paths by which pipes got pages."""
    _, records = tracker._paths._read()
    sites = [tracker._paths._resolve(record)[0].site.symbol for record in records]
    return sum(site.endswith("pipe_write") for site in sites)


def test_idle_paths_are_merged_and_their_counters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "FULL_SHARE", 0)
    monkeypatch.setattr(paths, "EVERY_NS", 0)
    with open_tracker(Settings(exact=Filter(pid=os.getpid()))) as tracker:
        for repeat in range(1, 4):
            for write in (os.write, write_vector):
                with pipes(PIPES, PIPE_PAGES * mmap.PAGESIZE, write):
                    pass
            assert paths_of_pipes(tracker) == 2
            for _ in range(3):
                row = pipe_writes(tracker)
                pages = repeat * 2 * PIPES * PIPE_PAGES
                assert (row.allocs, row.frees, row.live.bytes) == (pages, pages, 0)
            assert paths_of_pipes(tracker) == 1
        assert tracker.snapshot().losses["paths_full"] == 0


def per_cpu_array() -> int:
    """Return the descriptor of a per-CPU array, whose elements are allocated one by one."""
    array = _bpf(0, bytearray(struct.pack("5I", PERCPU_ARRAY, 4, ELEMENT_BYTES, ELEMENTS, 0)))
    assert array >= 0
    return array


def test_per_cpu_memory_is_exact_while_tracking_sleeps() -> None:
    with open_tracker(Settings(when=When.AUTO)) as tracker:
        assert not tracker.awake
        array = per_cpu_array()
        try:
            row = by_symbol(tracker, *PERCPU_ARRAY_SITES)
            assert row.kind == BlockKind.PERCPU
            assert (row.allocs, row.live.objects, row.exact) == (ELEMENTS, ELEMENTS, True)
            assert row.live.bytes == ELEMENTS * ELEMENT_BYTES * tracker.facts.cpus
        finally:
            os.close(array)
        wait_until(lambda: by_symbol(tracker, *PERCPU_ARRAY_SITES).live.bytes == 0)
        assert by_symbol(tracker, *PERCPU_ARRAY_SITES).frees == ELEMENTS
        assert not any(row.kind == BlockKind.PAGES for row in tracker.snapshot().page_sites)
