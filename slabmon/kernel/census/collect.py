# SPDX-License-Identifier: Apache-2.0
"""Takes one census: reads all slabs, then answers whose they are."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from slabmon.base.errors import UnsupportedHost
from slabmon.base.fields import Host
from slabmon.base.retained import RetainedBy
from slabmon.census.model import (
    NO_ORPHANS,
    ORPHANS_UNSUPPORTED,
    Census,
    CgroupObjects,
    CgroupState,
    DeviceObjects,
    HeldObjects,
    OrphanObjects,
    RetainedObjects,
)
from slabmon.kernel.census import (
    cache_types,
    cgroups,
    features,
    held_rows,
    inventory,
    memory_map,
    orphan_rows,
    orphans,
    owners,
    reading,
    symbols,
    tags,
)
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.held_rows import Described, Retained
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import BudgetSpent, KernelMemory
from slabmon.kernel.census.memory_scan import MemoryWatch
from slabmon.kernel.census.settings import MEMORY_OPTION, CensusSettings
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.btf import Btf
from slabmon.kernel.probe.container_names import ContainerNames
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS, count_list, read_text
from slabmon.memory.scan import MemoryScan

Progress = Callable[[float], object]  # is told the share of the work that is done

# Shares of the work that are done after a step. Building the programs is the first of it.
_BUILT, _READ, _CHARGED, _SEARCHED, _OWNED = 0.15, 0.3, 0.35, 0.6, 0.95
_SLABS = 0.5  # share of all but orphans, in a census that looks for them


@dataclass(frozen=True)
class _Orphans:
    """Rows of orphans, of devices, and of what these hold, and how often memory was searched: 1 if
    that failed, or orphans were not looked for."""

    rows: tuple[OrphanObjects, ...] = ()
    devices: tuple[DeviceObjects, ...] = ()
    retained: tuple[RetainedObjects, ...] = ()
    held: tuple[HeldObjects, ...] = ()
    passes: int = 1
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Words:
    """What tells the meaning of words in objects: types, names of merged caches, symbols."""

    types: Types
    aliases: cache_types.Aliases
    symbols: symbols.Symbols


def take(
    memory: KernelMemory,
    layout: Layout,
    btf: Btf,
    settings: CensusSettings,
    progress: Progress = lambda _: None,
) -> Census:
    """Take a census of the running kernel, whose layout is of this BTF; report the share of the
    work that is done."""
    start = time.monotonic()
    if not settings.orphans and settings.retained is None:
        return _of_slabs(start, memory, layout, btf, settings, progress)[0]
    of_slabs, of_orphans = _part(progress, 0, _SLABS), _part(progress, _SLABS, 1)
    # Orphans are found in readings of their own: what this one read is freed before.
    census, words = _of_slabs(start, memory, layout, btf, settings, of_slabs)
    orphaned = _orphans(memory, layout, words, settings, of_orphans)
    return replace(
        census,
        **_cost(start),
        passes=orphaned.passes,
        orphans=orphaned.rows,
        devices=orphaned.devices,
        retained=orphaned.retained,
        cgroups=_with_retained(census.cgroups, orphaned.retained),
        held=orphaned.held,
        limits=(*census.limits, *orphaned.limits),
    )


def _of_slabs(
    start: float,
    memory: KernelMemory,
    layout: Layout,
    btf: Btf,
    settings: CensusSettings,
    progress: Progress,
) -> tuple[Census, _Words]:
    """Return a census without orphans."""
    progress(_BUILT)
    watch = MemoryWatch(layout, btf)
    read = reading.read(memory, layout, _part(progress, _BUILT, _READ), watch)
    progress(_READ)
    charged = cgroups.cgroup_rows(memory, layout, read)
    progress(_CHARGED)
    words = _Words(
        Types(btf), slabinfo.read_aliases(), symbols.read(read_text("/proc/iomem") or "")
    )
    owned = _owners(memory, layout, read, words, settings, _part(progress, _CHARGED, _SEARCHED))
    progress(_OWNED)
    blocks = inventory.page_blocks(read.large)
    nodes = memory_map.node_of_pages(read.slabs.pfn)
    rows = (
        *inventory.cache_rows(read.slabs, read.in_use, nodes, words.aliases),
        *inventory.large_row(blocks),
    )
    census = replace(
        _census(start, read.pages_read, watch.scan),
        objects=sum(row.in_use for row in rows),
        changed_slabs=read.changed,
        caches=tuple(sorted(rows, key=lambda row: (-row.slab_bytes, row.name))),
        page_blocks=blocks,
        cgroups=charged,
        workloads=ContainerNames().names(row.cgroup for row in charged),
        sampled=owned.sampled,
        owners=owned.rows,
        contradictions=owned.contradictions,
        widest_unknown=owned.widest_unknown,
        limits=(*features.limits(layout), *_hidden(words.symbols), *owned.limits),
    )
    return census, words


def _hidden(known: symbols.Symbols) -> tuple[str, ...]:
    if known.known:
        return ()
    return (f"functions and variables that objects point to have no names: {HIDDEN_SYMBOLS}",)


def _part(progress: Progress, first: float, last: float) -> Progress:
    """Return what reports the progress of a part of the work: that from one share of it to
    another."""
    return lambda share: progress(first + (last - first) * share)


def take_pages(
    memory: KernelMemory,
    layout: Layout,
    btf: Btf,
    progress: Progress = lambda _: None,
) -> Census:
    """Return a census of no slabs, which only says what all pages are."""
    start = time.monotonic()
    watch = MemoryWatch(layout, btf)
    count = reading.read_pages(memory, layout, watch, _part(progress, _BUILT, 1.0))
    return _census(start, count, watch.scan)


def _census(start: float, pages_read: int, memory: MemoryScan | None) -> Census:
    """Return a census with nothing in it but what it took, and what all pages are."""
    return Census(
        host=host(), **_cost(start), passes=1, pages_read=pages_read, objects=0, memory=memory
    )


def _cost(start: float) -> dict[str, Any]:
    """Return when a census that began at `start` (monotonic seconds) ends, and what it took, by
    field."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    compiler = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "taken": time.time(),
        "seconds": time.monotonic() - start,
        "cpu_seconds": sum((*usage[:2], *compiler[:2])),
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Return the most memory this process had, in bytes. ru_maxrss has that of the process which
    started it, too: it outlives exec() (getrusage(2))."""
    status = read_text("/proc/self/status") or ""
    lines = (line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((int(words[1]) * 1024 for words in lines), 0)


def _owners(
    memory: KernelMemory,
    layout: Layout,
    read: reading.Reading,
    words: _Words,
    settings: CensusSettings,
    progress: Progress,
) -> owners.Owners:
    """Return the owners of objects: by allocation tags where there are some, else by their
    words."""
    tagged = tags.owner_rows(memory, layout, read)
    if tagged:
        return owners.Owners(rows=tagged)
    return owners.owner_rows(
        memory,
        read,
        words.types,
        words.aliases,
        words.symbols,
        settings,
        owners.room_for_subjects(settings),
        progress,
    )


def _with_retained(
    rows: tuple[CgroupObjects, ...], retained: tuple[RetainedObjects, ...]
) -> tuple[CgroupObjects, ...]:
    """Return rows of cgroups with what they retain. A removed cgroup may have the path of one that
    is alive, whose row has it then."""
    sizes: dict[str, int] = {}
    for each in retained:
        if each.kind is RetainedBy.CGROUP:
            sizes[each.name] = sizes.get(each.name, 0) + each.retained_bytes
    alive = {row.cgroup for row in rows if row.state is CgroupState.ALIVE}
    return tuple(
        replace(row, retained_bytes=sizes.get(row.cgroup))
        if row.state is CgroupState.ALIVE or row.cgroup not in alive
        else row
        for row in rows
    )


def _orphans(
    memory: KernelMemory,
    layout: Layout,
    words: _Words,
    settings: CensusSettings,
    progress: Progress,
) -> _Orphans:
    first = _Orphans()  # as far as the first pass finds it

    def tell(read: reading.Reading, heap: Heap, retained: Retained) -> None:
        nonlocal first
        try:
            held = held_rows.describe(
                memory, read, heap, retained, words.types, words.aliases, words.symbols
            )
        except (MemoryError, BudgetSpent) as error:
            reason = str(error) or f"allow more memory with {MEMORY_OPTION}"
            held = Described(limits=(f"what is retained was not named: {reason}",))
        first = _Orphans(
            devices=retained.rows,
            retained=retained.others,
            held=held.rows,
            limits=(*retained.limits, *held.limits),
        )

    try:
        result = orphans.find(
            memory,
            layout,
            words.aliases,
            progress,
            kind=settings.retained or RetainedBy.DEVICE,
            only_retained=not settings.orphans,
            tell=tell,
        )
        rows = orphan_rows.rows(memory, result, words.types, words.aliases, words.symbols)
    except MemoryError:
        limit = f"{NO_ORPHANS}: the memory did not suffice; allow more with {MEMORY_OPTION}"
    except BudgetSpent as error:
        limit = f"{NO_ORPHANS}: {error}"
    except UnsupportedHost as error:
        limit = f"{ORPHANS_UNSUPPORTED}: {error}"
    else:
        return replace(first, rows=rows, passes=result.passes)
    return replace(first, limits=(*first.limits, limit))


def host() -> Host:
    """Return which machine this is."""
    return Host(
        platform.release(),
        platform.machine(),
        count_list(read_text("/sys/devices/system/cpu/possible")),
        read_text("/proc/sys/kernel/random/boot_id") or "",
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )
