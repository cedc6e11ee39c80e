# SPDX-License-Identifier: Apache-2.0
"""The state record: a JSON document in a BPF map beside the other maps.

A map lives exactly as long as the counters it belongs to, needs no disk, and a store to it
survives kill -9. Two slots are written alternately, each with a checksum: a writer that dies
halfway leaves the older document.
"""

from __future__ import annotations

import json
import mmap
import zlib
from typing import Any

from slabmon.kernel.bpf import syscall
from slabmon.state.slots import HEAD, checksum, head

BYTES = 1 << 20
_SLOT = BYTES // 2
_ELEMENT = 4096


class RecordTooLarge(ValueError):
    """The document does not fit into a slot."""


def create_map() -> int:
    """Return the descriptor of a new map for a record."""
    return syscall.create_array("slabmon_state", _ELEMENT, BYTES // _ELEMENT)


class StateRecord:
    """A document in a map. The caller keeps the descriptor open, and closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._number = 0

    def _mapped(self) -> mmap.mmap:
        """Map the record for one access: mapped pages count as this process's memory."""
        return mmap.mmap(self._descriptor, BYTES, mmap.MAP_SHARED)

    def read(self) -> dict[str, Any] | None:
        """Return the last document that was completely written, or None."""
        with self._mapped() as memory:
            slots = [slot for i in (0, 1) if (slot := _slot(memory, i))]
        latest = max(slots, default=None, key=lambda slot: slot[0])
        if latest is None:
            return None
        self._number, payload = latest
        try:
            document = json.loads(zlib.decompress(payload))
        except (zlib.error, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def write(self, document: dict[str, Any]) -> None:
        """Replace the document. Raises RecordTooLarge, and then the old one stays."""
        payload = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
        if len(payload) > _SLOT - HEAD.size:
            raise RecordTooLarge(f"{len(payload)} bytes, {_SLOT - HEAD.size} at most")
        self._number += 1
        start = self._number % 2 * _SLOT
        with self._mapped() as memory:
            memory[start + HEAD.size : start + HEAD.size + len(payload)] = payload
            memory[start : start + HEAD.size] = head(self._number, payload)


def _slot(memory: mmap.mmap, index: int) -> tuple[int, bytes] | None:
    start = index * _SLOT
    number, length, check = HEAD.unpack_from(memory, start)
    payload = memory[start + HEAD.size : start + HEAD.size + length]
    if not number or length > _SLOT - HEAD.size or check != checksum(number, payload):
        return None
    return number, payload
