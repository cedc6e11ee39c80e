# SPDX-License-Identifier: Apache-2.0
"""Record layouts and limits of bpf/layout.h as numpy dtypes and integers.

The header is the only source: it is parsed here, so that C and Python cannot differ.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from slabmon.kernel.bpf.sources import BPF_DIR

_SCALARS: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {"u8": "u1", "u32": "<u4", "u64": "<u8", "s32": "<i4", "s64": "<i8"}.items()
}
_DEFINE = re.compile(r"^#define (\w+) +(\d+)\b", re.M)
_STRUCT = re.compile(r"struct (\w+) \{(.*?)\};", re.S)
_MEMBER = re.compile(r"(u8|u32|u64|s32|s64|char) (\w+)(?:\[(\w+)\])?;")
_COMMENT = re.compile(r"/\*.*?\*/", re.S)


def parse(text: str) -> tuple[dict[str, int], dict[str, np.dtype]]:
    """Constants and structs of a layout header.

    Members are placed by C's rule: each at a multiple of its own size, the struct padded to a
    multiple of its largest member (System V ABI, x86-64 and AArch64 alike).
    """
    text = _COMMENT.sub("", text)
    constants = {name: int(value) for name, value in _DEFINE.findall(text)}
    structs = {}
    for name, body in _STRUCT.findall(text):
        names: list[str] = []
        formats: list[np.dtype] = []
        offsets: list[int] = []
        position = align = 0
        for kind, member, count in _MEMBER.findall(body):
            length = 0 if not count else constants[count] if count in constants else int(count)
            if kind == "char":
                base, unit = np.dtype(f"S{length}"), 1
            else:
                base, unit = _SCALARS[kind], _SCALARS[kind].itemsize
                if length:
                    base = np.dtype((base, (length,)))
            position = -(-position // unit) * unit
            align = max(align, unit)
            names.append(member)
            formats.append(base)
            offsets.append(position)
            position += base.itemsize
        structs[name] = np.dtype(
            {
                "names": names,
                "formats": formats,
                "offsets": offsets,
                "itemsize": -(-position // align) * align,
            }
        )
    return constants, structs


CONSTANTS, STRUCTS = parse((BPF_DIR / "layout.h").read_text())

LANE_HEAD = STRUCTS["lane_head"]
ALLOC_SLOT = STRUCTS["alloc_slot"]
FREE_SLOT = STRUCTS["free_slot"]
SAMPLE = STRUCTS["sample"]
STACK_TOTAL = STRUCTS["stack_total"]
CACHE_RECORD = STRUCTS["cache_record"]
CONTROL = STRUCTS["control"]
MODULE_EVENT = STRUCTS["module_event"]
DEVRES_EVENT = STRUCTS["devres_event"]
WALK_DEVICE = STRUCTS["walk_device"]
WALK_NODE = STRUCTS["walk_node"]

# Loss reasons as they appear in `losses` and slabmon_lost_events_total, by lane index.
LOSS_REASONS = {
    value: name.removeprefix("LOST_").lower()
    for name, value in CONSTANTS.items()
    if name.startswith("LOST_") and name != "LOST_REASONS"
}
