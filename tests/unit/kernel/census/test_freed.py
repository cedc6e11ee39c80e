# SPDX-License-Identifier: Apache-2.0
"""Objects that are no longer allocated, by the slabs they were in."""

from __future__ import annotations

import numpy as np

from slabmon.kernel.census.freed import freed
from slabmon.kernel.census.reading import occupancy
from tests.support.slab_memory import DIRECT_MAP, FakeKernel


def test_free_objects_and_those_of_pages_that_are_no_slabs_any_more_are_gone() -> None:
    kernel = FakeKernel()
    cache = kernel.cache("any", 96)
    pfn = kernel.slab(cache, free=[3, 7])
    slabs = kernel.slabs()
    lists = (np.zeros(0, np.int64), np.zeros(0, np.uint64))
    free = occupancy(kernel.memory, slabs, lists, np.zeros(0, np.int64)).free
    addresses = [kernel.object(cache, pfn, place) for place in (2, 3, 4, 7)]
    gone = freed(np.array([*addresses, DIRECT_MAP], np.uint64), slabs, free)
    assert gone.tolist() == [False, True, False, True, True]
