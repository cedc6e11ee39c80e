"""The ring buffer's consumer, on a file laid out as the kernel lays a ring buffer out."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.ringbuf import RingBuffer

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


def test_an_empty_ring_has_no_records(ring: Ring) -> None:
    assert list(RingBuffer(ring.fd, SIZE)) == []
    assert ring.consumed == 0


def test_records_come_in_order_and_once(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    records = [b"first", b"12345678", b"", b"x" * 100]
    for record in records:
        ring.reserve(record)
    assert list(reader) == records
    assert ring.consumed == ring.position, "their room is given back"
    assert list(reader) == []
    ring.reserve(b"later")
    assert list(reader) == [b"later"]


def test_a_busy_record_holds_up_what_comes_after_it(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    ring.reserve(b"before")
    busy = ring.reserve(b"unfinished", BUSY)
    ring.reserve(b"after")
    assert list(reader) == [b"before"]
    assert ring.consumed == busy
    ring.commit(busy, len(b"unfinished"))
    assert list(reader) == [b"unfinished", b"after"]


def test_a_discarded_record_is_skipped(ring: Ring) -> None:
    ring.reserve(b"one")
    ring.reserve(b"gone", DISCARD)
    ring.reserve(b"two")
    assert list(RingBuffer(ring.fd, SIZE)) == [b"one", b"two"]
    assert ring.consumed == ring.position


def test_a_discarded_record_at_the_end_gives_its_room_back(ring: Ring) -> None:
    ring.reserve(b"gone", DISCARD)
    assert list(RingBuffer(ring.fd, SIZE)) == []
    assert ring.consumed == ring.position


@pytest.mark.parametrize("laps", [1, 3, 2**40])
@pytest.mark.parametrize("before_end", [8, 16, 24, 48])
def test_a_record_across_the_end_is_read_in_one_piece(laps: int, before_end: int) -> None:
    ring = Ring(laps * SIZE - before_end)
    ring.reserve(bytes(range(40)))
    ring.reserve(b"next")
    assert list(RingBuffer(ring.fd, SIZE)) == [bytes(range(40)), b"next"]
    os.close(ring.fd)


def test_each_record_is_given_back_before_the_next_is_taken(ring: Ring) -> None:
    first_end = ring.reserve(b"one") + 16
    ring.reserve(b"two")
    records = iter(RingBuffer(ring.fd, SIZE))
    assert next(records) == b"one"
    assert ring.consumed == first_end


def test_closing_gives_the_mappings_back(ring: Ring) -> None:
    reader = RingBuffer(ring.fd, SIZE)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        list(reader)


Action = tuple[bytes, bool]


@given(st.integers(0, 2 * SIZE).map(lambda n: n * 8),
       st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=12))  # fmt: skip
def test_any_records_are_read_as_written(start: int, actions: list[Action]) -> None:
    ring = Ring(start)
    try:
        for data, discard in actions:
            ring.reserve(data, DISCARD if discard else 0)
        kept = [data for data, discard in actions if not discard]
        assert list(RingBuffer(ring.fd, SIZE)) == kept
        assert ring.consumed == ring.position
    finally:
        os.close(ring.fd)
