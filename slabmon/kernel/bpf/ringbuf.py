# SPDX-License-Identifier: Apache-2.0
"""Consumer of a BPF ring buffer (kernel/bpf/ringbuf.c), by mmap and without a system call."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_BUSY, _DISCARD, _HEADER_BYTES = 1 << 31, 1 << 30, 8


class RingBuffer:
    """Reads records in order. `size` is the buffer's size in bytes, a power of two.

    `position` is where reading continues. The kernel reuses the space after release(): records
    read but not released are read again by the next process that opens the buffer. `start` skips
    those that an earlier process had read and not yet released.
    """

    def __init__(self, map_fd: int, size: int, start: int = 0) -> None:
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._consumer = mmap.mmap(map_fd, page, mmap.MAP_SHARED)
        # The data pages are mapped twice in a row, so a record never wraps.
        self._producer = mmap.mmap(
            map_fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._data = page
        self.position = max(struct.unpack_from("<Q", self._consumer)[0], start)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the records that are complete by now."""
        (end,) = struct.unpack_from("<Q", self._producer)
        while self.position < end:
            start = self._data + (self.position & self._mask)
            (header,) = struct.unpack_from("<I", self._producer, start)
            if header & _BUSY:
                return
            length = header & ~(_BUSY | _DISCARD)
            record = self._producer[start + _HEADER_BYTES : start + _HEADER_BYTES + length]
            self.position += _HEADER_BYTES + -(-length // 8) * 8
            if not header & _DISCARD:
                yield record

    def release(self) -> None:
        """Return the space of all records read to the kernel."""
        struct.pack_into("<Q", self._consumer, 0, self.position)

    def close(self) -> None:
        """Unmap the buffer."""
        self._consumer.close()
        self._producer.close()
