# SPDX-License-Identifier: Apache-2.0
"""The ring buffer's consumer, on a file laid out as the kernel lays a ring buffer out."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.bpf.ringbuf import RingBuffer

PAGE = mmap.PAGESIZE
SIZE = 4 * PAGE
BUSY, DISCARD, HEADER = 1 << 31, 1 << 30, 8


class Ring:
    """The producer: consumer page, producer page, data twice (kernel/bpf/ringbuf.c)."""

    def __init__(self, position: int = 0) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        os.pwrite(self.fd, struct.pack("<Q", position), 0)
        self.position = position
        self._publish()

    def _publish(self) -> None:
        os.pwrite(self.fd, struct.pack("<Q", self.position), PAGE)

    def _write(self, position: int, data: bytes) -> None:
        """The data pages are one memory seen twice."""
        for number, byte in enumerate(data):
            place = (position + number) % SIZE
            for copy in (0, SIZE):
                os.pwrite(self.fd, bytes([byte]), 2 * PAGE + copy + place)

    def reserve(self, data: bytes, flags: int = 0) -> int:
        """Writes one record; returns its position."""
        start = self.position
        self._write(start, struct.pack("<II", len(data) | flags, 0) + data)
        self.position += HEADER + -(-len(data) // 8) * 8
        self._publish()
        return start

    def commit(self, position: int, length: int, flags: int = 0) -> None:
        """What was busy is finished."""
        self._write(position, struct.pack("<I", length | flags))

    @property
    def consumed(self) -> int:
        """The consumer's position as the kernel sees it."""
        return int(struct.unpack("<Q", os.pread(self.fd, 8, 0))[0])


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    os.close(ring.fd)


def taken(reader: RingBuffer) -> list[bytes]:
    """All records, their room given back."""
    records = list(reader)
    reader.release()
    return records


def test_an_empty_ring_has_no_records(ring: Ring) -> None:
    assert taken(RingBuffer(ring.fd, SIZE)) == []
    assert ring.consumed == 0


def test_records_come_in_order_and_once(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    records = [b"first", b"12345678", b"", b"x" * 100]
    for record in records:
        ring.reserve(record)
    assert taken(reader) == records
    assert ring.consumed == ring.position, "their room is given back"
    assert taken(reader) == []
    ring.reserve(b"later")
    assert taken(reader) == [b"later"]


def test_a_busy_record_holds_up_what_comes_after_it(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    ring.reserve(b"before")
    busy = ring.reserve(b"unfinished", BUSY)
    ring.reserve(b"after")
    assert taken(reader) == [b"before"]
    assert ring.consumed == busy
    ring.commit(busy, len(b"unfinished"))
    assert taken(reader) == [b"unfinished", b"after"]


def test_a_discarded_record_is_skipped(ring: Ring) -> None:
    ring.reserve(b"one")
    ring.reserve(b"gone", DISCARD)
    ring.reserve(b"two")
    assert taken(RingBuffer(ring.fd, SIZE)) == [b"one", b"two"]
    assert ring.consumed == ring.position


def test_a_discarded_record_at_the_end_gives_its_room_back(ring: Ring) -> None:
    ring.reserve(b"gone", DISCARD)
    assert taken(RingBuffer(ring.fd, SIZE)) == []
    assert ring.consumed == ring.position


@pytest.mark.parametrize("laps", [1, 3, 2**40])
@pytest.mark.parametrize("before_end", [8, 16, 24, 48])
def test_a_record_across_the_end_is_read_in_one_piece(laps: int, before_end: int) -> None:
    ring = Ring(laps * SIZE - before_end)
    ring.reserve(bytes(range(40)))
    ring.reserve(b"next")
    assert taken(RingBuffer(ring.fd, SIZE)) == [bytes(range(40)), b"next"]
    os.close(ring.fd)


def test_what_was_read_and_not_released_is_read_by_the_next_process(ring: Ring) -> None:
    ring.reserve(b"one")
    ring.reserve(b"two")
    assert list(RingBuffer(ring.fd, SIZE)) == [b"one", b"two"]
    assert ring.consumed == 0
    assert list(RingBuffer(ring.fd, SIZE)) == [b"one", b"two"]


def test_what_an_earlier_process_took_in_and_did_not_release_is_skipped(ring: Ring) -> None:
    ring.reserve(b"one")
    first = RingBuffer(ring.fd, SIZE)
    assert list(first) == [b"one"]
    ring.reserve(b"two")
    assert taken(RingBuffer(ring.fd, SIZE, start=first.position)) == [b"two"]
    assert ring.consumed == ring.position
    ring.reserve(b"three")
    assert taken(RingBuffer(ring.fd, SIZE, start=first.position)) == [b"three"]


def test_closing_gives_the_mappings_back(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        taken(reader)


Action = tuple[bytes, bool]


@given(
    st.integers(0, 2 * SIZE).map(lambda n: n * 8),
    st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=12),
)
def test_any_records_are_read_as_written(start: int, actions: list[Action]) -> None:
    ring = Ring(start)
    try:
        for data, discard in actions:
            ring.reserve(data, DISCARD if discard else 0)
        kept = [data for data, discard in actions if not discard]
        assert taken(RingBuffer(ring.fd, SIZE)) == kept
        assert ring.consumed == ring.position
    finally:
        os.close(ring.fd)
