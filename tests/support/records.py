# SPDX-License-Identifier: Apache-2.0
"""Kernel records as numpy values of the dtypes of bpf/layout.h."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slabmon.kernel.bpf.layout import ALLOC_SLOT, CACHE_RECORD, CONSTANTS, DEVRES_EVENT, FREE_SLOT

GOLDEN_RATIO = 0x9E3779B97F4A7C15


def fill(dtype: np.dtype, rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return records with these fields set and the others zero."""
    result = np.zeros(len(rows), dtype)
    for record, row in zip(result, rows, strict=True):
        for name, value in row.items():
            record[name] = value
    return result


def alloc_slots(*rows: dict[str, Any]) -> np.ndarray:
    return fill(ALLOC_SLOT, rows)


def free_slots(*rows: dict[str, Any]) -> np.ndarray:
    return fill(FREE_SLOT, rows)


def kmalloc(flags: int, bucket: int) -> int:
    """The `gfp_size_key` of a kmalloc slot; bucket 0 for kmem_cache_alloc."""
    return flags << 32 | bucket


def cache_record(
    name: bytes, size: int = 64, flags: int = 0, object_size: int | None = None
) -> np.ndarray:
    """Return one struct cache_record."""
    object_size = size if object_size is None else object_size
    row = {"name": name, "size": size, "flags": flags, "object_size": object_size}
    return fill(CACHE_RECORD, [row])


def devres_event(op: bytes, node: int, device: int = 0xD000, **fields: Any) -> np.void:
    """Return one struct devres_event of a device named after its address."""
    plain: dict[str, Any] = {
        "kind": CONSTANTS["EVENT_DEVRES"],
        "op": op,
        "node": node,
        "device": device,
        "bytes": 24,
        "node_bytes": 64,
        "cache": 0xCA00,
        "release": b"devm_kzalloc_release",
        "name": f"dev{device:x}".encode(),
        "bus": b"platform",
        "driver": b"driver",
        "module": b"module",
    }
    return fill(DEVRES_EVENT, [{**plain, **fields}])[0]  # type: ignore[no-any-return]


def generations() -> np.ndarray:
    """Return the generation counters of caches before any was destroyed."""
    return np.zeros(CONSTANTS["CACHE_GENERATIONS"], "u1")


def generation_slot(address: int) -> int:
    """Return the index of an address's generation counter: cache_generation() of counting.h."""
    hashed = address * GOLDEN_RATIO & (1 << 64) - 1
    return hashed >> 40 & CONSTANTS["CACHE_GENERATIONS"] - 1
