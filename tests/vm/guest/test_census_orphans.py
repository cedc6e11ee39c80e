# SPDX-License-Identifier: Apache-2.0
"""What the planted module lost is found, and nothing that it keeps in any way is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from slabmon.census.model import Census, OrphanObjects
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from tests.vm.guest import planted as module

SETTINGS = CensusSettings(cpu_seconds=900, orphans=True)
LOST, RINGS, IN_RING, LARGE = 4001, 47, 3, 7
FOUND, RINGS_FOUND = 0.99, 0.75
OTHERS = 1e-4  # share of all objects in use

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(autouse=True)
def shrunk() -> None:
    """Let kfree_rcu() drop the pages that it keeps, which hold addresses of what it has freed
    (kfree_rcu_shrink_scan(), kernel/rcu/tree.c, mm/slab_common.c)."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


def search() -> Census:
    found = take_census(SETTINGS)
    for row in found.orphans:
        print(row)
    print(f"{found.objects:,} objects, {found.cpu_seconds:.1f} s of CPU time, {found.limits}")
    assert found.passes >= 2
    return found


def rows_of(found: Census, symbol: str) -> list[OrphanObjects]:
    return [row for row in found.orphans if symbol in row.signature]


def objects_of(found: Census, symbol: str) -> int:
    return sum(row.objects for row in rows_of(found, symbol))


def others(found: Census) -> Counter[str]:
    """Orphans that are not the module's."""
    counts: Counter[str] = Counter()
    for row in found.orphans:
        if row.module != module.NAME:
            counts[f"{row.cache}: {row.signature}"] += row.objects
    return counts


def test_what_was_lost_before_is_found_at_the_first_run_and_nothing_that_is_kept() -> None:
    module.run("orphans_lose")
    module.run("orphans_keep")
    found = search()
    lost = rows_of(found, "planted_is_lost")
    assert FOUND * LOST <= sum(row.objects for row in lost) <= LOST
    for row in lost:
        assert (row.module, row.bytes) == (module.NAME, row.objects * 256)
        assert row.cache.startswith("kmalloc-")
    # One word left behind clears a whole ring, which lies where other objects did.
    in_rings = objects_of(found, "planted_is_in_ring")
    assert in_rings >= RINGS_FOUND * RINGS * IN_RING
    assert in_rings % IN_RING == 0
    # The larger a block, the more numbers are the physical address of one of its parts, such as
    # jiffies: at times few of these are found, or none.
    assert objects_of(found, "planted_is_large") <= LARGE
    assert [row for row in found.orphans if "planted_kept" in row.signature] == []
    assert others(found).total() <= OTHERS * found.objects + 1, others(found)


def test_nothing_is_lost_once_it_is_freed() -> None:
    module.run("orphans_lose")
    module.run("release")
    found = search()
    assert [row for row in found.orphans if row.module == module.NAME] == []
    assert others(found).total() <= OTHERS * found.objects + 1, others(found)
