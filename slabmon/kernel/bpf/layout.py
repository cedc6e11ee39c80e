# SPDX-License-Identifier: Apache-2.0
"""Record layouts of bpf/layout.h as numpy dtypes, with its constants.

The header is the only source: it is parsed here, so that C and Python cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from slabmon.kernel.bpf.header import CONSTANTS as CONSTANTS
from slabmon.kernel.bpf.header import LOSSES, TEXT

_SCALARS: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {"u8": "u1", "u32": "<u4", "u64": "<u8", "s32": "<i4", "s64": "<i8"}.items()
}
_STRUCT = re.compile(r"struct (\w+) \{(.*?)\};", re.S)
_MEMBER = re.compile(r"(u8|u32|u64|s32|s64|char) (\w+)(?:\[(\w+)\])?;")


def _member_type(kind: str, length: int) -> tuple[np.dtype, int]:
    """Return the type of a member and its alignment in bytes; length 0 is not an array."""
    if kind == "char":
        return np.dtype(f"S{length}"), 1
    scalar = _SCALARS[kind]
    return (np.dtype((scalar, (length,))) if length else scalar), scalar.itemsize


def _struct_type(body: str, constants: Mapping[str, int]) -> np.dtype:
    names: list[str] = []
    formats: list[np.dtype] = []
    offsets: list[int] = []
    position = struct_align = 0
    for kind, member, count in _MEMBER.findall(body):
        length = 0 if not count else constants[count] if count in constants else int(count)
        dtype, align = _member_type(kind, length)
        position = -(-position // align) * align
        struct_align = max(struct_align, align)
        names.append(member)
        formats.append(dtype)
        offsets.append(position)
        position += dtype.itemsize
    itemsize = -(-position // struct_align) * struct_align
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})


def parse_structs(text: str, constants: Mapping[str, int]) -> dict[str, np.dtype]:
    """Return the structs of a header without comments.

    Members are placed by C's rule: each at a multiple of its own size, the struct padded to a
    multiple of its largest member (System V ABI, x86-64 and AArch64 alike).
    """
    return {name: _struct_type(body, constants) for name, body in _STRUCT.findall(text)}


STRUCTS = parse_structs(TEXT, CONSTANTS)

LANE_HEAD = STRUCTS["lane_head"]
ALLOC_SLOT = STRUCTS["alloc_slot"]
FREE_SLOT = STRUCTS["free_slot"]
SAMPLE = STRUCTS["sample"]
STACK_TOTAL = STRUCTS["stack_total"]
STACK_COPY = STRUCTS["stack_copy"]
CALL_PATH = STRUCTS["call_path"]
BLOCK = STRUCTS["block"]
CACHE_RECORD = STRUCTS["cache_record"]
DRIVER_PROBE = STRUCTS["driver_probe"]
DMA_DEVICE = STRUCTS["dma_device"]
CONTROL = STRUCTS["control"]
MODULE_EVENT = STRUCTS["module_event"]
DEVRES_EVENT = STRUCTS["devres_event"]
WALK_DEVICE = STRUCTS["walk_device"]
WALK_NODE = STRUCTS["walk_node"]

# Loss reasons by index into lane_head.lost.
LOSS_REASONS: Mapping[int, str] = dict(enumerate(LOSSES))
