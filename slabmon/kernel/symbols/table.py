# SPDX-License-Identifier: Apache-2.0
"""A compact symbol table: a kernel has over 100,000 text symbols, and few are ever looked up."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from slabmon.base.arrays import I64, U8, U64, contained

# Names per compressed block. Finding one name takes 20 microseconds, and all of them take a third
# of their plain size.
_BLOCK = 256
_LEVEL = 1
_PIECE = 64 * _BLOCK  # bounds temporary memory
_NEWLINE = 10
# Letters that similar names share at one end, and how much longer they may be.
_ALIKE, _LONGER = 4, 16


class SymbolTable:
    """Symbols by address and by name. Addresses are stored relative to the lowest one."""

    def __init__(self, addresses: U64, starts: I64, ends: I64, text: U8) -> None:
        """Copy names out of `text`, which can be freed afterwards.

        Symbol i has the name text[starts[i]:ends[i]], which one more byte follows, such as the
        end of its line.
        """
        order = np.argsort(addresses, kind="stable")
        ordered = addresses[order]
        self._first = int(ordered[0]) if len(ordered) else 0
        ordered -= np.uint64(self._first)
        near = not len(ordered) or int(ordered[-1]) < 1 << 32
        self._offsets = ordered.astype(np.uint32) if near else ordered
        self._blocks: list[bytes] = []
        for i in range(0, len(order), _PIECE):
            piece = order[i : i + _PIECE]
            self._blocks += _compressed(text, starts[piece], ends[piece])

    def __len__(self) -> int:
        return len(self._offsets)

    def address(self, index: int) -> int:
        """Return the address of the index-th symbol."""
        return self._first + int(self._offsets[index])

    def name(self, index: int) -> str:
        """Return the name of the index-th symbol."""
        names = _names(self._blocks[index // _BLOCK])
        return names[index % _BLOCK].decode("utf-8", "replace")

    def addresses(self) -> U64:
        """Return the addresses of all symbols, in order."""
        return self._offsets.astype(np.uint64) + np.uint64(self._first)

    def _count(self, address: int, side: str) -> int:
        """Return the number of symbols below an address (left), or not above it (right)."""
        kind, offset = self._offsets.dtype.type, address - self._first
        if not 0 <= offset <= np.iinfo(kind).max:
            return 0 if offset < 0 else len(self)
        return int(np.searchsorted(self._offsets, kind(offset), side))  # type: ignore[call-overload]

    def at(self, address: int) -> tuple[str, int] | None:
        """Return the symbol of an address and the offset into it; None below all symbols."""
        index = self._count(address, "right") - 1
        if index < 0:
            return None
        start = self.address(index)
        # Aliases share an address: the first in kallsyms order is the canonical one.
        return self._numbered(self.name(self._count(start, "left")), start), address - start

    def names_of(self, starts: U64) -> list[str]:
        """Return the names of the symbols that start at these addresses, as at() does, and
        decompress each block once."""
        offsets = (starts - np.uint64(self._first)).astype(self._offsets.dtype)
        indexes = np.searchsorted(self._offsets, offsets)
        names = [""] * len(starts)
        number, lines = -1, [b""]
        for row in np.argsort(indexes, kind="stable").tolist():
            block, place = divmod(int(indexes[row]), _BLOCK)
            if block != number:
                number, lines = block, _names(self._blocks[block])
            name = lines[place].decode("utf-8", "replace")
            names[row] = self._numbered(name, int(starts[row]))
        return names

    def _numbered(self, name: str, start: int) -> str:
        copies = self.copies(name)
        return f"{name}#{copies.index(start) + 1}" if start in copies[1:] else name

    def copies(self, name: str) -> list[int]:
        """Return the addresses of a name that several functions share, in order; [] for others.

        Static functions of several files, and out-of-line copies of inline functions, share one.
        """
        return self._copies.get(name, [])

    @cached_property
    def _copies(self) -> dict[str, list[int]]:
        # Checksums first: a set of all names takes 10 MiB.
        names = (name for block in self._blocks for name in _names(block))
        checksums = np.fromiter(map(zlib.crc32, names), np.uint32, len(self))
        values, counts = np.unique(checksums, return_counts=True)
        repeated = contained(checksums, values[counts > 1])
        addresses: dict[str, dict[int, None]] = {}
        for number, block in enumerate(self._blocks):
            start = number * _BLOCK
            places = np.flatnonzero(repeated[start : start + _BLOCK]).tolist()
            block_names = _names(block) if places else []
            for place in places:
                name = block_names[place].decode("utf-8", "replace")
                addresses.setdefault(name, {})[self.address(start + place)] = None
        return {name: list(places) for name, places in addresses.items() if len(places) > 1}

    def find(self, names: Iterable[str]) -> dict[str, int]:
        """Return the addresses of the names that exist. Every call decompresses the table."""
        patterns = {name: b"\n%s\n" % name.encode() for name in names}
        addresses: dict[str, int] = {}
        for number, compressed in enumerate(self._blocks):
            block = b"\n%s\n" % zlib.decompress(compressed)
            for name, pattern in patterns.items():
                position = block.find(pattern)
                if position >= 0 and name not in addresses:
                    index = number * _BLOCK + block.count(b"\n", 0, position)
                    addresses[name] = self.address(index)
        return addresses

    def names_from(self, start: str) -> Iterator[str]:
        """Yield the names that begin with this text."""
        prefix = start.encode()
        for block in self._blocks:
            for name in _names(block):
                if name.startswith(prefix):
                    yield name.decode("utf-8", "replace")

    def similar(self, name: str) -> Iterator[str]:
        """Yield the names that begin or end with the same letters, and are about as long."""
        start, end = name[:_ALIKE].encode(), name[-_ALIKE:].encode()
        low, high = len(name) - 2, len(name) + _LONGER
        for block in self._blocks:
            for each in _names(block):
                if low <= len(each) <= high and (each.startswith(start) or each.endswith(end)):
                    yield each.decode("utf-8", "replace")

    def end(self, start: int) -> int:
        """Return the end of the symbol at this address: the start of the next one."""
        index = self._count(start, "right")
        return self.address(index) if index < len(self) else start + 4096


def _names(block: bytes) -> list[bytes]:
    return zlib.decompress(block).split(b"\n")


def _compressed(text: U8, starts: I64, ends: I64) -> Iterator[bytes]:
    """Yield these pieces of text, one a line, as compressed blocks."""
    lengths = ends - starts + 1
    stops = np.cumsum(lengths)
    # Position in the text of each byte of the result.
    positions = np.repeat(starts - stops + lengths, lengths)
    positions += np.arange(len(positions))
    gathered = text[positions]
    gathered[stops - 1] = _NEWLINE
    lines = gathered.tobytes()
    start = 0
    for stop in (*stops[_BLOCK - 1 : -1 : _BLOCK].tolist(), len(lines)):
        yield zlib.compress(lines[start : stop - 1], _LEVEL)
        start = stop
