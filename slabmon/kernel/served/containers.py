# SPDX-License-Identifier: Apache-2.0
"""The memory that leads to devices: the objects that they are in, and their drivers' data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.devres.walker import Placed

NONE = -1
_NICKNAMES = {"bdi"}  # classes of devices that stand for those of another class (mm/backing-dev.c)
# Structs that devices of a bus or class are in, by the macro of the offset of their struct device.
_STRUCTS = {
    "net": ("net_device", "OFF_NET_DEVICE_DEV"),
    "block": ("block_device", "OFF_BLOCK_DEVICE_DEV"),
}


class Containers:
    """Ranges of memory, each of which belongs to one device.

    An object of kmalloc() begins at a multiple of its size if that is a power of two. Of other
    objects only the struct is known that the device is in: see _STRUCTS, else struct device. Data
    that several devices share are the topmost one's.
    """

    def __init__(
        self, placed: Sequence[Placed], sizes: Mapping[str, int], offsets: Mapping[str, int]
    ) -> None:
        """Find them. `sizes` of structs and `offsets` are those of Facts."""
        self.placed = placed
        self._number = {device.address: i for i, device in enumerate(placed)}
        ranges: dict[int, tuple[int, int]] = {}  # start -> end, number
        own = [i for i, device in enumerate(placed) if device.identity.bus not in _NICKNAMES]
        for i in own:
            device = placed[i]
            start, end = _object(device.address, device.object_bytes) or _struct(
                device, sizes, offsets
            )
            ranges.setdefault(start, (end, i))
        for i in sorted(own, key=lambda i: len(self.chain(i))):
            found = _object(placed[i].data, placed[i].data_bytes)
            if found is not None:
                ranges.setdefault(found[0], (found[1], i))
        starts = sorted(ranges)
        self._starts: U64 = np.array(starts, np.uint64)
        self._ends: U64 = np.array([ranges[start][0] for start in starts], np.uint64)
        self._owner: I64 = np.array([ranges[start][1] for start in starts], np.int64)

    def find(self, words: U64) -> I64:
        """Return the number in `placed` of the device that each word points to, NONE for others."""
        if not len(self._starts):
            return np.full(words.shape, NONE)
        place = np.maximum(np.searchsorted(self._starts, words, "right") - 1, 0)
        inside = (words >= self._starts[place]) & (words < self._ends[place])
        return np.where(inside, self._owner[place], NONE)

    def chain(self, number: int) -> tuple[int, ...]:
        """Return the numbers of a device and of those above it, the nearest first."""
        chain = [number]
        while True:
            above = self._number.get(self.placed[chain[-1]].parent)
            if above is None or above in chain:
                return tuple(chain)
            chain.append(above)

    def lowest_at(self, addresses: Iterable[int]) -> int:
        """Return the number of the one of these devices that is below all others, or NONE."""
        wanted = {self._number[address] for address in addresses}
        below = (number for number in wanted if wanted <= set(self.chain(number)))
        return next(below, NONE)


def _object(address: int, size: int) -> tuple[int, int] | None:
    """Return start and end of the object of this size that an address is in, if that is known."""
    if not size or size & (size - 1):
        return None
    start = address & -size
    return start, start + size


def _struct(
    device: Placed, sizes: Mapping[str, int], offsets: Mapping[str, int]
) -> tuple[int, int]:
    """Return start and end of the struct that a device is in."""
    struct, offset = _STRUCTS.get(device.identity.bus, ("", ""))
    if struct in sizes and offset in offsets:
        start = device.address - offsets[offset]
        return start, start + sizes[struct]
    return device.address, device.address + sizes.get("device", 0)
