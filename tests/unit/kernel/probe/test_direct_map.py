# SPDX-License-Identifier: Apache-2.0
"""Where memory and its struct pages are, as kernels tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.probe.direct_map import find_memory

NOTE, TEXT = 0xFFFF800082A3C0D0, 0xFFF0000004129000
# As an arm64 kernel built for addresses of 52 bits has it (6.12), in part.
TOLD = """\
OSRELEASE=6.12.0-arm64
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffff8000829f1a28
NUMBER(VA_BITS)=52
NUMBER(MODULES_VADDR)=0xffff800000000000
NUMBER(VMEMMAP_START)=0xffffc1ffc0000000
NUMBER(VMEMMAP_END)=0xffffffffc0000000
NUMBER(kimage_voffset)=0xffff800040000000
"""


def kernel(memory: dict[int, bytes]) -> Callable[[int], int]:
    """Reads 64 bits of this memory; between and behind its pieces there is nothing."""

    def peek(address: int) -> int:
        for start, data in memory.items():
            if start <= address < start + len(data):
                return int.from_bytes(data[address - start :][:8], "little")
        return 0

    return peek


def test_x86_has_variables() -> None:
    memory = {
        0xFFFFFFFF82000000: (0xFFFF8B1580000000).to_bytes(8, "little"),
        0xFFFFFFFF82000040: (0xFFFFEA7700000000).to_bytes(8, "little"),
    }
    variables = {
        "page_offset_base": 0xFFFFFFFF82000000,
        "vmemmap_base": 0xFFFFFFFF82000040,
        "vmcoreinfo_data": 0xFFFFFFFF82000080,
    }
    assert find_memory(variables, kernel(memory)) == (0xFFFF8B1580000000, 0xFFFFEA7700000000)


@pytest.mark.parametrize("padding", range(9))
def test_arm64_tells_constants_in_a_text(padding: int) -> None:
    memory = {NOTE: TEXT.to_bytes(8, "little"), TEXT: b"X" * padding + b"\n" + TOLD.encode()}
    found = find_memory({"vmcoreinfo_data": NOTE}, kernel(memory))
    assert found == (0xFFF0000000000000, 0xFFFFC1FFC0000000)


@pytest.mark.parametrize("text", ["", "NUMBER(VA_BITS)=48\n", "\n" * (1 << 17)])
def test_a_kernel_that_does_not_tell_is_named(text: str) -> None:
    memory = {NOTE: TEXT.to_bytes(8, "little"), TEXT: text.encode()}
    with pytest.raises(UnsupportedHost, match="VMEMMAP_START"):
        find_memory({"vmcoreinfo_data": NOTE}, kernel(memory))
