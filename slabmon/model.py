# SPDX-License-Identifier: Apache-2.0
"""Snapshot: the state of one host at one instant, as read from the kernel.

Rates, rankings and verdicts are computed from two or more snapshots by pure functions, in
slabmon.analysis and slabmon.leaks. Counters (`allocs`, `frees`, and `*_bytes` other than live
ones) count since tracking began and are exact up to `losses`.

Snapshots are written to recordings. Fields may be added, with a default; they are never removed or
renamed (slabmon.store.codec, ADR 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from slabmon.base.activity import Activity
from slabmon.base.arrays import F64, I32, I64, U32, U64, Bytes
from slabmon.base.escape import printable
from slabmon.base.fields import Host, Int, Real, Text
from slabmon.base.names import cache_family, kernel_name
from slabmon.census.model import Census
from slabmon.memory.reading import MemoryReading

LARGE_CACHE = "kmalloc-large"
UNRESOLVED_CACHE = "[unresolved]"
CORE_KERNEL = "[core kernel]"
NO_DRIVER = "[no driver]"
CENSUS_FEATURE = "census"  # among the features only if the last attempt at one failed


class Live(NamedTuple):
    """Objects allocated since tracking began and not freed, estimated from samples.

    `stderr_bytes` is one standard error; `low_bytes` and `high_bytes` bound a 95 % confidence
    interval (analysis/sampling.py). In exact mode the error is 0 and the bounds equal the value.
    """

    objects: Int = 0
    bytes: Int = 0
    stderr_bytes: Int = 0
    low_bytes: Int = 0
    high_bytes: Int = 0


@dataclass(frozen=True)
class Slabinfo:
    """One row of /proc/slabinfo. `active_objects` is an upper bound, since objects in per-CPU slabs
    and sheaves count as active. `slab_bytes` is the memory of all its slabs."""

    active_objects: Int
    total_objects: Int
    object_size: Int
    slab_bytes: Int


@dataclass(frozen=True)
class Cache:
    """One kmem_cache, or page-backed kmalloc as `kmalloc-large`. Sizes in bytes.

    `lifetimes` counts freed tracked objects by decade: below 10 us, below 100 us, ..., above
    10,000 s. `unobserved_frees` counts tracked addresses that were allocated again although no
    free had been seen; `frees_observable` is derived from it.
    """

    name: Text
    object_size: Int
    allocs: Int
    frees: Int
    failed: Int
    requested_bytes: Int
    allocated_bytes: Int
    freed_bytes: Int
    live: Live
    frees_observable: bool
    reclaimable: bool
    accounted: bool
    dma: bool
    unobserved_frees: Int
    lifetimes: tuple[Int, ...]
    aliases: tuple[Text, ...]
    slabinfo: Slabinfo | None

    @property
    def family(self) -> str:
        """The name that all kinds of a kmalloc cache share (base/names.py)."""
        return cache_family(self.name)

    @property
    def held_bytes(self) -> int:
        """The memory that it holds: of all its slabs or, where slabinfo does not list it, what is
        live of what was allocated since tracking began."""
        return self.slabinfo.slab_bytes if self.slabinfo else self.live.bytes


class Site(NamedTuple):
    """One call site: symbol, offset in bytes, module (None: core kernel).

    Functions of one name are told apart by their order in memory: the second is name#2. `size` is
    that of the function in bytes (0: not known), `component` the built-in driver, file system or
    subsystem that it is of, by its prefix (None: not known, or in a module).
    """

    symbol: Text
    offset: Int
    module: Text | None
    allocs: Int
    failed: Int
    requested_bytes: Int
    allocated_bytes: Int
    live: Live
    size: Int = 0
    component: Text | None = None

    @property
    def traced_label(self) -> str:
        """As the kernel prints it in a trace: symbol+0xoffset/0xsize [module], which
        scripts/decode_stacktrace.sh and scripts/faddr2line turn into a line of source."""
        symbol = kernel_name(self.symbol)
        size = f"/{self.size:#x}" if self.size else ""
        module = f" [{self.module}]" if self.module else ""
        return f"{symbol}+{self.offset:#x}{size}{module}"

    @property
    def label(self) -> str:
        """Symbol and offset as the kernel prints them: symbol+0xoffset."""
        return f"{self.symbol}+{self.offset:#x}"

    @property
    def full_label(self) -> str:
        """The label, and the module in brackets."""
        return f"{self.label} [{self.module}]" if self.module else self.label

    @property
    def owner(self) -> tuple[bool, str]:
        """Whether it is built in, and the name of its module or component."""
        return self.module is None, self.module or self.component or CORE_KERNEL


@dataclass(frozen=True)
class Release:
    """Managed resources of one release function."""

    name: Text
    resources: Int
    bytes: Int


@dataclass(frozen=True)
class Device:
    """One device's managed (devres) resources.

    `bus` is the subsystem as in sysfs: the bus, else the class, else "". `managed_bytes` is the sum
    of the devres sizes, without headers; `slab_bytes` is the size of the slab objects that hold
    them (None: not known), `slab_by_cache` the same by cache.
    """

    bus: Text
    name: Text
    driver: Text | None
    module: Text | None
    resources: Int
    managed_bytes: Int
    slab_bytes: Int | None
    added: Int
    removed: Int
    by_release: tuple[Release, ...]
    slab_by_cache: Mapping[Text, Int] = field(default_factory=dict)

    @property
    def owner(self) -> tuple[bool, str]:
        """Whether its driver is built in, and the name of the module, else of the driver."""
        return self.module is None, self.module or self.driver or NO_DRIVER


@dataclass(frozen=True)
class GfpClass:
    """Allocations with one class of GFP flags."""

    name: Text
    allocs: Int
    allocated_bytes: Int
    failed: Int


@dataclass(frozen=True)
class GfpModifier:
    """Allocations whose callers asked with one modifier (base/gfp.py). Those with several count in
    each of their rows, so that rows do not add up to the total."""

    name: Text
    allocs: Int
    allocated_bytes: Int
    failed: Int


@dataclass(frozen=True)
class SizeBucket:
    """kmalloc requests of at most `le` bytes and more than the previous bucket's `le`.

    `requested_bytes` is their sum (None: in recordings of format 1).
    """

    le: Int
    allocs: Int
    requested_bytes: Int | None = None


@dataclass(frozen=True)
class NodeUse:
    """Allocations that preferred one NUMA node: the node requested, else that of the CPU. Fallback
    to another node is not observable."""

    node: Int
    allocs: Int
    allocated_bytes: Int


@dataclass(frozen=True)
class PageOrder:
    """Page allocator calls of one order and GFP class (None: frees, which have no class)."""

    order: Int
    gfp_class: Text | None
    allocs: Int
    frees: Int
    failed: Int


@dataclass(frozen=True)
class ProgramCost:
    """BPF statistics of one program; they count only while statistics are enabled."""

    name: Text
    run_seconds: Real
    runs: Int


@dataclass(frozen=True)
class Tracked:
    """The tracked objects, as columns of shape (objects,).

    `cache` and `site` are row numbers in Snapshot.caches and Snapshot.sites. `bytes` is the size of
    an object in its cache, `requested` the size asked for. `interval` is the mean sampling interval
    in bytes when it was allocated (0: every allocation was tracked). `born_ns` and `now_ns` are
    CLOCK_MONOTONIC, so that ages leave out the time for which the host was suspended. `stack` is a
    key of `stacks` (negative: none), whose frames are ordered outermost last. `stacks` and
    `cgroups` (paths by id) are empty unless requested. `gfp_class` names the class of each value of
    `gfp`, `gfp_modifiers` its modifiers (in recordings before format 6 it is empty).
    """

    cache: I64
    site: I64
    bytes: U32
    requested: U32
    interval: U32
    born_ns: U64
    now_ns: Int
    gfp: U64
    tgid: U32
    cgroup: U64
    comm: Bytes
    stack: I32
    stacks: Mapping[Int, tuple[Text, ...]]
    cgroups: Mapping[Int, Text]
    gfp_class: Mapping[Int, Text]
    gfp_modifiers: Mapping[Int, tuple[Text, ...]] = field(default_factory=dict)

    @property
    def age(self) -> F64:
        """Seconds since each object was allocated: (objects,)."""
        return np.maximum(0, self.now_ns - self.born_ns.astype(np.int64)) / 1e9


STACKLESS, OTHER_STACKS = -1, -2


@dataclass(frozen=True)
class Stacked:
    """Bytes allocated since tracking began, freed or not, by kernel stack: columns of shape
    (stacks,).

    `bytes` is an unbiased estimate from all objects that were ever tracked, `stderr` its standard
    error. `stack` is a key of Tracked.stacks, STACKLESS for objects whose stack could not be kept,
    or OTHER_STACKS for the sum of small ones. There are no rows unless details were requested.
    """

    stack: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    bytes: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    stderr: I64 = field(default_factory=lambda: np.zeros(0, np.int64))


class Mode(StrEnum):
    """Mode of tracking: a sample of all allocations, or every one that passes a filter."""

    SAMPLED = "sampled"
    EXACT = "exact"


@dataclass(frozen=True)
class Tracking:
    """The tracking session. `since`: Unix time it began; `seconds`: how long it has run, without
    `suspended`, the seconds for which the host was suspended meanwhile (CLOCK_MONOTONIC stands
    still then, CLOCK_BOOTTIME does not); `sample_bytes`: mean bytes between samples (0 in exact
    mode).

    Counters stand still for `asleep` of the `seconds`. Each time tracking wakes, `wakes` grows, and
    only objects allocated from then on are live ones. `reason` is why it woke, or why it is off.
    """

    since: Real
    seconds: Real
    mode: Mode
    sample_bytes: Int
    suspended: Real = 0.0
    activity: Activity = Activity.AWAKE
    asleep: Real = 0.0
    wakes: Int = 0
    reason: Text = ""

    @property
    def counted(self) -> float:
        """Seconds in which allocation events were counted."""
        return self.seconds - self.asleep


# The feature that is there while the daemon observes less to stay within its budget of CPU time.
BUDGET = "budget"


class State(StrEnum):
    """State of a capability on this host."""

    ON = "on"
    DEGRADED = "degraded"
    OFF = "off"


@dataclass(frozen=True)
class FeatureState:
    """The state of one capability, and the reason for it."""

    state: State
    reason: Text = ""


@dataclass(frozen=True)
class Snapshot:
    """All facts about one host at one instant. `census` is the last one taken until then, None if
    there was none; its own `taken` says when. `modifiers` lists the modifiers whose bits are known
    on this host; it is empty in recordings before format 6."""

    host: Host
    tracking: Tracking
    caches: tuple[Cache, ...]
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    gfp: tuple[GfpClass, ...]
    sizes: tuple[SizeBucket, ...]
    nodes: tuple[NodeUse, ...]
    pages: tuple[PageOrder, ...]
    programs: tuple[ProgramCost, ...]
    losses: Mapping[Text, Int]
    features: Mapping[Text, FeatureState]
    tracked: Tracked
    stacked: Stacked = field(default_factory=Stacked)
    census: Census | None = None
    memory: MemoryReading | None = None
    modifiers: tuple[GfpModifier, ...] = ()

    def without_census(self, reason: str) -> Snapshot:
        """Return this snapshot, saying why the last attempt at a census failed."""
        return replace(
            self,
            features={**self.features, CENSUS_FEATURE: FeatureState(State.OFF, printable(reason))},
        )

    @property
    def taken(self) -> float:
        """Unix time at which it was taken: the start of tracking plus the time since, in which the
        host ran or was suspended."""
        return self.tracking.since + self.tracking.seconds + self.tracking.suspended
