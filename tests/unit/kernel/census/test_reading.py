# SPDX-License-Identifier: Apache-2.0
"""Which addresses may be read wherever they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slabmon.kernel.census.memory_map import PAGE_BYTES, PageRange
from tests.support.slab_memory import DIRECT_MAP, FakeKernel


def test_only_ram_in_the_direct_map_is_ram() -> None:
    """Between pieces of memory, and elsewhere, devices may be mapped."""
    kernel = FakeKernel()
    kernel.slab(kernel.cache("things", 128), free=[0])
    read = replace(kernel.reading(), ranges=[PageRange(1, 3), PageRange(8, 9)])
    inside = [1 * PAGE_BYTES, 3 * PAGE_BYTES - 1, 8 * PAGE_BYTES, 9 * PAGE_BYTES - 8]
    outside = [0, PAGE_BYTES - 8, 3 * PAGE_BYTES, 8 * PAGE_BYTES - 1, 9 * PAGE_BYTES, 1 << 46]
    words = [DIRECT_MAP + at for at in (*inside, *outside)] + [8, PAGE_BYTES, DIRECT_MAP - 8]
    found = read.in_ram(np.array(words, np.uint64))
    assert found.tolist() == [True] * len(inside) + [False] * (len(outside) + 3)
