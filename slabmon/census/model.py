# SPDX-License-Identifier: Apache-2.0
"""Census: the slab memory of one host, whenever it was allocated. Labels and counts only:
no address and no content of memory is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slabmon.base.fields import Host, Int, Real, Text
from slabmon.base.retained import RetainedBy
from slabmon.base.workloads import WorkloadNames
from slabmon.memory.scan import MemoryScan

TENTHS = 10
_NAMED = 4
# How a limit begins that says why a census has no orphans, or not what devices hold.
NO_ORPHANS, ORPHANS_UNSUPPORTED = "orphans were not found", "orphans cannot be found"
DEVICES_UNSUPPORTED = "what devices hold cannot be found"


class CgroupState(StrEnum):
    """Whether a memory cgroup can still be entered."""

    ALIVE = "alive"
    DYING = "dying"  # removed, but objects charged to it remain


@dataclass(frozen=True, kw_only=True)
class NodeSlabs:
    """Slabs of one cache on one NUMA node."""

    node: Int
    slabs: Int
    objects: Int
    in_use: Int
    slab_bytes: Int


@dataclass(frozen=True, kw_only=True)
class CensusCache:
    """One kmem_cache, or page-backed kmalloc as `kmalloc-large`, whose objects are page blocks.

    `objects` is how many its slabs hold room for, `in_use` how many are allocated, both exact:
    objects free in per-CPU slabs and sheaves count as free. `size` is the bytes an object occupies,
    `object_size` the bytes its user may use. `fill` counts slabs by tenths of objects in use, from
    below 10 % to 90 % and more; `empty_slabs` of them hold none. `spare_bytes` is what would be
    given back if its objects lay in as few slabs as they fit in.
    """

    name: Text
    aliases: tuple[Text, ...] = ()
    slabs: Int
    objects: Int
    in_use: Int
    free: Int
    object_size: Int
    size: Int
    slab_bytes: Int
    spare_bytes: Int = 0
    empty_slabs: Int = 0
    fill: tuple[Int, ...] = (0,) * TENTHS
    nodes: tuple[NodeSlabs, ...] = ()

    @property
    def alias_names(self) -> str | None:
        """The aliases in one text, None if there are none."""
        return " ".join(self.aliases) or None


@dataclass(frozen=True, kw_only=True)
class PageBlocks:
    """Page-backed kmalloc of one order: blocks of 2^order pages."""

    order: Int
    objects: Int
    bytes: Int


@dataclass(frozen=True, kw_only=True)
class CgroupObjects:
    """Objects in use that are charged to one memory cgroup, by its path from the hierarchy's root.

    The kernel moves what a removed cgroup holds to its parent (memcg_reparent_objcgs(),
    mm/memcontrol.c). A row of such objects is dying; it has the removed cgroup's path where that
    is still known, else that of the parent followed by `/[removed]`, and stands for all its removed
    children: `cgroups` is how many. `retained_bytes` are those of objects that nothing leads to but
    the cgroup and those below it, whoever is charged for them; None where that was not asked.
    """

    cgroup: Text
    state: CgroupState
    cgroups: Int = 1
    objects: Int
    bytes: Int
    retained_bytes: Int | None = None
    by_cache: Mapping[Text, Int] = field(default_factory=dict)  # bytes
    objects_by_cache: Mapping[Text, Int] = field(default_factory=dict)

    @property
    def caches(self) -> str:
        """The caches that most of its bytes are in, in one text."""
        return " ".join(list(self.by_cache)[:_NAMED])


class Certainty(StrEnum):
    """How sure it is whose objects are."""

    EXACT = "exact"
    LIKELY = "likely"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class OwnedObjects:
    """Objects of one cache that say the same of whose they are: `signature` is what they say, for
    people, such as the line of code that allocated them. `objects_stderr` is the standard error of
    `objects`, where slabs were sampled."""

    cache: Text
    type: Text | None = None
    module: Text | None = None
    signature: Text
    certainty: Certainty
    objects: Int
    bytes: Int
    objects_stderr: Real = 0.0


@dataclass(frozen=True, kw_only=True)
class DeviceObjects:
    """Objects that nothing leads to but one device, those it is in included, whoever allocated them
    and when. `retained_*` are those of the device and of all devices below it, with what only
    several of them lead to. `bus` is the bus, else the class, else empty; `by_cache` is bytes of
    its own, in the largest caches."""

    bus: Text
    name: Text
    driver: Text | None = None
    module: Text | None = None
    objects: Int
    bytes: Int
    retained_objects: Int
    retained_bytes: Int
    by_cache: Mapping[Text, Int] = field(default_factory=dict)

    @property
    def caches(self) -> str:
        """The caches that most of its own bytes are in, in one text."""
        return " ".join(list(self.by_cache)[:_NAMED])


@dataclass(frozen=True, kw_only=True)
class RetainedObjects:
    """Objects that nothing leads to but one module, cgroup (by its path) or process (NAME[PID]),
    those that it is itself included: figures as in DeviceObjects."""

    kind: RetainedBy
    name: Text
    objects: Int
    bytes: Int
    retained_objects: Int
    retained_bytes: Int
    by_cache: Mapping[Text, Int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeldObjects:
    """Objects of one cache that one device holds, without those below it, and that say the same of
    what they are: `type`, `module`, `signature` and `certainty` as in OwnedObjects. `bus` and
    `name` are those of the device; of RetainedObjects, `bus` is the kind."""

    bus: Text
    name: Text
    cache: Text
    type: Text | None = None
    module: Text | None = None
    signature: Text
    certainty: Certainty
    objects: Int
    bytes: Int


@dataclass(frozen=True, kw_only=True)
class OrphanObjects:
    """Objects of one cache in use to which nothing in the kernel's memory refers, except perhaps
    other orphans. `type` and `signature` say what they are, as in OwnedObjects."""

    cache: Text
    type: Text | None = None
    module: Text | None = None
    signature: Text
    objects: Int
    bytes: Int


@dataclass(frozen=True, kw_only=True)
class WidestUnknown:
    """Objects of one cache and signature, of no known struct, through which more objects of no
    known struct are reached by pointers than through any other such group: `reached_*`, without
    themselves. If their struct were known, most others would follow."""

    cache: Text
    signature: Text
    objects: Int
    reached_objects: Int
    reached_bytes: Int


@dataclass(frozen=True, kw_only=True)
class Census:
    """One census.

    `taken` is the Unix time at which it was complete, `seconds` how long the reading took.
    `cpu_seconds` is the CPU time of all of it, building the programs included, `peak_bytes` the
    most memory it took. `pages_read` counts the pages whose struct page was read, `objects` those
    in use. `changed_slabs` is how many slabs changed while they were read, so that not all their
    free objects were found. `passes` is 1 if orphans were not looked for, else how often memory was
    searched for references to them. `devices` are found by the first of these searches, or
    `retained` if another kind was asked for; `held` says what they hold. `limits` says what this
    kernel does not let a census see. `memory` is what all pages are. `workloads` are names of the
    containers and pods that run, or ran, in `cgroups`, by their ids.

    `contradictions` counts objects that evidence says several structs of; each is of the one that
    more evidence says, in `owners`. `widest_unknown` is where to look for structs not known.
    """

    host: Host
    taken: Real = 0.0
    seconds: Real
    cpu_seconds: Real
    peak_bytes: Int
    passes: Int
    pages_read: Int
    objects: Int
    sampled: Real | bool = False
    changed_slabs: Int = 0
    caches: tuple[CensusCache, ...] = ()
    page_blocks: tuple[PageBlocks, ...] = ()
    cgroups: tuple[CgroupObjects, ...] = ()
    owners: tuple[OwnedObjects, ...] = ()
    contradictions: Int = 0
    widest_unknown: WidestUnknown | None = None
    devices: tuple[DeviceObjects, ...] = ()
    retained: tuple[RetainedObjects, ...] = ()
    held: tuple[HeldObjects, ...] = ()
    orphans: tuple[OrphanObjects, ...] = ()
    limits: tuple[Text, ...] = ()
    memory: MemoryScan | None = None
    workloads: Mapping[Text, WorkloadNames] = field(default_factory=dict)
