# SPDX-License-Identifier: Apache-2.0
"""An interpreter of compiled BPF code, which counts the instructions and calls of an event, and
the cache lines of the maps that it touches. The code is bcc's, before the kernel's own passes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MASK = (1 << 64) - 1
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_STACK, _CONTEXT = 1 << 40, 1 << 41
_LOAD_64, _EXIT, _CALL = 0x18, 0x95, 0x85
_MAP_HANDLE = 1 << 44
LINE = 64


@dataclass
class Cost:
    """The cost of one event. `lines` are those of maps and kernel memory, without the stack and
    the event's own arguments."""

    instructions: int = 0
    calls: int = 0
    lines: set[int] = field(default_factory=set)


class Machine:
    """Memory and helpers. `memory` maps start addresses to bytes. A helper gets the five argument
    registers; those in `free` are inlined by the kernel and are not counted as calls."""

    def __init__(self, helpers: Mapping[int, Callable[..., int]], free: frozenset[int]) -> None:
        self.memory: dict[int, bytearray] = {}
        self._helpers, self._free = helpers, free

    def _locate(self, address: int, size: int) -> tuple[bytearray, int] | None:
        for start, data in self.memory.items():
            if start <= address <= start + len(data) - size:
                return data, address - start
        return None

    def read(self, address: int, size: int) -> int:
        """Return 0 for unmapped memory, as the kernel does for untrusted pointers."""
        found = self._locate(address, size)
        if found is None:
            return 0
        data, start = found
        return int.from_bytes(data[start : start + size], "little")

    def write(self, address: int, size: int, value: int) -> None:
        found = self._locate(address, size)
        assert found is not None, hex(address)
        data, start = found
        data[start : start + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _touch(self, cost: Cost, address: int) -> None:
        if not _STACK <= address < _CONTEXT + (1 << 20):
            cost.lines.add(address // LINE)

    def run(self, code: bytes, arguments: tuple[int, ...]) -> Cost:
        """Run a program with these arguments; return its cost."""
        cost = Cost()
        self.memory[_STACK] = bytearray(512)
        self.memory[_CONTEXT] = bytearray(96)
        for number, value in enumerate(arguments):
            self.write(_CONTEXT + 8 * number, 8, value)
        r = [0] * 11
        r[1], r[10] = _CONTEXT, _STACK + 512
        at = 0
        while True:
            opcode, registers, offset, immediate = struct.unpack_from("<BBhi", code, at * 8)
            dst, src = registers & 15, registers >> 4
            at += 1
            cost.instructions += 1
            kind = opcode & 7
            if opcode == _EXIT:
                return cost
            if opcode == _CALL:
                cost.calls += immediate not in self._free
                r[0] = self._helpers[immediate](*r[1:6]) & MASK
            elif opcode == _LOAD_64:
                (high,) = struct.unpack_from("<i", code, at * 8 + 4)
                at += 1
                r[dst] = (high & 0xFFFFFFFF) << 32 | immediate & 0xFFFFFFFF
                r[dst] |= _MAP_HANDLE if src == 1 else 0
            elif kind in (4, 7):
                operand = r[src] if opcode & 8 else immediate & MASK
                r[dst] = _arithmetic(opcode >> 4, r[dst], operand, 64 if kind == 7 else 32)
            elif kind in (5, 6):
                operand = r[src] if opcode & 8 else immediate & MASK
                if _jumps(opcode >> 4, r[dst], operand, 64 if kind == 5 else 32):
                    at += offset
            else:
                self._access(cost, opcode, r, dst, src, offset, immediate)

    def _access(
        self, cost: Cost, opcode: int, r: list[int], dst: int, src: int, offset: int, immediate: int
    ) -> None:
        kind, size = opcode & 7, _SIZES[opcode & 0x18]
        address = (r[src if kind == 1 else dst] + offset) & MASK
        self._touch(cost, address)
        if kind == 1:
            r[dst] = self.read(address, size)
        elif opcode >> 5 == 6:
            self._atomic(address, size, r, src, immediate)
        else:
            self.write(address, size, r[src] if kind == 3 else immediate)

    def _atomic(self, address: int, size: int, r: list[int], src: int, operation: int) -> None:
        old = self.read(address, size)
        if operation == 0xF1:  # compare and exchange
            if old == r[0]:
                self.write(address, size, r[src])
            r[0] = old
        elif operation == 0xE1:  # exchange
            self.write(address, size, r[src])
            r[src] = old
        else:
            assert operation in (0, 1), operation
            self.write(address, size, old + r[src])
            if operation:
                r[src] = old


def map_number(handle: int) -> int:
    """Return the map descriptor that a look-up was given."""
    return handle & 0xFFFFFFFF


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _arithmetic(operation: int, a: int, b: int, bits: int) -> int:
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    shift = b & (bits - 1)
    results: dict[int, Callable[[], int]] = {
        0: lambda: a + b,
        1: lambda: a - b,
        2: lambda: a * b,
        3: lambda: a // b if b else 0,
        4: lambda: a | b,
        5: lambda: a & b,
        6: lambda: a << shift,
        7: lambda: a >> shift,
        8: lambda: -a,
        9: lambda: a % b if b else a,
        10: lambda: a ^ b,
        11: lambda: b,
        12: lambda: _signed(a, bits) >> shift,
    }
    return results[operation]() & mask


def _jumps(operation: int, a: int, b: int, bits: int) -> bool:
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    sa, sb = _signed(a, bits), _signed(b, bits)
    return [
        True,
        a == b,
        a > b,
        a >= b,
        bool(a & b),
        a != b,
        sa > sb,
        sa >= sb,
        False,
        False,
        a < b,
        a <= b,
        sa < sb,
        sa <= sb,
    ][operation]
