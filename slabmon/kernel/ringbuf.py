"""Consumer of a BPF ring buffer (kernel/bpf/ringbuf.c), by mmap and without a system call."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_BUSY, _DISCARD, _HEADER = 1 << 31, 1 << 30, 8


class RingBuffer:
    """Reads records in order. `size` is the buffer's size in bytes, a power of two."""

    def __init__(self, map_fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._consumer = mmap.mmap(map_fd, page, mmap.MAP_SHARED)
        # The data pages are mapped twice in a row, so a record never wraps.
        self._producer = mmap.mmap(
            map_fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._data = page

    def __iter__(self) -> Iterator[bytes]:
        """All records complete by now."""
        (position,) = struct.unpack_from("<Q", self._consumer)
        (end,) = struct.unpack_from("<Q", self._producer)
        while position < end:
            start = self._data + (position & self._mask)
            (header,) = struct.unpack_from("<I", self._producer, start)
            if header & _BUSY:
                return
            length = header & ~(_BUSY | _DISCARD)
            record = self._producer[start + _HEADER : start + _HEADER + length]
            position += _HEADER + -(-length // 8) * 8
            struct.pack_into("<Q", self._consumer, 0, position)
            if not header & _DISCARD:
                yield record

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()
