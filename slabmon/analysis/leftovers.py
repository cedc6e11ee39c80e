# SPDX-License-Identifier: Apache-2.0
"""What a command left behind: tracked objects that are still there, judged and grouped by stack.

Objects that a process allocated need not be left by it. Interrupts and softirqs run in whichever
process they interrupt, and the kernel keeps caches for everybody: those objects are counted by
their reason, and not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from slabmon.analysis.callers import function_of, inner_functions
from slabmon.base.arrays import I64
from slabmon.base.escape import escape
from slabmon.model import CONTEXTS, Context, Device, Site, Snapshot, Tracked

_UNKNOWN = CONTEXTS.index(Context.UNKNOWN)
# The allocators' own: extensions of slabs, which live as long as those, sheaves, and vmap_areas,
# which vmalloc() shares out among its users and frees in batches.
_ALLOCATOR = frozenset(
    {
        "alloc_slab_obj_exts",
        "memcg_alloc_slab_cgroups",
        "memcg_alloc_page_obj_cgroups",
        "alloc_empty_sheaf",
        "__alloc_empty_sheaf",
        "alloc_vmap_area",
    }
)
# In copy_process() it makes kernel stacks. Each CPU keeps two (NR_CACHED_STACKS, kernel/fork.c).
_VMALLOC = "__vmalloc_node"
# Each CPU keeps up to 256 freed bios for the next (bio_put_percpu_cache(), block/bio.c, 5.15+).
_BIO = "bio_alloc_bioset"
# Functions that fill the caches of inodes and dentries, and all that hangs on these.
_FILE_SYSTEM_CACHES = frozenset(
    {
        "alloc_inode",
        "__d_alloc",
        "__lookup_slow",
        "__lookup_hash",
        "lookup_one_qstr_excl",
        "lookup_open",
    }
)


class Reason(StrEnum):
    """Why objects that are still there are not judged."""

    INTERRUPT = "allocated in interrupts, for anybody"
    ALLOCATOR = "the allocators' own"
    KERNEL_STACK = "stacks that the kernel keeps for the next processes"
    BIO = "bios that CPUs keep for the next ones"
    RECLAIMABLE = "in caches that the kernel shrinks when it needs memory"
    FILE_SYSTEM = "part of cached inodes and dentries"
    UNKNOWN = "allocated in a process or an interrupt: there was no room for the stack"


@dataclass(frozen=True, kw_only=True)
class LeftStack:
    """Objects of one cache that one stack allocated. `stack` begins with the call site's function;
    it is empty if it could not be kept. `processes` counts objects by command name; ages are in
    seconds."""

    cache: str
    site: Site
    stack: tuple[str, ...]
    objects: int
    bytes: int
    requested_bytes: int
    processes: Mapping[str, int]
    youngest_seconds: float
    oldest_seconds: float


@dataclass(frozen=True)
class LeftDevice:
    """Managed resources that a device did not have before."""

    bus: str
    name: str
    driver: str | None
    module: str | None
    resources: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What is left, the most bytes first; objects that are not judged, by reason."""

    stacks: tuple[LeftStack, ...] = ()
    devices: tuple[LeftDevice, ...] = ()
    not_judged: Mapping[Reason, int] = field(default_factory=dict)

    @property
    def objects(self) -> int:
        """The number of objects left."""
        return sum(row.objects for row in self.stacks)

    @property
    def bytes(self) -> int:
        """The bytes they occupy."""
        return sum(row.bytes for row in self.stacks)


def find_leftovers(
    before: Snapshot,
    after: Snapshot,
    *,
    by_process: bool,
    by_cache: bool = False,
    module: str | None = None,
) -> Leftovers:
    """Return what tracking found allocated between two snapshots, and not freed.

    `by_process` and `by_cache` say that the tracked objects were selected by the process that
    allocated them, and by their cache. Devices are those of `module` and of modules on the stacks
    of what is left.
    """
    tracked = after.tracked
    if not len(tracked.bytes):
        return Leftovers(devices=_devices(before, after, {module} if module else set()))
    rows: list[LeftStack] = []
    not_judged: Counter[Reason] = Counter()
    for members in _by_stack(tracked):
        row = _row(after, members)
        reason = _reason(tracked, members, row) if by_process else None
        if by_process and not by_cache and after.caches[tracked.cache[members[0]]].reclaimable:
            reason = Reason.RECLAIMABLE
        if reason is None:
            rows.append(row)
        else:
            not_judged[reason] += row.objects
    rows.sort(key=lambda row: (-row.bytes, row.site.full_label, row.cache))
    modules = _modules(rows) | ({module} if module else set())
    return Leftovers(
        stacks=tuple(rows),
        devices=_devices(before, after, modules),
        not_judged={reason: not_judged[reason] for reason in Reason if not_judged[reason]},
    )


