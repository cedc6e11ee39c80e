# SPDX-License-Identifier: Apache-2.0
"""GFP flags: classes by the composite flags of the kernel, and modifiers, from the bits of a
request.

Composites: include/linux/gfp_types.h. GFP_ATOMIC = HIGH|KSWAPD, GFP_NOWAIT = KSWAPD,
GFP_NOIO = RECLAIM, GFP_NOFS = RECLAIM|IO, GFP_KERNEL = RECLAIM|IO|FS, GFP_USER = GFP_KERNEL|
HARDWALL, GFP_HIGHUSER = GFP_USER|HIGHMEM, with RECLAIM = DIRECT_RECLAIM|KSWAPD_RECLAIM.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slabmon.base.gfp import MODIFIERS

CLASSES = (
    "kernel",
    "atomic",
    "nowait",
    "noio",
    "nofs",
    "user",
    "highuser",
    "dma",
    "dma32",
    "other",
)

# Bits that are the same from 5.10 to 7.3. Others moved and come from the running kernel.
STABLE_BITS = {
    "DMA": 0,
    "HIGHMEM": 1,
    "DMA32": 2,
    "MOVABLE": 3,
    "RECLAIMABLE": 4,
    "HIGH": 5,
    "IO": 6,
    "FS": 7,
    "ZERO": 8,
    "DIRECT_RECLAIM": 10,
    "KSWAPD_RECLAIM": 11,
    "NOWARN": 13,
    "COMP": 18,
    "ACCOUNT": 22,
}
_FORMAT_ENTRY = re.compile(r'\{([^{}]*), "__GFP_(\w+)" ?\}')
_NUMBER = re.compile(r"0x[0-9a-f]+")


def bits_from_format(text: str) -> dict[str, int]:
    """Return bit numbers of single flags in a tracepoint format (kernels before 6.12)."""
    bits = {}
    for entry, name in _FORMAT_ENTRY.findall(text):
        numbers = [int(number, 16) for number in _NUMBER.findall(entry)]
        if len(numbers) == 1 and numbers[0] and not numbers[0] & (numbers[0] - 1):
            bits[name] = numbers[0].bit_length() - 1
    return bits


def classifier(bits: Mapping[str, int]) -> Callable[[int], str]:
    """Return a function from flags to one of CLASSES, for the bit numbers of a kernel."""
    mask = {name: 1 << bit for name, bit in {**STABLE_BITS, **bits}.items()}
    hardwall = mask.get("HARDWALL", 0)

    def classify(flags: int) -> str:
        if flags & mask["DMA"]:
            return "dma"
        if flags & mask["DMA32"]:
            return "dma32"
        if flags & mask["DIRECT_RECLAIM"]:
            if not flags & mask["IO"]:
                return "other" if flags & mask["FS"] else "noio"
            if not flags & mask["FS"]:
                return "nofs"
            if not flags & hardwall:
                return "kernel"
            return "highuser" if flags & mask["HIGHMEM"] else "user"
        if flags & mask["KSWAPD_RECLAIM"]:
            return "atomic" if flags & mask["HIGH"] else "nowait"
        return "other"

    return classify


def modifier_masks(bits: Mapping[str, int]) -> dict[str, int]:
    """Return the mask of each of MODIFIERS whose bit is known, for the bit numbers of a kernel."""
    known = {**STABLE_BITS, **bits}
    return {name: 1 << known[name.upper()] for name in MODIFIERS if name.upper() in known}


def modifiers_of(flags: int, masks: Mapping[str, int]) -> tuple[str, ...]:
    """Return the modifiers in these flags, by their masks."""
    return tuple(name for name, mask in masks.items() if flags & mask)
