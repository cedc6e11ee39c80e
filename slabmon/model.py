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
from functools import cached_property
from typing import NamedTuple

import numpy as np

from slabmon.base.activity import Activity, Stage
from slabmon.base.arrays import F64, I32, I64, U8, U32, U64, Bool, Bytes
from slabmon.base.escape import printable
from slabmon.base.fields import Host, Int, Real, Text
from slabmon.base.names import cache_family, kernel_name
from slabmon.base.workloads import Workload, WorkloadNames, named
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
    def occupied_bytes(self) -> float:
        """The memory that an object of it occupies, with slub_debug several times its size; of
        caches that hold objects of many sizes the mean of those allocated."""
        if self.slabinfo:
            return self.slabinfo.object_size
        return self.allocated_bytes / self.allocs if self.allocs else self.object_size

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
    """One device's managed (devres) resources, and its memory for DMA.

    `bus` is the subsystem as in sysfs: the bus, else the class, else "". `managed_bytes` is the sum
    of the devres sizes, without headers; `slab_bytes` is the size of the slab objects that hold
    them (None: not known), `slab_by_cache` the same by cache.

    `dma_bytes` is what the driver allocated by dma_alloc_coherent() and its like since tracking
    began and has not freed, in the sizes that it asked for (None: the kernel does not tell, or in
    recordings before format 15). It is in whole pages, of no slab. Frees of what was allocated
    before are `dma_earlier_*`, and not among `dma_frees`.
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
    dma_bytes: Int | None = None
    dma_allocs: Int = 0
    dma_frees: Int = 0
    dma_failed: Int = 0
    dma_allocated_bytes: Int = 0
    dma_earlier_frees: Int = 0
    dma_earlier_bytes: Int = 0

    @property
    def held_bytes(self) -> int:
        """Managed and DMA memory together; they share none."""
        return self.managed_bytes + (self.dma_bytes or 0)

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


class BlockKind(StrEnum):
    """What a call site got: pages, or per-CPU memory."""

    PAGES = "pages"
    PERCPU = "percpu"


class PageSite(NamedTuple):
    """Pages or per-CPU memory by call site: the first function that is no allocator.

    `by` is the allocator's function that it called, such as __get_free_pages ("": not known).
    `account` is the row of the ledger of all memory that counts the pages too: slab, vmalloc,
    percpu, page_tables (None: none does, they are `kernel_pages`). Pages are estimated from samples
    since they were first watched, unless `exact`; per-CPU memory is exact. Its bytes are those of
    all possible CPUs. `sizes` are live bytes by the size of a block, on one CPU. `stack` is the one
    with most live memory, from the call site outward.
    """

    kind: BlockKind
    symbol: Text
    offset: Int
    module: Text | None
    by: Text
    account: Text | None
    exact: bool
    allocs: Int
    frees: Int
    failed: Int
    allocated_bytes: Int
    freed_bytes: Int
    live: Live
    sizes: Mapping[Int, Int]
    stack: tuple[Text, ...] = ()
    size: Int = 0
    component: Text | None = None

    @property
    def label(self) -> str:
        """Symbol and offset as the kernel prints them: symbol+0xoffset."""
        return f"{self.symbol}+{self.offset:#x}"

    @property
    def full_label(self) -> str:
        """The label, and the module in brackets."""
        return f"{self.label} [{self.module}]" if self.module else self.label


@dataclass(frozen=True)
class ProgramCost:
    """BPF statistics of one program; they count only while statistics are enabled."""

    name: Text
    run_seconds: Real
    runs: Int


class Context(StrEnum):
    """What a CPU was doing when it allocated an object, in the order of their numbers."""

    UNKNOWN = "unknown"
    TASK = "task"
    SOFTIRQ = "softirq"
    IRQ = "irq"
    NMI = "nmi"


CONTEXTS = tuple(Context)
NO_CGROUP = (1 << 64) - 1  # is no id of a cgroup
_FIRST_INTERRUPT = CONTEXTS.index(Context.SOFTIRQ)
# What stands for the process and the cgroup of objects that interrupts allocate.
NOBODY = {number: f"[{name}]" for number, name in enumerate(CONTEXTS) if number >= _FIRST_INTERRUPT}


class KnownBy(StrEnum):
    """How the device is known that an object was allocated for.

    PROBE: its driver probed it in the task that allocated; exact. STACK: the kernel stacks of such
    allocations lead to it; likely.
    """

    PROBE = "probe"
    STACK = "stack"


@dataclass(frozen=True, kw_only=True)
class ServedDevice:
    """A device that objects were allocated for. `bus` is the bus, else the class, else ""."""

    bus: Text
    name: Text
    driver: Text | None
    module: Text | None
    known_by: KnownBy

    @property
    def label(self) -> str:
        """Bus and name."""
        return f"{self.bus} {self.name}"


@dataclass(frozen=True)
class Tracked:
    """The tracked objects, as columns of shape (objects,).

    `cache` and `site` are row numbers in Snapshot.caches and Snapshot.sites. `bytes` is the size of
    an object in its cache, `requested` the size asked for. `interval` is the mean sampling interval
    in bytes when it was allocated (0: every allocation was tracked). `born_ns` and `now_ns` are
    CLOCK_MONOTONIC, so that ages leave out the time for which the host was suspended. `stack` is a
    key of `stacks` (negative: none), whose frames are ordered outermost last. `stacks` and
    `cgroups` (paths by id) are empty unless requested. `gfp_class` names the class of each value of
    `gfp`, `gfp_modifiers` its modifiers (in recordings before format 6 it is empty). `context`
    indexes CONTEXTS (in recordings before format 13 it is 0). Interrupts allocate for anybody:
    `tgid`, `cgroup` and `comm` are then those of the task that was interrupted. `device` is a key
    of `devices`, 0 where no device is known (in recordings before format 14 it is 0).
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
    context: U8 = field(default_factory=lambda: np.zeros(0, np.uint8))
    device: U32 = field(default_factory=lambda: np.zeros(0, np.uint32))
    devices: Mapping[Int, ServedDevice] = field(default_factory=dict)

    @property
    def by_interrupt(self) -> Bool:
        """Whether an interrupt allocated each object: (objects,)."""
        return self.context >= _FIRST_INTERRUPT

    @property
    def process(self) -> Bytes:
        """The name of the task that allocated each object, or NOBODY: (objects,)."""
        names = self.comm.copy()
        for number, name in NOBODY.items():
            names[self.context == number] = name.encode()
        return names

    @property
    def own_cgroup(self) -> U64:
        """The cgroup of the task that allocated each object, NO_CGROUP if none did: (objects,)."""
        return np.where(self.by_interrupt, np.uint64(NO_CGROUP), self.cgroup)

    @property
    def age(self) -> F64:
        """Seconds since each object was allocated: (objects,)."""
        return np.maximum(0, self.now_ns - self.born_ns.astype(np.int64)) / 1e9


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that allocated tracked objects: when the one that has its number now started
    (CLOCK_MONOTONIC; None: none runs), and how many descriptors it has open (None: not known)."""

    tgid: Int
    started_ns: Int | None = None
    descriptors: Int | None = None


@dataclass(frozen=True, kw_only=True)
class SurvivingStack:
    """Objects of one call site and stack, innermost frame first, that outlived an examination, and
    the process and cgroup that allocated most of them."""

    site: Text
    frames: tuple[Text, ...]
    process: Text
    cgroup: Text
    objects: Int
    bytes: Int


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Exact tracking of one suspect, which lacked stacks or certainty, for a limited time.

    `kind` is that of the suspect, cache or site, `name` its name in the views. Of `allocs`
    allocations within `seconds` until `taken` (Unix time), `survivors` were still allocated at the
    end and older than `age` seconds; `verified`: the slabs were read to see that they were, however
    they are freed. `stacks` are those of most survivors, the largest first.
    """

    kind: Text
    name: Text
    taken: Real
    seconds: Real
    allocs: Int
    age: Real
    survivors: Int
    survivor_bytes: Int
    verified: bool
    stacks: tuple[SurvivingStack, ...]


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
    `stage` is how closely objects are tracked while it is awake, `suspect` what each object of is
    tracked in stage exact (a cache or a cgroup).
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
    stage: Stage = Stage.SAMPLED
    suspect: Text = ""

    @property
    def counted(self) -> float:
        """Seconds in which allocation events were counted."""
        return self.seconds - self.asleep


