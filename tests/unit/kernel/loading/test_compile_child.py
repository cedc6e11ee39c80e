# SPDX-License-Identifier: Apache-2.0
"""Calls of kernel functions in compiled programs."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.loading.compile_child import (
    map_constants,
    patch_kfunc_calls,
    patch_map_loads,
)

CALL, JUMP, LOAD_IMM64, EXIT = 0x85, 0x05, 0x18, 0x95
KFUNC = 98_765


def instruction(opcode: int, immediate: int = 0, src: int = 0, dst: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, dst | src << 4, 0, immediate)


def test_a_call_of_a_kernel_function_is_marked_as_one() -> None:
    code = instruction(CALL, KFUNC) + instruction(EXIT)
    patched = instruction(CALL, KFUNC, src=2) + instruction(EXIT)
    assert patch_kfunc_calls(code, [KFUNC]) == patched


def test_the_destination_register_is_kept() -> None:
    assert patch_kfunc_calls(instruction(CALL, KFUNC, dst=3), [KFUNC]) == instruction(
        CALL, KFUNC, src=2, dst=3
    )


def test_helper_calls_calls_between_programs_and_other_instructions_stay() -> None:
    code = b"".join(
        [
            instruction(CALL, 14),
            instruction(CALL, KFUNC, src=1),
            instruction(CALL, KFUNC, src=2),
            instruction(JUMP, KFUNC),
            instruction(LOAD_IMM64, KFUNC, dst=1),
            instruction(0, KFUNC),
            instruction(EXIT),
        ]
    )
    assert patch_kfunc_calls(code, [KFUNC]) == code


def test_every_call_of_every_function_is_marked() -> None:
    code = instruction(CALL, 7) + instruction(CALL, 8) + instruction(CALL, 7)
    patched = patch_kfunc_calls(code, {7, 8})
    assert [patched[8 * i + 1] >> 4 for i in range(3)] == [2, 2, 2]


def test_without_kernel_functions_nothing_changes() -> None:
    code = instruction(CALL, KFUNC) + instruction(EXIT)
    assert patch_kfunc_calls(code, []) == code
    assert patch_kfunc_calls(b"", [KFUNC]) == b""


@given(st.lists(st.binary(min_size=8, max_size=8)).map(b"".join), st.sets(st.integers(1, 10)))
def test_nothing_but_the_source_register_of_such_calls_changes(code: bytes, ids: set[int]) -> None:
    patched = patch_kfunc_calls(code, ids)
    assert len(patched) == len(code)
    for position in range(0, len(code), 8):
        before, after = code[position : position + 8], patched[position : position + 8]
        opcode, registers, _, immediate = struct.unpack("<BBhi", before)
        if opcode == CALL and registers >> 4 == 0 and immediate in ids:
            assert after == before[:1] + bytes([registers | 0x20]) + before[2:]
        else:
            assert after == before
    assert patch_kfunc_calls(patched, ids) == patched, "twice is once"


# With a map's number, the upper halves of the constants that stand for a map and for the address
# of its first value.
MAPS, UPPER = 0x51AA0000, 0x51AB0000


def constant(low: int, high: int, src: int = 0, dst: int = 0) -> bytes:
    return instruction(LOAD_IMM64, low, src, dst) + instruction(0, high)


def test_each_map_has_two_constants_of_its_own_in_the_sources() -> None:
    assert map_constants(["shared", "kfree_lanes"]) == {
        "shared_map": MAPS << 32,
        "shared_value": UPPER << 32,
        "kfree_lanes_map": MAPS + 1 << 32,
        "kfree_lanes_value": UPPER + 1 << 32,
    }


def test_maps_are_loaded_by_descriptor() -> None:
    code = constant(0, MAPS, dst=1) + constant(0, MAPS + 1, dst=2) + instruction(EXIT)
    patched = constant(9, 0, 1, 1) + constant(7, 0, 1, 2) + instruction(EXIT)
    assert patch_map_loads(code, [9, 7]) == patched
    assert patch_map_loads(patched, [9, 7]) == patched, "twice is once"


def test_addresses_in_values_of_maps_are_loaded_from_them() -> None:
    code = constant(0, UPPER, dst=6) + constant(4096, UPPER + 1) + instruction(EXIT)
    patched = constant(9, 0, 2, 6) + constant(7, 4096, 2) + instruction(EXIT)
    assert patch_map_loads(code, [9, 7]) == patched
    assert patch_map_loads(patched, [9, 7]) == patched, "twice is once"


def test_other_constants_and_what_only_looks_like_one_stay() -> None:
    code = b"".join(
        [
            constant(0, UPPER + 1),
            constant(0, UPPER - 1),
            constant(0, MAPS + 1),
            constant(0, MAPS - 1),
            constant(5, MAPS, src=1),
            constant(UPPER, 0),
            constant(5, UPPER, src=1),
            instruction(CALL, KFUNC) + instruction(0, UPPER),
            instruction(LOAD_IMM64),
        ]
    )
    assert patch_map_loads(code, [9]) == code
