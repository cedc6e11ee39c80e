# SPDX-License-Identifier: Apache-2.0
"""The view of slab memory by the memory cgroup that it is charged to."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from slabmon.base.units import BYTES, COUNT
from slabmon.views.census import census_note
from slabmon.views.columns import Kind, attribute, label
from slabmon.views.drilldown import group_links
from slabmon.views.view import View
from slabmon.views.workloads import workload_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slabmon.census.model import CgroupObjects
    from slabmon.model import Snapshot


def _charged(snapshot: Snapshot) -> Sequence[CgroupObjects]:
    return snapshot.census.cgroups if snapshot.census else ()


CHARGED = View(
    name="charged",
    title="slab memory by the cgroup that it is charged to, at the last census",
    rows=_charged,
    key=attrgetter("cgroup", "state"),
    columns=(
        *workload_columns("cgroup"),
        label(
            "cgroup",
            "Path of the memory cgroup; PARENT/[removed]: of removed ones whose names are gone.",
        ),
        label("state", "alive, or dying: removed, but objects charged to it remain."),
        attribute("bytes", unit=BYTES, kind=Kind.GAUGE, help="Bytes that the objects occupy."),
        attribute(
            "objects",
            unit=COUNT,
            kind=Kind.GAUGE,
            help="Objects in use that are charged to it, whenever they were allocated.",
        ),
        attribute(
            "cgroups", unit=COUNT, kind=Kind.GAUGE, help="How many cgroups the row stands for."
        ),
        label("caches", "Caches that most of it is in.", title="largest caches"),
    ),
    brief=("workload", "state", "bytes", "objects", "cgroups", "caches"),
    sort="bytes",
    links=group_links("cgroup", get=attrgetter("cgroup")),
    note=census_note,
    census=True,
)
