# SPDX-License-Identifier: Apache-2.0
"""What a kernel lacks is named, the same by `slabmon check` and by a census."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.census import cgroups, features, memory, percpu, sheaves, tags
from slabmon.kernel.census.features import DETAILS, INVENTORY, limits, of_layout
from slabmon.kernel.census.layout import Layout
from slabmon.model import State
from tests.unit.kernel.census.test_layout import new, old

MEMCG = ("memcg.nodeinfo", "memcg_node.objcg", "memcg_node.orig_objcg")


def with_members(layout: Layout, *members: str) -> Layout:
    return replace(layout, offsets={**layout.offsets, **dict.fromkeys(members, 0)})


def full() -> Layout:
    """A kernel that lacks nothing."""
    layout = with_members(new().layout(), *percpu.NEEDED, *cgroups.NEEDED, *MEMCG, *tags.NEEDED)
    return replace(layout, tagged=True)


def lacking(layout: Layout) -> dict[str, State]:
    found = of_layout(layout)
    assert set(found) == {INVENTORY, *DETAILS}
    assert all(bool(feature.reason) == (feature.state != State.ON) for feature in found.values())
    assert limits(layout) == tuple(feature.reason for feature in found.values() if feature.reason)
    return {name: feature.state for name, feature in found.items() if feature.state != State.ON}


def test_a_kernel_that_lacks_nothing() -> None:
    assert lacking(full()) == {}


def test_an_old_kernel() -> None:
    assert lacking(with_members(old().layout(), *percpu.NEEDED)) == {
        "census_large": State.OFF,
        "census_cgroups": State.OFF,
        "census_tags": State.OFF,
    }


@pytest.mark.parametrize(
    ("members", "state", "reason"),
    [
        (cgroups.NEEDED, State.DEGRADED, "not distinguished"),
        ((*cgroups.NEEDED, "memcg.objcg"), State.DEGRADED, r"PARENT/\[removed\]"),
        ((*cgroups.NEEDED, "memcg.objcg", "memcg.orig_objcg"), State.ON, ""),
        ((*cgroups.NEEDED, *MEMCG), State.ON, ""),
    ],
)
def test_what_is_known_of_removed_cgroups(
    members: tuple[str, ...], state: State, reason: str
) -> None:
    feature = of_layout(with_members(new().layout(), *members))["census_cgroups"]
    assert feature.state == state
    assert re.search(reason, feature.reason)


@pytest.mark.parametrize("member", ["cache.cpu_slab", "cache.cpu_sheaves"])
def test_lists_of_free_objects_that_are_not_understood(member: str) -> None:
    layout = with_members(full(), member)
    lists = percpu.LISTS if member == "cache.cpu_slab" else sheaves.NEEDED
    assert "census_free" in lacking(layout)
    assert "census_free" not in lacking(with_members(layout, *lists))
    without_cpus = {name: 0 for name in layout.offsets if name != "array.pptrs"}
    assert "census_free" in lacking(with_members(replace(layout, offsets=without_cpus), *lists))


def test_profiling_that_is_off_for_good() -> None:
    layout = replace(full(), tagged=False)
    assert lacking(layout) == {"census_tags": State.OFF}
    assert "mem_profiling" in limits(layout)[0]


def test_no_census_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UnsupportedHost("census: why not")

    monkeypatch.setattr(memory, "start_compiler", fail)
    [(name, feature)] = features.probe().items()
    assert (name, feature.state, feature.reason) == (INVENTORY, State.OFF, "census: why not")
