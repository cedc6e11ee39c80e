# SPDX-License-Identifier: Apache-2.0
"""Rows of a census for metrics: they add up, and there is a bound on their number."""

from __future__ import annotations

import dataclasses
import re

from slabmon.census.model import (
    Census,
    CensusCache,
    Certainty,
    CgroupState,
    OrphanObjects,
    OwnedObjects,
)
from slabmon.export.census_rows import by_cgroup, by_orphan, by_owner
from slabmon.export.metrics import CENSUS as METRICS
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.export.series import (
    MAX_CENSUS_CGROUPS,
    MAX_CENSUS_ORPHANS,
    MAX_CENSUS_OWNERS,
    OTHER,
)
from tests.support import scraping
from tests.unit.export.test_census import CENSUS

OWNER = OwnedObjects(
    cache="filp", signature="fs/file_table.c:1", certainty=Certainty.EXACT, objects=20, bytes=3840
)
LARGE = CensusCache(
    name="kmalloc-large",
    slabs=2,
    objects=2,
    in_use=2,
    free=0,
    object_size=0,
    size=0,
    slab_bytes=24576,
)


def large(count: int) -> Census:
    """A census of very many owners and cgroups, one as large as all before it together."""
    return dataclasses.replace(
        CENSUS,
        caches=(dataclasses.replace(CENSUS.caches[0], in_use=sum(range(count)) + 5),),
        owners=tuple(
            dataclasses.replace(OWNER, cache="dentry", signature=f"line {i}", objects=i, bytes=i)
            for i in range(count)
        ),
        orphans=tuple(
            OrphanObjects(cache="dentry", signature=f"line {i}", objects=1, bytes=i)
            for i in range(count)
        ),
        cgroups=tuple(
            dataclasses.replace(CENSUS.cgroups[0], cgroup=f"/{i}", bytes=i) for i in range(count)
        ),
    )


def test_owners_and_the_rest_of_each_cache_add_up_to_what_is_in_use() -> None:
    census = dataclasses.replace(CENSUS, caches=(*CENSUS.caches, LARGE), owners=(OWNER, OWNER))
    census = dataclasses.replace(
        census, caches=(*census.caches[:1], dataclasses.replace(census.caches[1], in_use=45), LARGE)
    )
    assert by_owner(census) == {
        ("kmalloc-large", "", "unknown"): (2, 24576),
        ("dentry", "", "unknown"): (100, 19200),
        ("filp", "fs/file_table.c:1", "exact"): (40, 7680),
        ("filp", "", "unknown"): (5, 960),
    }


def test_the_largest_rows_are_shown_and_the_others_added_up() -> None:
    census = large(1000)
    owners, cgroups = by_owner(census), by_cgroup(census)
    assert len(owners) == MAX_CENSUS_OWNERS + 1
    assert len(cgroups) == MAX_CENSUS_CGROUPS + 1
    assert owners["dentry", "line 999", "exact"] == (999, 999)
    assert owners[(OTHER,) * 3].objects == sum(range(1000)) + 5 - sum(
        row.objects for labels, row in owners.items() if labels[0] != OTHER
    )
    assert sum(row.bytes for row in cgroups.values()) == sum(range(1000))
    assert cgroups["/999", "", "", "", "", CgroupState.ALIVE].bytes == 999
    orphans = by_orphan(census)
    assert len(orphans) == MAX_CENSUS_ORPHANS + 1
    assert orphans["dentry", "line 999"] == (1, 999)
    assert orphans[OTHER, OTHER].objects == 1000 - MAX_CENSUS_ORPHANS


def test_a_scrape_holds_them_only_after_a_census() -> None:
    without = scraping.text(Exporter().families(None, Daemon()))
    assert "slabmon_census_objects" not in without
    assert "\nslabmon_census_age_seconds " not in without
    shown = scraping.text(Exporter().families(None, Daemon(census_age=7.5), census=CENSUS))
    assert "slabmon_census_age_seconds 7.5\n" in shown
    assert (
        'slabmon_census_objects{cache="dentry",certainty="unknown",owner=""} 100.0\n' in shown
        or 'slabmon_census_objects{cache="dentry",owner="",certainty="unknown"} 100.0\n' in shown
    )
    removed = re.search(r"slabmon_census_cgroup_bytes\{([^}]*)\} 3840\.0\n", shown)
    assert removed is not None
    assert set(removed[1].split(",")) == {
        'cgroup="/[removed]"',
        *(f'{label}=""' for label in ("unit", "container", "pod", "namespace")),
        'state="dying"',
    }
    assert "slabmon_census_seconds 0.25\n" in shown
    series = [line for line in shown.splitlines() if line.startswith("slabmon_census_")]
    many = scraping.text(Exporter().families(None, Daemon(census_age=7.5), census=large(1000)))
    lines = [line for line in many.splitlines() if line.startswith("slabmon_census_")]
    most = 2 * (MAX_CENSUS_OWNERS + 1 + MAX_CENSUS_ORPHANS + 1) + MAX_CENSUS_CGROUPS + 4
    assert len(series) < len(lines) <= most
    assert 'slabmon_census_orphan_bytes{cache="dentry",owner="line 999"} 999.0\n' in many
    assert all(f"# TYPE {metric.name} gauge" in many for metric in METRICS)
