# SPDX-License-Identifier: Apache-2.0
"""What all the workloads of the guest tests leave behind: this file comes last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings

SETTINGS = CensusSettings(cpu_seconds=900, orphans=True)  # an emulated processor is slow
MOST = 1e-4  # share of all objects in use


def test_hardly_any_object_is_an_orphan_after_all_workloads(
    record_property: Callable[[str, object], None],
) -> None:
    # kfree_rcu() keeps pages with the addresses of what it has freed (kernel/rcu/tree.c).
    Path("/proc/sys/vm/drop_caches").write_text("2")
    found = take_census(SETTINGS)
    count = sum(row.objects for row in found.orphans)
    print(f"{count} of {found.objects:,} objects, {found.passes} passes")
    for row in found.orphans:
        print(row)
    record_property("orphans", count)
    record_property("objects", found.objects)
    assert found.passes >= 2
    assert not any(text.startswith("orphans") for text in found.limits)
    assert count <= MOST * found.objects + 1, found.orphans
