# SPDX-License-Identifier: Apache-2.0
"""Snapshot: what was true of one host at one instant.

Raw facts only. Rates, rankings and verdicts are computed from two or more snapshots by the pure
functions of slabmon.analysis. Counters (`allocs`, `frees`, `*_bytes` that are not live) count
since tracking began and are exact up to `losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from slabmon.base.escape import HARMLESS

LARGE_CACHE = "kmalloc-large"
UNRESOLVED_CACHE = "[unresolved]"
CORE_KERNEL = "[core kernel]"
NO_DRIVER = "[no driver]"

# What a field may hold. Nothing checks it when a Snapshot is made here; slabmon.store.codec checks
# all of it when one comes from a file or over a connection.
Int = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  # whatever numpy can count in
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]  # neither infinite nor NaN
Text = Annotated[str, Meta(pattern=HARMLESS, max_length=1 << 16)]


class Live(NamedTuple):
    """Objects allocated since tracking began and not yet freed, estimated from samples.

    `stderr_bytes` is one standard error; `low_bytes` and `high_bytes` bound a 95 % confidence
    interval (analysis/sampling.py). In exact mode the error is 0 and the bounds are the value.
    """

    objects: Int = 0
    bytes: Int = 0
    stderr_bytes: Int = 0
    low_bytes: Int = 0
    high_bytes: Int = 0


@dataclass(frozen=True)
class Slabinfo:
    """One row of /proc/slabinfo. Objects in per-CPU slabs and sheaves count as active, so
    `active_objects` is an upper bound. `slab_bytes` is the memory of all its slabs."""

    active_objects: Int
    total_objects: Int
    object_size: Int
    slab_bytes: Int


@dataclass(frozen=True)
class Cache:
    """One kmem_cache, or page-backed kmalloc as `kmalloc-large`. Sizes in bytes.

    `lifetimes` counts freed tracked objects by decade: below 10 us, below 100 us, ..., above
    10,000 s. `unobserved_frees` counts tracked addresses that were allocated again although no
    free was seen: the evidence behind `frees_observable`.
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


class Site(NamedTuple):
    """One call site: symbol, bytes into it, module (None: core kernel)."""

    symbol: Text
    offset: Int
    module: Text | None
    allocs: Int
    failed: Int
    requested_bytes: Int
    allocated_bytes: Int
    live: Live

    @property
    def label(self) -> str:
        """symbol+0xoffset, as the kernel prints it."""
        return f"{self.symbol}+{self.offset:#x}"

    @property
    def full_label(self) -> str:
        """The label and, in brackets, the module."""
        return f"{self.label} [{self.module}]" if self.module else self.label

    @property
    def owner(self) -> tuple[bool, str]:
        """Whether it is built in, and its module."""
        return self.module is None, self.module or CORE_KERNEL


@dataclass(frozen=True)
class Release:
    """Managed resources of one release function."""

    name: Text
    resources: Int
    bytes: Int


@dataclass(frozen=True)
class Device:
    """One device's managed (devres) resources.

    `bus` is the subsystem as in sysfs: the bus, else the class, else "". `managed_bytes` sums
    devres sizes, without headers; `slab_bytes` what the slab objects behind them occupy (None:
    not known), by cache in `slab_by_cache`.
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
        """Whether its driver is built in, and the driver's module, else the driver."""
        return self.module is None, self.module or self.driver or NO_DRIVER


@dataclass(frozen=True)
class GfpClass:
    """Allocations by class of GFP flags."""

    name: Text
    allocs: Int
    allocated_bytes: Int
    failed: Int


@dataclass(frozen=True)
class SizeBucket:
    """kmalloc requests of at most `le` bytes, and more than the bucket before."""

    le: Int
    allocs: Int


@dataclass(frozen=True)
class NodeUse:
    """Allocations that preferred one NUMA node: the node asked for, else the CPU's own.
    Falling back to another node cannot be seen."""

    node: Int
    allocs: Int
    allocated_bytes: Int


@dataclass(frozen=True)
class PageOrder:
    """Page allocator use of one order and GFP class (class None on the free side)."""

    order: Int
    gfp_class: Text | None
    allocs: Int
    frees: Int
    failed: Int


@dataclass(frozen=True)
class ProgramCost:
    """BPF statistics of one program, counted only while statistics are enabled."""

    name: Text
    run_seconds: Real
    runs: Int


@dataclass(frozen=True)
class Tracked:
    """The tracked objects themselves, as columns of equal length.

    `cache` and `site` index Snapshot.caches and Snapshot.sites; `bytes` is what each occupies,
    `interval` the mean sampling interval in force (0: tracked with certainty), `born_ns` and
    `now_ns` CLOCK_MONOTONIC, `stack` a key of `stacks` (negative: none). `stacks` are outermost
    last; `stacks` and `cgroups` (paths by id) are empty unless asked for. `gfp_class` names the
    class of each value of `gfp`.
    """

    cache: np.ndarray
    site: np.ndarray
    bytes: np.ndarray
    requested: np.ndarray
    interval: np.ndarray
    born_ns: np.ndarray
    now_ns: Int
    gfp: np.ndarray
    tgid: np.ndarray
    cgroup: np.ndarray
    comm: np.ndarray
    stack: np.ndarray
    stacks: Mapping[Int, tuple[Text, ...]]
    cgroups: Mapping[Int, Text]
    gfp_class: Mapping[Int, Text]

    @property
    def age(self) -> np.ndarray:
        """Seconds since each was allocated."""
        return np.maximum(0, self.now_ns - self.born_ns.astype(np.int64)) / 1e9


STACKLESS, OTHER_STACKS = -1, -2


@dataclass(frozen=True)
class Stacked:
    """What was allocated since tracking began, freed or not, by kernel stack: columns of equal
    length. `bytes` are estimated without bias from all objects that were ever tracked, with one
    standard error `stderr`. `stack` is a key of Tracked.stacks, STACKLESS for those whose stack
    could not be kept, OTHER_STACKS for smaller ones. No rows unless details were asked for.
    """

    stack: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    stderr: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class Host:
    """Which machine, which boot; `memory_bytes` is what the kernel manages of it (0: not known)."""

    release: Text
    machine: Text
    cpus: Int
    boot_id: Text
    memory_bytes: Int = 0


class Mode(StrEnum):
    """Which allocations are tracked one by one: a sample, or all that pass a filter."""

    SAMPLED = "sampled"
    EXACT = "exact"


@dataclass(frozen=True)
class Tracking:
    """The tracking session. `since`: Unix time it began; `seconds`: how long it has run (monotonic
    clock); `sample_bytes`: mean bytes between samples (0 in exact mode)."""

    since: Real
    seconds: Real
    mode: Mode
    sample_bytes: Int


class State(StrEnum):
    """How much of a capability this host offers."""

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
    """Everything known at one instant."""

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

    @property
    def taken(self) -> float:
        """Unix time when it was taken, by the clock of when tracking began."""
        return self.tracking.since + self.tracking.seconds
