# SPDX-License-Identifier: Apache-2.0
"""The caches that slabs belong to: struct kmem_cache (mm/slab.h)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.base.escape import escape
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.pages import column

_NAME_BYTES = 64
_OO_SHIFT, _OO_MASK = 16, 0xFFFF  # mm/slub.c: order and number of objects of a slab


@dataclass(frozen=True, kw_only=True)
class Caches:
    """One row for each cache, in order of addresses. Sizes and offsets in bytes."""

    address: U64
    name: tuple[str, ...]
    size: I64  # from one object to the next
    object_size: I64
    offset: I64  # of the free pointer in a free object
    random: U64  # what free pointers are encoded with; 0 if they are not
    hardened: bool  # CONFIG_SLAB_FREELIST_HARDENED
    red_left_pad: I64  # before the first object
    oo: I64  # usual slabs: order << 16 | objects
    min: I64  # slabs made when memory was short
    cpu_slab: U64  # per-CPU pointer to a struct kmem_cache_cpu; 0: none
    cpu_sheaves: U64  # per-CPU pointer to a struct slub_percpu_sheaves; 0: none
    sheaf_capacity: I64


def read(memory: Memory, layout: Layout, addresses: U64) -> Caches:
    """Read the caches at these addresses; those that cannot be one are left out."""
    members = [offset for name, offset in layout.offsets.items() if name.startswith("cache.")]
    members = [offset for offset in members if offset < 1024]  # node[] ends the struct
    size = -(-(max(members) + 8) // 8) * 8
    addresses = np.unique(addresses[addresses != 0])
    raw = memory.gather(addresses, size)

    def number(name: str, dtype: type[np.generic] = np.uint32) -> I64:
        member = f"cache.{name}"
        if member not in layout:
            return np.zeros(len(raw), np.int64)
        return column(raw, layout[member], dtype).astype(np.int64)

    def word(name: str) -> U64:
        member = f"cache.{name}"
        if member not in layout:
            return np.zeros(len(raw), np.uint64)
        return column(raw, layout[member], np.uint64)

    valid = (number("object_size") > 0) & (number("size") >= number("object_size"))
    valid &= number("oo") & _OO_MASK > 0
    raw, addresses = raw[valid], addresses[valid]
    names = memory.gather(word("name"), _NAME_BYTES)
    return Caches(
        address=addresses,
        name=_unique([escape(name.tobytes().partition(b"\0")[0]) for name in names]),
        size=number("size"),
        object_size=number("object_size"),
        offset=number("offset"),
        random=word("random"),
        hardened="cache.random" in layout,
        red_left_pad=number("red_left_pad"),
        oo=number("oo"),
        min=number("min"),
        cpu_slab=word("cpu_slab"),
        cpu_sheaves=word("cpu_sheaves"),
        sheaf_capacity=number("sheaf_capacity"),
    )


def orders(caches: Caches, row: I64, objects: I64) -> tuple[I64, Bool]:
    """Return the order of slabs that hold this many objects, and whether their cache has such
    slabs. Pages lent to a cache by KFENCE (mm/kfence/) hold one object, and are not its slabs."""
    usual, least = caches.oo[row], caches.min[row]
    is_usual = usual & _OO_MASK == objects
    valid = is_usual | (least & _OO_MASK == objects)
    return np.where(is_usual, usual, least) >> _OO_SHIFT, valid


def _unique(names: list[str]) -> tuple[str, ...]:
    """Number the second and later caches of one name, as the tables do: `name#2`."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(unique)
