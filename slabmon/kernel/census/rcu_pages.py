# SPDX-License-Identifier: Apache-2.0
"""Pages that each CPU keeps for kfree_rcu() (krc.bkvcache; kernel/rcu/tree.c, mm/slab_common.c from
6.14 on): what is in them are addresses of objects that were freed, and of what lies there since."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import I64, distinct
from slabmon.kernel.census import percpu
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading

NEEDED = ("percpu.krc", "krc.bkvcache")
_MOST = 512  # pages of a CPU; as many as rcutree.rcu_min_cached_objs says, 5 by default


def find(memory: Memory, layout: Layout, reading: Reading) -> I64:
    """Return the page frames of these pages, as far as this kernel shows them."""
    if not layout.has(*NEEDED):
        return np.zeros(0, np.int64)
    sections = percpu.find_variables(
        memory, layout, reading.slabs.caches, reading.cpu_offsets, reading.in_ram
    )
    # Each page begins with the address of the next.
    pages = memory.words(sections + np.uint64(layout["percpu.krc"] + layout["krc.bkvcache"]))
    found = [np.zeros(0, np.uint64)]
    for _ in range(_MOST):
        pages = pages[(pages % np.uint64(PAGE_BYTES) == 0) & reading.in_ram(pages)]
        if not len(pages):
            break
        found.append(pages)
        pages = memory.words(pages)
    offsets = np.concatenate(found) - np.uint64(reading.direct_map)
    return distinct(offsets.astype(np.int64) // PAGE_BYTES)
