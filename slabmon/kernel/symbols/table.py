# SPDX-License-Identifier: Apache-2.0
"""Text symbols by address and by name, in little memory: a kernel has over 100,000 of them, of
which few are ever asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

# Names are compressed by so many: one takes 20 microseconds to find, all take a third.
_BLOCK = 256
_LEVEL = 1
_PIECE = 64 * _BLOCK  # bounds what is needed for a moment
_NEWLINE = 10


class Table:
    """Symbols sorted by address; addresses are kept from the first one on."""

    def __init__(
        self, addresses: np.ndarray, starts: np.ndarray, ends: np.ndarray, text: np.ndarray
    ) -> None:
        """Copies the names out of `text` (bytes), which is far larger and can go. Each name is
        followed by one more byte, as by the end of its line."""
        order = np.argsort(addresses, kind="stable")
        ordered = addresses[order]
        self._first = int(ordered[0]) if len(ordered) else 0
        ordered -= np.uint64(self._first)
        near = not len(ordered) or int(ordered[-1]) < 1 << 32
        self._offsets = ordered.astype(np.uint32) if near else ordered
        self._blocks: list[bytes] = []
        for i in range(0, len(order), _PIECE):
            piece = order[i : i + _PIECE]
            self._blocks += _packed(text, starts[piece], ends[piece])

    def __len__(self) -> int:
        return len(self._offsets)

    def address(self, index: int) -> int:
        """Of the index-th symbol."""
        return self._first + int(self._offsets[index])

    def name(self, index: int) -> str:
        """Of the index-th symbol."""
        block = zlib.decompress(self._blocks[index // _BLOCK]).split(b"\n")
        return block[index % _BLOCK].decode("utf-8", "replace")

    def _count(self, address: int, side: str) -> int:
        """How many symbols lie below an address (left), or not above it (right)."""
        kind, offset = self._offsets.dtype.type, address - self._first
        if not 0 <= offset <= np.iinfo(kind).max:
            return 0 if offset < 0 else len(self)
        return int(np.searchsorted(self._offsets, kind(offset), side))  # type: ignore[call-overload]

    def at(self, address: int) -> tuple[str, int] | None:
        """Symbol and offset of an address."""
        index = self._count(address, "right") - 1
        if index < 0:
            return None
        start = self.address(index)
        # Aliases share an address: the first in kallsyms order is the canonical one.
        return self.name(self._count(start, "left")), address - start

    def find(self, names: Iterable[str]) -> dict[str, int]:
        """Addresses by exact name, of those that exist. All at once: everything is unpacked."""
        wanted = {name: b"\n%s\n" % name.encode() for name in names}
        found: dict[str, int] = {}
        for number, packed in enumerate(self._blocks):
            block = b"\n%s\n" % zlib.decompress(packed)
            for name, line in wanted.items():
                place = block.find(line)
                if place >= 0 and name not in found:
                    index = number * _BLOCK + block.count(b"\n", 0, place)
                    found[name] = self.address(index)
        return found

    def end(self, start: int) -> int:
        """Where the symbol at this address ends: at the next one."""
        after = self._count(start, "right")
        return self.address(after) if after < len(self) else start + 4096


def _packed(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterable[bytes]:
    """Blocks of these pieces of text, one in a line, compressed."""
    lengths = ends - starts + 1
    stops = np.cumsum(lengths)
    # Where in the text each byte is.
    places = np.repeat(starts - stops + lengths, lengths)
    places += np.arange(len(places))
    found = text[places]
    found[stops - 1] = _NEWLINE
    lines = found.tobytes()
    start = 0
    for stop in (*stops[_BLOCK - 1 : -1 : _BLOCK].tolist(), len(lines)):
        yield zlib.compress(lines[start : stop - 1], _LEVEL)
        start = stop
