# SPDX-License-Identifier: Apache-2.0
"""What this kernel lets a census see: the lines of `slabmon check`, and a census's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping

from slabmon.base.errors import SlabmonError
from slabmon.base.workloads import REMOVED
from slabmon.kernel.census import cgroups, memory, memory_map, percpu, sheaves, tags
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.probe import btf
from slabmon.kernel.probe.facts import read_text
from slabmon.model import FeatureState, State

INVENTORY = "census"
DETAILS = ("census_free", "census_large", "census_cgroups", "census_tags")
_ON = FeatureState(State.ON)


def probe() -> Mapping[str, FeatureState]:
    """Return what a census of the running kernel can see.

    Its programs are loaded for a moment and look for the struct pages, as a census begins.
    """
    try:
        with memory.start_compiler() as compiler:
            layout = Layout.of(btf.read_vmlinux())
            programs = compiler.finish()
        with programs:
            kernel = memory.KernelMemory(programs, memory.Budget(math.inf))
            ranges = memory_map.ram_ranges(read_text("/proc/iomem") or "")
            memory_map.find_vmemmap(kernel, layout, kernel.locate()[0], ranges)
    except SlabmonError as error:
        return {INVENTORY: FeatureState(State.OFF, str(error))}
    return of_layout(layout)


def of_layout(layout: Layout) -> Mapping[str, FeatureState]:
    """Return what a census can see of a kernel with this layout."""
    return {INVENTORY: _ON} | {
        name: detail(layout)
        for name, detail in zip(DETAILS, (_free, _large, _cgroups, _tags), strict=True)
    }


def limits(layout: Layout) -> tuple[str, ...]:
    """Return what this kernel does not let a census see."""
    return tuple(feature.reason for feature in of_layout(layout).values() if feature.reason)


def _free(layout: Layout) -> FeatureState:
    lists = [
        (where, needed)
        for where, needed, member in (
            ("slabs of CPUs", percpu.LISTS, "cache.cpu_slab"),
            ("sheaves", sheaves.NEEDED, "cache.cpu_sheaves"),
        )
        if member in layout
    ]
    unknown = [where for where, needed in lists if not layout.has(*needed, *percpu.NEEDED)]
    if not unknown:
        return _ON
    return FeatureState(
        State.DEGRADED, f"free objects in {' and '.join(unknown)} are not found: they are in use"
    )


def _large(layout: Layout) -> FeatureState:
    if layout.large_page is not None:
        return _ON
    return FeatureState(
        State.OFF,
        "this kernel does not mark page-backed kmalloc in struct page (PGTY_large_kmalloc): "
        "kmalloc-large is not counted",
    )


def _cgroups(layout: Layout) -> FeatureState:
    if not layout.has(*cgroups.NEEDED):
        return FeatureState(
            State.OFF,
            "no memory cgroups (CONFIG_MEMCG), or other members of them in BTF than expected",
        )
    if not cgroups.tells(layout, "objcg"):
        return FeatureState(
            State.DEGRADED, "removed cgroups are not distinguished from their parents"
        )
    if not cgroups.tells(layout, "orig_objcg"):
        return FeatureState(
            State.DEGRADED,
            "this kernel does not keep what a removed cgroup was called (6.7+): removed ones are "
            f"rows of their parent, PARENT/{REMOVED}",
        )
    return _ON


def _tags(layout: Layout) -> FeatureState:
    if not layout.has(*tags.NEEDED):
        return FeatureState(
            State.OFF,
            "this kernel keeps no allocation tags (CONFIG_MEM_ALLOC_PROFILING): the lines of code "
            "that allocated what is there are not known",
        )
    if not layout.tagged:
        return FeatureState(
            State.OFF,
            "allocation profiling is off for good (sysctl.vm.mem_profiling=never on the kernel's "
            "command line): the lines of code that allocated what is there are not known",
        )
    return _ON