def _by_stack(tracked: Tracked) -> list[I64]:
    """Return the indices of the objects of each stack, call site, cache and context. Stacks that
    differ in return addresses only are one."""
    names = {frames: number for number, frames in enumerate(dict.fromkeys(tracked.stacks.values()))}
    number_of = {stack: names[frames] for stack, frames in tracked.stacks.items()}
    stacks = [number_of.get(stack, -1) for stack in tracked.stack.tolist()]
    keys = np.stack([np.array(stacks, np.int64), tracked.site, tracked.cache, tracked.context])
    order = np.lexsort(keys)
    changed = np.any(keys[:, order][:, 1:] != keys[:, order][:, :-1], axis=0)
    return np.split(order, np.flatnonzero(changed) + 1)


def _row(snapshot: Snapshot, members: I64) -> LeftStack:
    """Return one row of objects that share stack, call site and cache."""
    tracked, example = snapshot.tracked, members[0]
    site = snapshot.sites[int(tracked.site[example])]
    names = Counter(tracked.process[members].tolist())
    ages = tracked.age[members]
    return LeftStack(
        cache=snapshot.caches[int(tracked.cache[example])].name,
        site=site,
        stack=_from_site(tracked.stacks.get(int(tracked.stack[example]), ()), site),
        objects=len(members),
        bytes=int(tracked.bytes[members].sum()),
        requested_bytes=int(tracked.requested[members].sum()),
        processes={escape(name): count for name, count in names.most_common()},
        youngest_seconds=float(ages.min()),
        oldest_seconds=float(ages.max()),
    )


def _from_site(frames: Sequence[str], site: Site) -> tuple[str, ...]:
    """Return the frames from the call site's function on, innermost first: those before it are the
    allocator's."""
    inner = inner_functions(frames)
    start = inner.index(site.symbol) if site.symbol in inner else 0
    return tuple(frames[start:])


def _reason(tracked: Tracked, members: I64, row: LeftStack) -> Reason | None:
    """Return why objects that a process allocated are not judged, or None."""
    names = [function_of(frame) for frame in row.stack]
    # Without what compilers append to the names of clones, as in lookup_open.isra.0.
    functions = {name.partition(".")[0] for name in (*names, row.site.symbol)}
    if tracked.by_interrupt[members[0]]:
        return Reason.INTERRUPT
    if row.site.symbol.partition(".")[0] in _ALLOCATOR:
        return Reason.ALLOCATOR
    if "copy_process" in functions and any(name.startswith(_VMALLOC) for name in functions):
        return Reason.KERNEL_STACK
    if row.cache.startswith("bio-") and _BIO in functions:
        return Reason.BIO
    if functions & _FILE_SYSTEM_CACHES:
        return Reason.FILE_SYSTEM
    known = tracked.context[members[0]] != _UNKNOWN
    return None if known or _may_sleep(tracked, members) else Reason.UNKNOWN


def _may_sleep(tracked: Tracked, members: I64) -> bool:
    """Return whether the flags allow reclaim, as no interrupt's do (__GFP_DIRECT_RECLAIM)."""
    return bool((tracked.gfp[members] & np.uint64(0x400)).all())


def _modules(rows: Iterable[LeftStack]) -> set[str]:
    frames = {frame for row in rows for frame in row.stack}
    return {frame.partition(" [")[2].rstrip("]") for frame in frames if " [" in frame} | {
        row.site.module for row in rows if row.site.module
    }


def _devices(before: Snapshot, after: Snapshot, modules: Set[str]) -> tuple[LeftDevice, ...]:
    """Return devices whose driver is in one of these modules and that hold more than before."""
    earlier = {(device.bus, device.name): device for device in before.devices}
    rows = []
    for device in after.devices:
        then = earlier.get((device.bus, device.name))
        grown = device.resources - (then.resources if then else 0)
        if grown > 0 and device.module in modules:
            rows.append(_device(device, then, grown))
    return tuple(rows)


def _device(device: Device, then: Device | None, grown: int) -> LeftDevice:
    return LeftDevice(
        device.bus,
        device.name,
        device.driver,
        device.module,
        grown,
        device.managed_bytes - (then.managed_bytes if then else 0),
    )