# The feature that is there while the daemon observes less to stay within its budget of CPU time.
BUDGET = "budget"
# The feature that says what wakes tracking that sleeps, and what cannot be seen of that.
WAKING = "waking"


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
    on this host; it is empty in recordings before format 6. `workloads` are names of the containers
    and pods that run in `tracked.cgroups`, by their ids.

    `processes` are those of the tracked objects that hold most, as far as that is known (None: it
    is not); `oom_kills` how many processes the kernel has killed for lack of memory, by the path of
    each cgroup of tracked objects, and of those above it, that has had any. `examinations` are the
    last ones, the newest last."""

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
    workloads: Mapping[Text, WorkloadNames] = field(default_factory=dict)
    processes: tuple[Process, ...] | None = None
    oom_kills: Mapping[Text, Int] = field(default_factory=dict)
    examinations: tuple[Examination, ...] = ()
    page_sites: tuple[PageSite, ...] = ()

    def workload(self, cgroup: str) -> Workload:
        """Return what runs in the cgroup of this path, as far as it is known."""
        workload = self._workloads.get(cgroup)
        if workload is None:
            workload = self._workloads[cgroup] = named(cgroup, self._workload_names)
        return workload

    @cached_property
    def _workloads(self) -> dict[str, Workload]:
        return {}

    @cached_property
    def _workload_names(self) -> Mapping[str, WorkloadNames]:
        return {**(self.census.workloads if self.census else {}), **self.workloads}

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
