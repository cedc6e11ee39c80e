# SPDX-License-Identifier: Apache-2.0
"""Takes one census: reads all slabs, then answers whose they are."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from slabmon.base.errors import UnsupportedHost
from slabmon.base.fields import Host
from slabmon.census.model import NO_ORPHANS, ORPHANS_UNSUPPORTED, Census, OrphanObjects
from slabmon.kernel.census import (
    cache_types,
    cgroups,
    features,
    inventory,
    memory_map,
    orphan_rows,
    orphans,
    owners,
    reading,
    symbols,
    tags,
)
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import BudgetSpent, KernelMemory
from slabmon.kernel.census.memory_scan import MemoryWatch
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.btf import Btf
from slabmon.kernel.probe.facts import count_list, read_text
from slabmon.memory.scan import MemoryScan

# Shares of the work that are done after a step. Building the programs is the first of it.
_BUILT, _READ, _CHARGED, _SEARCHED, _OWNED = 0.15, 0.3, 0.35, 0.6, 0.95
_WITHOUT_ORPHANS = 0.5  # share of a census that looks for orphans


@dataclass(frozen=True)
class _Orphans:
    """Rows of orphans, and how often memory was searched: 1 if they were not looked for."""

    rows: tuple[OrphanObjects, ...] = ()
    passes: int = 1
    limits: tuple[str, ...] = ()


def take(
    memory: KernelMemory,
    layout: Layout,
    btf: Btf,
    settings: CensusSettings,
    progress: Callable[[float], object] = lambda _: None,
) -> Census:
    """Take a census of the running kernel, whose layout is of this BTF; report the share of the
    work that is done."""
    start = time.monotonic()
    if settings.orphans:
        whole, progress = progress, lambda share: whole(_WITHOUT_ORPHANS * share)
    progress(_BUILT)
    watch = MemoryWatch(layout, btf)
    read = reading.read(
        memory, layout, lambda share: progress(_BUILT + (_READ - _BUILT) * share), watch
    )
    progress(_READ)
    charged = cgroups.cgroup_rows(memory, layout, read)
    progress(_CHARGED)
    aliases = slabinfo.read_aliases()
    tagged = tags.owner_rows(memory, layout, read)
    whose = owners.Owners(rows=tagged)
    types = Types(btf)
    known = symbols.read(read_text("/proc/iomem") or "")
    if not tagged:
        whose = owners.owner_rows(
            memory,
            read,
            types,
            aliases,
            known,
            settings,
            owners.room_for_subjects(settings),
            lambda share: progress(_CHARGED + (_SEARCHED - _CHARGED) * share),
        )
    progress(_OWNED)
    blocks = inventory.page_blocks(read.large)
    rows = (
        *inventory.cache_rows(
            read.slabs,
            read.in_use,
            memory_map.node_of_pages(read.slabs.pfn),
            aliases,
        ),
        *inventory.large_row(blocks),
    )
    unreached = _Orphans()
    if settings.orphans:
        unreached = _orphans(
            memory,
            layout,
            types,
            aliases,
            known,
            lambda share: whole(_WITHOUT_ORPHANS + (1 - _WITHOUT_ORPHANS) * share),
        )
    return replace(
        _census(start, read.pages_read, watch.scan),
        passes=unreached.passes,
        objects=sum(row.in_use for row in rows),
        changed_slabs=read.changed,
        caches=tuple(sorted(rows, key=lambda row: (-row.slab_bytes, row.name))),
        page_blocks=blocks,
        cgroups=charged,
        sampled=whose.sampled,
        owners=whose.rows,
        orphans=unreached.rows,
        limits=(*features.limits(layout), *whose.limits, *unreached.limits),
    )


def take_pages(
    memory: KernelMemory,
    layout: Layout,
    btf: Btf,
    progress: Callable[[float], object] = lambda _: None,
) -> Census:
    """Return a census of no slabs, which only says what all pages are."""
    start = time.monotonic()
    watch = MemoryWatch(layout, btf)
    count = reading.read_pages(
        memory, layout, watch, lambda share: progress(_BUILT + (1 - _BUILT) * share)
    )
    return _census(start, count, watch.scan)


def _census(start: float, pages_read: int, memory: MemoryScan | None) -> Census:
    """Return a census with nothing in it but what it took, and what all pages are."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    compiler = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Census(
        host=host(),
        taken=time.time(),
        seconds=time.monotonic() - start,
        cpu_seconds=sum((*usage[:2], *compiler[:2])),
        peak_bytes=usage.ru_maxrss * 1024,
        passes=1,
        pages_read=pages_read,
        objects=0,
        memory=memory,
    )


def _orphans(
    memory: KernelMemory,
    layout: Layout,
    types: Types,
    aliases: cache_types.Aliases,
    known: symbols.Symbols,
    progress: Callable[[float], object],
) -> _Orphans:
    try:
        found = orphans.find(memory, layout, progress)
        rows = orphan_rows.rows(memory, found, types, aliases, known)
    except MemoryError:
        limit = f"{NO_ORPHANS}: the memory did not suffice; allow more with --memory-mib"
    except BudgetSpent as error:
        limit = f"{NO_ORPHANS}: {error}"
    except UnsupportedHost as error:
        limit = f"{ORPHANS_UNSUPPORTED}: {error}"
    else:
        return _Orphans(rows, found.passes)
    return _Orphans(limits=(limit,))


def host() -> Host:
    """Return which machine this is."""
    return Host(
        platform.release(),
        platform.machine(),
        count_list(read_text("/sys/devices/system/cpu/possible")),
        read_text("/proc/sys/kernel/random/boot_id") or "",
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )
