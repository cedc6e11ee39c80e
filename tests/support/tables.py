# SPDX-License-Identifier: Apache-2.0
"""Allocation slots of a few caches, read as the tracker reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from slabmon.kernel.probe.gfp import STABLE_BITS, classifier
from slabmon.kernel.probe.slabinfo import Nature
from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.caches import CacheDirectory
from slabmon.kernel.tables.lanes import Frees, sum_allocations, sum_frees
from slabmon.model import Cache, Live, Slabinfo
from tests.support.records import alloc_slots, cache_record, free_slots, generations, kmalloc

KMALLOC, DENTRY, RECLAIM = 0xFFFF888100010000, 0xFFFF888100020000, 0xFFFF888100030000
GFP_KERNEL, GFP_ATOMIC = 0xCC0, 0x820
NO_FREES = sum_frees(free_slots())
Row = dict[str, Any]


def directory() -> CacheDirectory:
    result = CacheDirectory({})
    records = np.concatenate(
        [
            cache_record(b"kmalloc-96", 96),
            cache_record(b"dentry", 192, object_size=185),
            cache_record(b"kmalloc-rcl-96", 96, 0x20000),
        ]
    )
    result.update(np.array([KMALLOC, DENTRY, RECLAIM], "<u8"), records, generations())
    return result


def locate(site: int, generation: int) -> Location:
    return Location(f"f{site}", 0, f"module{generation}" if generation else None)


def read(*rows: Row) -> assemble.SlotColumns:
    slots = sum_allocations(alloc_slots(*rows))
    return assemble.slot_columns(slots, directory(), locate, classifier({}), STABLE_BITS)


KMALLOC_ROW = {
    "site": 1,
    "gfp_size_key": kmalloc(GFP_KERNEL, 96),
    "cache": KMALLOC,
    "count": 10,
    "requested_bytes": 700,
}


def caches(
    rows: assemble.SlotColumns,
    frees: Frees = NO_FREES,
    large_freed: int = 0,
    unobserved: dict[int, int] | None = None,
    slabinfo: dict[str, Slabinfo] | None = None,
    live: dict[str, Live] | None = None,
    interval: int = 0,
    bulk_unseen: bool = True,
) -> dict[str, Cache]:
    table = assemble.cache_sums(rows, frees, directory(), large_freed, unobserved or {})
    aliases = {"kmalloc-96": ("alias",)}
    result = assemble.cache_rows(
        table,
        live=live or {},
        slabinfo=slabinfo or {},
        aliases=aliases,
        nature_of=lambda _, size: Nature(size, True),
        interval=interval,
        bulk_unseen=bulk_unseen,
        net={},
    )
    assert [row.name for row in result] == sorted(row.name for row in result)
    return {row.name: row for row in result}
