# SPDX-License-Identifier: Apache-2.0
"""The machine that counts instructions computes what the kernel's would."""

from __future__ import annotations

import struct

import pytest

from tests.support.bpf_machine import Machine

ADD, SUB, OR, LSH, RSH, ARSH, MOV = 0x07, 0x17, 0x47, 0x67, 0x77, 0xC7, 0xB7
EXIT = (0x95, 0, 0, 0, 0)


def code(*instructions: tuple[int, int, int, int, int]) -> bytes:
    """Of (opcode, destination, source, offset, immediate)."""
    return b"".join(
        struct.pack("<BBhi", op, dst | src << 4, off, imm)
        for op, dst, src, off, imm in instructions
    )


def stored(*instructions: tuple[int, int, int, int, int]) -> int:
    """Register 0 after these."""
    machine = Machine({}, frozenset())
    machine.memory[4096] = bytearray(8)
    store = ((MOV, 9, 0, 0, 4096), (0x7B, 9, 0, 0, 0), EXIT)
    machine.run(code(*instructions, *store), ())
    return machine.read(4096, 8)


@pytest.mark.parametrize(
    ("opcode", "start", "operand", "result"),
    [
        (ADD, 5, -7, (1 << 64) - 2),
        (SUB, 5, 7, (1 << 64) - 2),
        (OR, 0x10, 1, 0x11),
        (LSH, 1, 63, 1 << 63),
        (RSH, -1, 60, 15),
        (ARSH, -16, 2, (1 << 64) - 4),
        (0x04, -1, 1, 0),
        (0x64, -1, 4, 0xFFFFFFF0),
    ],
)
def test_arithmetic(opcode: int, start: int, operand: int, result: int) -> None:
    assert stored((MOV, 0, 0, 0, start), (opcode, 0, 0, 0, operand)) == result


@pytest.mark.parametrize(
    ("opcode", "operand", "taken"),
    [
        (0x15, -1, True),
        (0x25, 5, True),
        (0x65, 5, False),
        (0xC5, 5, True),
        (0x45, 4, True),
        (0x55, -1, False),
        (0xA5, 5, False),
    ],
)
def test_jumps_compare_signed_and_unsigned(opcode: int, operand: int, taken: bool) -> None:
    skip = ((MOV, 1, 0, 0, -1), (opcode, 1, 0, 1, operand), (MOV, 0, 0, 0, 1))
    assert stored((MOV, 0, 0, 0, 0), *skip) == (0 if taken else 1)


def test_compare_and_exchange_gives_the_old_value_and_writes_only_if_it_matched() -> None:
    machine = Machine({}, frozenset())
    machine.memory[8192] = bytearray(16)
    once = ((MOV, 0, 0, 0, 0), (MOV, 2, 0, 0, 8192), (MOV, 3, 0, 0, 7), (0xDB, 2, 3, 0, 0xF1))
    program = code(*once, *once, (0x7B, 2, 0, 8, 0), EXIT)
    cost = machine.run(program, ())
    assert (machine.read(8192, 8), machine.read(8200, 8)) == (7, 7)
    assert (cost.instructions, cost.calls, cost.lines) == (10, 0, {128})


def test_calls_that_are_compiled_in_line_do_not_count() -> None:
    machine = Machine({1: lambda *_: 3, 2: lambda *_: 4}, frozenset((1,)))
    cost = machine.run(code((0x85, 0, 0, 0, 1), (0x85, 0, 0, 0, 2), EXIT), ())
    assert (cost.instructions, cost.calls) == (3, 1)
