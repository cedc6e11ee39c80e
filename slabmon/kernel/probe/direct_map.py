# SPDX-License-Identifier: Apache-2.0
"""Where the kernel maps all memory and its struct pages.

The programs need both to turn an address into its page where the kernel has no function for it.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Mapping

import numpy as np

from slabmon.base.errors import UnsupportedHost

# Kernel variables that lead to them, by machine type.
TELLTALES: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("page_offset_base", "vmemmap_base"),
    "aarch64": ("vmcoreinfo_data",),
}
_ENOUGH_OBJECTS = 5  # of different caches, to verify a guess
_LONGEST = 1 << 16  # VMCOREINFO_BYTES (include/linux/vmcore_info.h): a page, of 64 KiB at most


def find_memory(variables: Mapping[str, int], read_word: Callable[[int], int]) -> tuple[int, int]:
    """Return the addresses of the direct map and of the first page's struct page.

    `variables` are addresses of TELLTALES, `read_word` reads 64 bits of kernel memory. Raises
    UnsupportedHost if an arm64 kernel does not export them.

    x86-64 keeps both in variables. arm64 has them as constants of its build: the linear map begins
    at -2^VA_BITS, and struct pages at VMEMMAP_START (virt_to_page(), arch/arm64/include/asm/
    memory.h). It exports both to crash tools (arch/arm64/kernel/vmcore_info.c, since 5.19).
    """
    direct_map, vmemmap = (variables.get(name) for name in TELLTALES["x86_64"])
    if direct_map and vmemmap:
        return read_word(direct_map), read_word(vmemmap)
    [note] = TELLTALES["aarch64"]
    text = _text(read_word(variables[note]), read_word)
    numbers = dict(re.findall(r"^NUMBER\((VA_BITS|VMEMMAP_START)\)=(\w+)$", text, re.MULTILINE))
    if len(numbers) != 2:
        raise UnsupportedHost(
            "the kernel's vmcoreinfo has no VA_BITS and VMEMMAP_START, which arm64 kernels have "
            "since 5.19; please report this kernel"
        )
    return -(1 << int(numbers["VA_BITS"])) % (1 << 64), int(numbers["VMEMMAP_START"], 0)


def _text(address: int, read_word: Callable[[int], int]) -> str:
    """Return the text at this address, up to its first NUL."""
    data = b""
    while b"\0" not in data and len(data) < _LONGEST:
        data += read_word(address + len(data)).to_bytes(8, "little")
    return data.partition(b"\0")[0].decode("ascii", "replace")


def locate_vmemmap(control: np.void, try_base: Callable[[int], object], struct_bytes: int) -> None:
    """Find the address of all struct pages and write it to the control record.

    It is the one that leads from every object tried to its own cache. Without it the programs ask
    the kernel for each object. `try_base` runs locate_vmemmap of bpf/slabmon.bpf.c, which makes a
    guess if called with 0; `struct_bytes` is sizeof(struct page).
    """
    try_base(0)
    guess = int(control["vmemmap_guess"])
    gib = (1 << 30) // mmap.PAGESIZE * struct_bytes
    # Memory has holes; a GiB of struct pages stands for 64 GiB of it.
    limit = 2 * (os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE >> 30) + 64
    for number in (*range(limit), *range(-limit, 0)):
        base = guess + number * gib & (1 << 64) - 1
        try_base(base)
        probes = int(control["vmemmap_probes"])
        if probes >= _ENOUGH_OBJECTS and probes == int(control["vmemmap_hits"]):
            control["page_base"] = base
            return
