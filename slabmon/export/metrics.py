# SPDX-License-Identifier: Apache-2.0
"""The metric catalogue: name, type, help, labels and bound of every metric.

Metrics are defined only here. Scrapes, docs/metrics.md (`python -m slabmon.export.metrics` prints
it) and the dashboards' queries are generated from these tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import nan
from typing import Any, Generic, TypeVar

from slabmon import __version__
from slabmon.analysis.contexts import live_by_context
from slabmon.analysis.page_holders import percpu_sites, unaccounted_pages
from slabmon.base.activity import Activity, Stage
from slabmon.base.workloads import Workload
from slabmon.census.model import Census
from slabmon.export import census_rows
from slabmon.export.census_rows import CGROUP_LABELS, workload_labels
from slabmon.export.leaks import MAX_SUSPECTS, dismissals, exhaustions, suspect_infos, suspects
from slabmon.export.series import (
    BOUNDS,
    MAX_CALLERS,
    MAX_CGROUPS,
    MAX_DMA_DEVICES,
    MAX_INFO,
    MAX_LINES,
    MAX_PAGE_SITES,
    OTHER,
    Labels,
    Row,
)
from slabmon.leaks.finding import Assessment, Strength
from slabmon.memory.ledger import Ledger
from slabmon.model import Snapshot, State
from slabmon.runtime.budget import STEPS
from slabmon.runtime.figures import DaemonFigures

# Characters of the names of merged caches in a label. A cache has up to about 20 names.
_ALIASES = 250
SourceT = TypeVar("SourceT")
_OfSnapshot = Callable[[Snapshot], Iterable[Row]]


@dataclass(frozen=True)
class Daemon:
    """The daemon's own figures when it answers a scrape.

    `figures` are the collector's (None: it has not answered yet, or a recording is replayed). `age`
    and `scrape_seconds` describe the last reading (None: there was none), `up` is whether it was
    taken for this scrape. `census_age` is the seconds since the last census (None: there was none).
    `errors` and `refused` count by reason, `folded` and `moved` by kind of label. `history` is
    whether the last snapshot was recorded (None: no history). `callers` are live bytes by caller,
    `cgroups` by cgroup.
    """

    figures: DaemonFigures | None = None
    up: bool = True
    age: float | None = None
    scrape_seconds: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    authentication_failures: int = 0
    history: bool | None = None
    folded: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, int] = field(default_factory=dict)
    census_age: float | None = None
    callers: Mapping[str, float] = field(default_factory=dict)
    cgroups: Mapping[Workload, float] = field(default_factory=dict)


class Type(StrEnum):
    """Type of a metric family, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[SourceT]):
    """One metric family, computed from a snapshot, an assessment, a census or the daemon's own
    figures.

    `name` is without the suffixes of its type. `bound` is a key of series.KINDS, or "" if the
    number of label sets is small by nature. Values that are not `additive` are left out of OTHER.
    `rows` of a histogram count what is in each bucket, not cumulated, by a single label `le`;
    `total` is then the sum of all observed values (NaN: not known).
    """

    name: str
    kind: Type
    help: str
    labels: tuple[str, ...]
    rows: Callable[[SourceT], Iterable[Row]]
    bound: str = ""
    unit: str = ""
    additive: bool = True
    total: Callable[[SourceT], float] = lambda _: nan

    @property
    def exposed(self) -> str:
        """The name of its samples in a scrape; of a histogram, that of its buckets."""
        return self.name + _SUFFIXES[self.kind]


_SUFFIXES = {Type.COUNTER: "_total", Type.GAUGE: "", Type.HISTOGRAM: "_bucket"}


def _caches(attribute: str) -> _OfSnapshot:
    return lambda s: (((c.name,), getattr(c, attribute)) for c in s.caches)


def _live(attribute: str) -> _OfSnapshot:
    return _awake(lambda s: (((c.name,), getattr(c.live, attribute)) for c in s.caches))


def _stages(snapshot: Snapshot) -> Iterable[Row]:
    tracking = snapshot.tracking
    awake = tracking.activity == Activity.AWAKE
    return (((stage,), float(awake and tracking.stage == stage)) for stage in Stage)


def _lines(ledger: Ledger, attribute: str) -> Iterable[Row]:
    """Return the lines of the kernel's source that hold most, and the sum of the others."""
    sums: dict[Labels, float] = {}
    for i, tag in enumerate(ledger.allocinfo or ()):
        labels = (f"{tag.file}:{tag.line}", tag.function, tag.module or "")
        if i >= MAX_LINES or tag.line == 0:
            labels = (OTHER, OTHER, OTHER)
        sums[labels] = sums.get(labels, 0.0) + getattr(tag, attribute)
    return sums.items()


def _awake(rows: _OfSnapshot) -> _OfSnapshot:
    """Return no rows while tracking is asleep: what is live then is not known."""
    return lambda s: rows(s) if s.tracking.activity == Activity.AWAKE else ()


def _slabinfo(attribute: str) -> _OfSnapshot:
    return lambda s: (((c.name,), getattr(c.slabinfo, attribute)) for c in s.caches if c.slabinfo)


def _cache_info(snapshot: Snapshot) -> Iterable[Row]:
    rows = [c for c in snapshot.caches if c.aliases or c.family.startswith("kmalloc-")]
    rows.sort(key=lambda c: -max(c.allocated_bytes, c.slabinfo.slab_bytes if c.slabinfo else 0))
    return (((c.name, alias_label(c.aliases), c.family), 1) for c in rows[:MAX_INFO])


def _sites(get: Callable[..., float]) -> _OfSnapshot:
    return lambda s: (((site.label, site.module or ""), get(site)) for site in s.sites)


def _page_sites(snapshot: Snapshot) -> Iterable[Row]:
    for rows in (unaccounted_pages(snapshot), percpu_sites(snapshot)):
        sums: dict[tuple[str, ...], int] = {}
        for i, row in enumerate(rows):
            place = (row.label, row.module or "", row.by)
            labels = (row.kind.value, *(place if i < MAX_PAGE_SITES else (OTHER,) * 3))
            sums[labels] = sums.get(labels, 0) + row.live.bytes
        yield from sums.items()


def _devices(get: Callable[..., float | None]) -> _OfSnapshot:
    def rows(snapshot: Snapshot) -> Iterable[Row]:
        for device in snapshot.devices:
            value = get(device)
            if value is not None:
                yield (device.bus, device.name, device.driver or ""), value

    return rows


def _dma(snapshot: Snapshot) -> Iterable[Row]:
    """Return the devices with most DMA memory, and the sum of the others."""
    devices = [d for d in snapshot.devices if d.dma_bytes is not None and d.dma_allocs]
    devices.sort(key=lambda d: -(d.dma_bytes or 0))
    sums: dict[Labels, float] = {}
    for i, d in enumerate(devices):
        labels = (d.bus, d.name, d.driver or "") if i < MAX_DMA_DEVICES else (OTHER,) * 3
        sums[labels] = sums.get(labels, 0.0) + (d.dma_bytes or 0)
    return sums.items()


def _counter(
    name: str,
    help_: str,
    labels: tuple[str, ...],
    rows: Callable[[SourceT], Iterable[Row]],
    *,
    bound: str = "",
    unit: str = "",
) -> Metric[SourceT]:
    return Metric(
        name=f"slabmon_{name}",
        kind=Type.COUNTER,
        help=help_,
        labels=labels,
        rows=rows,
        bound=bound,
        unit=unit,
    )


def _gauge(
    name: str,
    help_: str,
    labels: tuple[str, ...],
    rows: Callable[[SourceT], Iterable[Row]],
    *,
    bound: str = "",
    unit: str = "",
    additive: bool = True,
) -> Metric[SourceT]:
    return Metric(
        name=f"slabmon_{name}",
        kind=Type.GAUGE,
        help=help_,
        labels=labels,
        rows=rows,
        bound=bound,
        unit=unit,
        additive=additive,
    )


def _figure(get: Callable[[DaemonFigures], float]) -> Callable[[Daemon], Iterable[Row]]:
    return lambda d: [((), get(d.figures))] if d.figures else []


def _by_part(
    get: Callable[[DaemonFigures], Mapping[str, float]],
) -> Callable[[Daemon], Iterable[Row]]:
    return lambda d: [((part,), v) for part, v in get(d.figures).items()] if d.figures else []


def _cost(figures: DaemonFigures) -> Mapping[str, float]:
    cost = figures.budget.cost
    if cost is None:
        return {}
    parts = {"collector": cost.collector, "web": cost.web}
    return parts if cost.bpf is None else parts | {"bpf": cost.bpf}


def _callers(daemon: Daemon) -> Iterable[Row]:
    rows = sorted(daemon.callers.items(), key=lambda row: (-row[1], row[0]))
    for label, size in rows[:MAX_CALLERS]:
        function, _, module = label.partition(" [")
        yield (function, module.rstrip("]")), size
    if rows[MAX_CALLERS:]:
        yield (OTHER, OTHER), sum(size for _, size in rows[MAX_CALLERS:])


def _cgroups(daemon: Daemon) -> Iterable[Row]:
    rows = sorted(daemon.cgroups.items(), key=lambda row: (-row[1], row[0]))
    for workload, size in rows[:MAX_CGROUPS]:
        yield workload_labels(workload), size
    if rows[MAX_CGROUPS:]:
        yield (OTHER,) * len(CGROUP_LABELS), sum(size for _, size in rows[MAX_CGROUPS:])


def _requested(snapshot: Snapshot) -> float:
    """Bytes requested from kmalloc; NaN in recordings from before they were counted."""
    return sum(
        nan if row.requested_bytes is None else row.requested_bytes for row in snapshot.sizes
    )


def alias_label(aliases: Sequence[str]) -> str:
    """Return names as the value of a label: whole ones of at most _ALIASES characters together, and
    "..." for others."""
    text = ",".join(aliases)
    if len(text) <= _ALIASES:
        return text
    return text[: _ALIASES + 1].rpartition(",")[0] + ",..."


def _optional(value: float | None) -> list[Row]:
    return [] if value is None else [((), value)]


_CACHE, _SITE, _DEVICE = ("cache",), ("site", "module"), ("bus", "device", "driver")

CATALOGUE: tuple[Metric[Snapshot], ...] = (
    _gauge(
        "build_info",
        "Version of slabmon, kernel release and machine type; always 1.",
        ("version", "release", "machine"),
        lambda s: [((__version__, s.host.release, s.host.machine), 1)],
    ),
    _gauge(
        "tracking_since_seconds",
        "Unix time at which tracking began; all counters start here.",
        (),
        lambda s: [((), s.tracking.since)],
        unit="seconds",
    ),
    _gauge(
        "tracking_state",
        "1 for the present state of tracking: awake; asleep until something grows; or off. While "
        "it is not awake, counters stand still and there are no live figures.",
        ("state",),
        lambda s: (((state,), float(s.tracking.activity == state)) for state in Activity),
    ),
    _gauge(
        "tracking_stage",
        "1 for how closely objects are tracked while tracking is awake: light, one sample a GiB; "
        "sampled; or exact, each object that tracking.exact selects. 0 for all while it is not "
        "awake.",
        ("stage",),
        _stages,
    ),
    _counter(
        "tracking_wakes",
        "How often tracking has woken.",
        (),
        lambda s: [((), s.tracking.wakes)],
    ),
    _counter(
        "tracking_asleep_seconds",
        "Seconds since tracking began in which it was not awake.",
        (),
        lambda s: [((), s.tracking.asleep)],
        unit="seconds",
    ),
    _gauge(
        "sample_bytes",
        "Mean allocated bytes between samples; 0 in exact mode.",
        (),
        lambda s: [((), s.tracking.sample_bytes)],
        unit="bytes",
    ),
    _gauge(
        "cache_info",
        "1 for caches that the kernel merged with others, whose names are the aliases, and for "
        f"kinds of kmalloc, whose family is that of their size; the {MAX_INFO} largest. To sum by "
        "family: sum by (family) (slabmon_cache_slab_bytes * on(cache) group_left(family) "
        "slabmon_cache_info).",
        ("cache", "aliases", "family"),
        _cache_info,
    ),
    _counter(
        "cache_allocations",
        "Objects allocated from this slab cache since tracking began.",
        _CACHE,
        _caches("allocs"),
        bound="cache",
    ),
    _counter(
        "cache_frees",
        "Objects freed to this slab cache since tracking began.",
        _CACHE,
        _caches("frees"),
        bound="cache",
    ),
    _counter(
        "cache_requested_bytes",
        "Bytes requested by callers.",
        _CACHE,
        _caches("requested_bytes"),
        bound="cache",
        unit="bytes",
    ),
    _counter(
        "cache_allocated_bytes",
        "Bytes allocated, including the rounding to the object size.",
        _CACHE,
        _caches("allocated_bytes"),
        bound="cache",
        unit="bytes",
    ),
    _counter(
        "cache_freed_bytes",
        "Bytes freed.",
        _CACHE,
        _caches("freed_bytes"),
        bound="cache",
        unit="bytes",
    ),
    _counter(
        "allocation_failures",
        "Allocations that returned NULL.",
        _CACHE,
        _caches("failed"),
        bound="cache",
    ),
    _gauge(
        "cache_live_bytes",
        "Bytes allocated since tracking began and not freed, estimated.",
        _CACHE,
        _live("bytes"),
        bound="cache",
        unit="bytes",
    ),
    _gauge(
        "cache_live_stderr_bytes",
        "Standard error of slabmon_cache_live_bytes.",
        _CACHE,
        _live("stderr_bytes"),
        bound="cache",
        unit="bytes",
    ),
    _gauge(
        "cache_live_objects",
        "Objects allocated since tracking began and not freed, estimated.",
        _CACHE,
        _live("objects"),
        bound="cache",
    ),
    _gauge(
        "cache_frees_observable",
        "0 if some frees of the cache are known to bypass all tracepoints.",
        _CACHE,
        _caches("frees_observable"),
        bound="cache",
        additive=False,
    ),
    _gauge(
        "cache_reclaimable",
        "1 for caches that the kernel shrinks under memory pressure; other caches have no series.",
        _CACHE,
        lambda s: (((c.name,), 1) for c in s.caches if c.reclaimable),
        bound="cache",
        additive=False,
    ),
    _counter(
        "cache_unobserved_frees",
        "Tracked objects that turned out to be freed although no free was observed.",
        _CACHE,
        _caches("unobserved_frees"),
        bound="cache",
    ),
    _gauge(
        "cache_slab_bytes",
        "Memory of all slabs of the cache, from /proc/slabinfo.",
        _CACHE,
        _slabinfo("slab_bytes"),
        bound="cache",
        unit="bytes",
    ),
    _gauge(
        "cache_active_objects",
        "Active objects of the cache, from /proc/slabinfo: an upper "
        "bound, free objects in per-CPU slabs count as active.",
        _CACHE,
        _slabinfo("active_objects"),
        bound="cache",
    ),
    _counter(
        "site_allocations",
        "Allocations made by this call site since tracking began.",
        _SITE,
        _sites(lambda site: site.allocs),
        bound="site",
    ),
    _counter(
        "site_allocated_bytes",
        "Bytes allocated by this call site.",
        _SITE,
        _sites(lambda site: site.allocated_bytes),
        bound="site",
        unit="bytes",
    ),
    _counter(
        "site_allocation_failures",
        "Allocations of this call site that returned NULL.",
        _SITE,
        _sites(lambda site: site.failed),
        bound="site",
    ),
    _gauge(
        "site_live_bytes",
        "Bytes allocated by this call site and not freed, estimated.",
        _SITE,
        _awake(_sites(lambda site: site.live.bytes)),
        bound="site",
        unit="bytes",
    ),
    _gauge(
        "context_live_bytes",
        "Bytes allocated and not freed, estimated, by what allocated them: a task, a softirq, an "
        "interrupt (irq) or nmi; unknown where the kernel cannot tell.",
        ("context",),
        _awake(lambda s: (((name,), live.bytes) for name, live in live_by_context(s).items())),
        unit="bytes",
    ),
    _gauge(
        "device_managed_resources",
        "Managed resources (devres) held by the device.",
        _DEVICE,
        _devices(lambda d: d.resources),
        bound="device",
    ),
    _gauge(
        "device_managed_bytes",
        "Sum of the sizes of its managed resources.",
        _DEVICE,
        _devices(lambda d: d.managed_bytes),
        bound="device",
        unit="bytes",
    ),
    _gauge(
        "device_slab_bytes",
        "Size of the slab objects that hold its managed resources.",
        _DEVICE,
        _devices(lambda d: d.slab_bytes),
        bound="device",
        unit="bytes",
    ),
    _gauge(
        "device_dma_bytes",
        "Bytes that its driver allocated for DMA since tracking began and has not freed. The "
        f"{MAX_DMA_DEVICES} devices with most; those that allocated none have no series.",
        _DEVICE,
        _dma,
        unit="bytes",
    ),
    _counter(
        "device_resources_added",
        "Managed resources added since tracking began.",
        _DEVICE,
        _devices(lambda d: d.added),
        bound="device",
    ),
    _counter(
        "device_resources_removed",
        "Managed resources removed since tracking began.",
        _DEVICE,
        _devices(lambda d: d.removed),
        bound="device",
    ),
    _counter(
        "gfp_allocations",
        "Allocations by class of GFP flags.",
        ("class",),
        lambda s: (((row.name,), row.allocs) for row in s.gfp),
    ),
    _counter(
        "gfp_allocated_bytes",
        "Bytes allocated by class of GFP flags.",
        ("class",),
        lambda s: (((row.name,), row.allocated_bytes) for row in s.gfp),
        unit="bytes",
    ),
    _counter(
        "gfp_allocation_failures",
        "Allocations that returned NULL by class of GFP flags.",
        ("class",),
        lambda s: (((row.name,), row.failed) for row in s.gfp),
    ),
    _counter(
        "gfp_modifier_allocations",
        "Allocations by GFP modifier; one may have several, so that the sum is not the total.",
        ("modifier",),
        lambda s: (((row.name,), row.allocs) for row in s.modifiers),
    ),
    _counter(
        "gfp_modifier_allocated_bytes",
        "Bytes allocated by GFP modifier.",
        ("modifier",),
        lambda s: (((row.name,), row.allocated_bytes) for row in s.modifiers),
        unit="bytes",
    ),
    _counter(
        "gfp_modifier_allocation_failures",
        "Allocations that returned NULL by GFP modifier.",
        ("modifier",),
        lambda s: (((row.name,), row.failed) for row in s.modifiers),
    ),
    Metric(
        name="slabmon_request_size_bytes",
        kind=Type.HISTOGRAM,
        help="Sizes of kmalloc requests since tracking began.",
        labels=("le",),
        rows=lambda s: (((str(row.le),), row.allocs) for row in s.sizes),
        unit="bytes",
        total=_requested,
    ),
    _counter(
        "node_allocations",
        "Allocations by preferred NUMA node, on hosts with several.",
        ("node",),
        lambda s: (((str(row.node),), row.allocs) for row in s.nodes),
    ),
    _counter(
        "page_allocations",
        "Page allocator calls by order and GFP class, where enabled.",
        ("order", "class"),
        lambda s: (
            ((str(row.order), row.gfp_class), row.allocs)
            for row in s.pages
            if row.gfp_class is not None
        ),
    ),
    _counter(
        "page_frees",
        "Page allocator frees by order, where enabled.",
        ("order",),
        lambda s: (((str(row.order),), row.frees) for row in s.pages if row.gfp_class is None),
    ),
    _gauge(
        "page_site_live_bytes",
        "Pages of the kernel that slabmon_memory_bytes counts as kernel_pages, and per-CPU memory, "
        "by the call site that allocated them since it is watched. The "
        f"{MAX_PAGE_SITES} largest of each kind; pages, by samples, only while they are watched.",
        ("kind", "site", "module", "by"),
        _page_sites,
        unit="bytes",
    ),
    _counter(
        "lost_events",
        "Events that slabmon knows it missed, by reason.",
        ("reason",),
        lambda s: (((reason,), count) for reason, count in s.losses.items()),
    ),
    _counter(
        "bpf_run_seconds",
        "Time in each BPF program while statistics were enabled: one second in sixty.",
        ("program",),
        lambda s: (((row.name,), row.run_seconds) for row in s.programs),
        unit="seconds",
    ),
    _counter(
        "bpf_runs",
        "Runs of each BPF program while statistics were enabled.",
        ("program",),
        lambda s: (((row.name,), row.runs) for row in s.programs),
    ),
    _gauge(
        "feature_state",
        "1 for the current state of each capability: on, degraded or off.",
        ("feature", "state"),
        lambda s: (
            ((name, state), float(feature.state == state))
            for name, feature in s.features.items()
            for state in State
        ),
    ),
)


DAEMON: tuple[Metric[Daemon], ...] = (
    _gauge(
        "up",
        "1 if the kernel's tables were read for this scrape; 0 if the figures are from an earlier "
        "reading, or missing.",
        (),
        lambda d: [((), d.up)],
    ),
    _gauge(
        "snapshot_age_seconds",
        "Age of the reading that the figures are from.",
        (),
        lambda d: _optional(d.age),
        unit="seconds",
    ),
    _gauge(
        "snapshot_seconds",
        "Duration of the last reading of the kernel's tables.",
        (),
        _figure(lambda f: f.snapshot_seconds),
        unit="seconds",
    ),
    _gauge(
        "scrape_duration_seconds",
        "Time from the request to the collector until the reading arrived.",
        (),
        lambda d: _optional(d.scrape_seconds),
        unit="seconds",
    ),
    _counter(
        "scrape_errors",
        "Requests without a new reading, because the collector did not answer in time or could not "
        "read the tables.",
        ("reason",),
        lambda d: (((reason,), count) for reason, count in d.errors.items()),
    ),
    _gauge(
        "process_resident_bytes",
        "Resident memory of each part of the daemon.",
        ("part",),
        _by_part(
            lambda f: {"collector": f.memory.collector.resident, "web": f.memory.web.resident}
        ),
        unit="bytes",
    ),
    _gauge(
        "process_proportional_bytes",
        "Proportional set size of each part of the daemon: a page shared by n processes counts as "
        "1/n; 0 where the kernel does not report it.",
        ("part",),
        _by_part(
            lambda f: {
                "collector": f.memory.collector.proportional,
                "web": f.memory.web.proportional,
            }
        ),
        unit="bytes",
    ),
    _counter(
        "process_cpu_seconds",
        "CPU time of each part of the daemon.",
        ("part",),
        _by_part(lambda f: {"collector": f.collector_cpu_seconds, "web": f.web_cpu_seconds}),
        unit="seconds",
    ),
    _gauge(
        "cost_cpus",
        "CPUs used by each part, averaged over the last minute; by BPF programs, over the last "
        "window of statistics.",
        ("part",),
        _by_part(_cost),
    ),
    _gauge(
        "budget_cpus",
        "Limit on the CPUs that slabmon uses; 0: none.",
        (),
        _figure(lambda f: f.budget.limit_cpus),
    ),
    _gauge(
        "budget_step_taken",
        "1 while this is switched off to stay within the budget.",
        ("step",),
        _by_part(lambda f: {step.name: step.name in f.budget.steps_taken for step in STEPS}),
    ),
    _gauge(
        "bpf_memory_bytes",
        "Memory of slabmon's BPF maps and programs, as accounted by the kernel.",
        (),
        _figure(lambda f: f.memory.bpf_bytes),
        unit="bytes",
    ),
    _counter(
        "web_restarts",
        "Restarts of the web process after it died.",
        (),
        _figure(lambda f: f.web_restarts),
    ),
    _gauge(
        "web_configuration_failed",
        "1 while the web configuration or a certificate on disk is invalid and the previous one "
        "remains in force.",
        (),
        _figure(lambda f: f.web_configuration_failed),
    ),
    _gauge(
        "caller_live_bytes",
        "Bytes allocated for this caller, the first function on the stack that is no helper such "
        f"as kmemdup or __alloc_skb, and not freed; estimated. The {MAX_CALLERS} largest, at most "
        "15 seconds old.",
        ("caller", "module"),
        _callers,
        unit="bytes",
    ),
    _gauge(
        "cgroup_live_bytes",
        "Bytes allocated by tasks of this cgroup since tracking began and not freed; estimated. "
        "In interrupts no task allocates: [irq], [softirq] and [nmi] stand for these. "
        "With the systemd unit, container, pod and namespace that run there, where that is known. "
        f"The {MAX_CGROUPS} largest, at most 15 seconds old.",
        CGROUP_LABELS,
        _cgroups,
        unit="bytes",
    ),
    _gauge(
        "census_age_seconds",
        "Age of the last census.",
        (),
        lambda d: _optional(d.census_age),
        unit="seconds",
    ),
    _counter(
        "census_cpu_seconds",
        "CPU time of the processes that took censuses.",
        (),
        _figure(lambda f: f.census.cpu_seconds),
        unit="seconds",
    ),
    _counter(
        "census_failures",
        "Censuses that could not be taken, by reason: cpu and memory, more of which they need than "
        "census.cpu_seconds and census.memory_mib allow, timeout, unsupported, other.",
        ("reason",),
        _by_part(lambda f: {str(reason): n for reason, n in f.census.failures.items()}),
    ),
    _counter(
        "escalations",
        "Closer looks at suspected leaks that lacked stacks or certainty: exact tracking of a "
        "cache or call site for a limited time, or a census that looks for orphans.",
        ("kind",),
        _by_part(lambda f: dict(f.escalation.number)),
    ),
    _counter(
        "escalation_failures",
        "Closer looks that failed.",
        (),
        _figure(lambda f: f.escalation.failures),
    ),
    _counter(
        "escalation_cpu_seconds",
        "CPU time of exact tracking in closer looks, with that of its BPF programs.",
        (),
        _figure(lambda f: f.escalation.cpu_seconds),
        unit="seconds",
    ),
    _gauge(
        "escalation_running",
        "1 while a suspect is tracked exactly.",
        (),
        _figure(lambda f: f.escalation.running),
    ),
    _gauge(
        "history_up",
        "1 while snapshots are recorded, 0 while the history cannot be written: the disk is full, "
        "read-only or gone. Absent without history.",
        (),
        lambda d: _optional(d.history),
    ),
    _gauge("http_connections", "Open HTTP connections.", (), lambda d: [((), d.connections)]),
    _counter(
        "http_refused_connections",
        "Connections closed because of a limit: idle ones evicted, new ones refused, or slow "
        "readers.",
        ("reason",),
        lambda d: (((reason,), count) for reason, count in d.refused.items()),
    ),
    _counter(
        "http_authentication_failures",
        "Requests with a wrong user name or password.",
        (),
        lambda d: [((), d.authentication_failures)],
    ),
    _gauge(
        "folded_series",
        f"Label sets summed under `{OTHER}`.",
        ("family",),
        lambda d: (((kind,), count) for kind, count in d.folded.items()),
    ),
    _counter(
        "folded_moves",
        f"Label sets that lost their own series to `{OTHER}`.",
        ("family",),
        lambda d: (((kind,), n) for kind, n in d.moved.items()),
    ),
)


CENSUS: tuple[Metric[Census], ...] = (
    _gauge(
        "census_objects",
        "Objects in use at the last census, allocated before tracking too, by cache, owner (empty: "
        "only the cache is known) and how certain the owner is: exact, likely or unknown.",
        ("cache", "owner", "certainty"),
        lambda c: ((labels, row.objects) for labels, row in census_rows.by_owner(c).items()),
    ),
    _gauge(
        "census_bytes",
        "Bytes that these objects occupy.",
        ("cache", "owner", "certainty"),
        lambda c: ((labels, row.bytes) for labels, row in census_rows.by_owner(c).items()),
        unit="bytes",
    ),
    _gauge(
        "census_cgroup_bytes",
        "Bytes of objects that are charged to a memory cgroup; state is dying for removed cgroups.",
        (*CGROUP_LABELS, "state"),
        lambda c: ((labels, row.bytes) for labels, row in census_rows.by_cgroup(c).items()),
        unit="bytes",
    ),
    _gauge(
        "census_orphan_objects",
        "Objects in use to which nothing in the kernel's memory refers, where the last census "
        "looked for them, by cache and owner (what is known of whose they are).",
        ("cache", "owner"),
        lambda c: ((labels, row.objects) for labels, row in census_rows.by_orphan(c).items()),
    ),
    _gauge(
        "census_orphan_bytes",
        "Bytes that these objects occupy.",
        ("cache", "owner"),
        lambda c: ((labels, row.bytes) for labels, row in census_rows.by_orphan(c).items()),
        unit="bytes",
    ),
    _gauge(
        "census_seconds",
        "Duration of the last census.",
        (),
        lambda c: [((), c.seconds)],
        unit="seconds",
    ),
)


MEMORY: tuple[Metric[Ledger], ...] = (
    _gauge(
        "memory_bytes",
        "All memory of the host by what it is for; with slabmon_memory_unaccounted_bytes the sum "
        "is MemTotal. kind is kernel, user, cache, free or reserved.",
        ("row", "kind"),
        lambda ledger: (((row.name, str(row.kind)), row.bytes) for row in ledger.rows),
        unit="bytes",
    ),
    _gauge(
        "memory_unaccounted_bytes",
        "Memory that is in none of these rows. Before the first census kernel pages that no "
        "counter names (row kernel_pages) are part of it.",
        (),
        lambda ledger: [((), ledger.unaccounted_bytes)],
        unit="bytes",
    ),
    _gauge(
        "memory_uncounted_bytes",
        "Memory that no counter of the kernel names, such as pages of alloc_pages(): MemTotal less "
        "all counters. It needs no census.",
        (),
        lambda ledger: [((), ledger.uncounted_bytes)],
        unit="bytes",
    ),
    _gauge(
        "allocinfo_bytes",
        "Bytes allocated since boot and not freed by each line of the kernel's source, where the "
        f"kernel profiles them (/proc/allocinfo). The {MAX_LINES} that hold most, and other.",
        ("line", "function", "module"),
        lambda ledger: _lines(ledger, "bytes"),
        unit="bytes",
    ),
    _gauge(
        "allocinfo_allocations",
        "Allocations since boot that are not freed, by line of the kernel's source, where the "
        f"kernel profiles them (/proc/allocinfo). The {MAX_LINES} that hold most, and other.",
        ("line", "function", "module"),
        lambda ledger: _lines(ledger, "calls"),
    ),
)


VERDICTS: tuple[Metric[Assessment], ...] = (
    _gauge(
        "leak_suspect_bytes_per_second",
        "Growth of a suspected leak: a call site, cache, driver (module) or device. The "
        f"{MAX_SUSPECTS} fastest.",
        ("kind", "suspect", "module"),
        lambda a: suspects(a, OTHER),
    ),
    _gauge(
        "leak_suspect_info",
        "Who is behind a suspected leak of slabmon_leak_suspect_bytes_per_second: the process and "
        "the cgroup, or container, that allocated most of what survives, and the function that "
        "asked for it; empty: not known.",
        ("kind", "suspect", "module", "process", "cgroup", "caller"),
        suspect_infos,
    ),
    _gauge(
        "leak_suspects",
        "Suspected leaks by strength of the evidence.",
        ("strength",),
        lambda a: [
            ((strength,), sum(f.strength == strength for f in a.verdicts))
            for strength in Strength
            if strength != Strength.EARLY
        ],
    ),
    _gauge(
        "leak_dismissed",
        "Significant growth that is not reported as a leak.",
        (),
        lambda a: [((), len(a.dismissed))],
    ),
    _gauge(
        "leak_dismissed_findings",
        "The same by the reason for the dismissal (docs/verdicts.md).",
        ("reason",),
        dismissals,
    ),
    _gauge(
        "leak_observed_seconds",
        "Time for which growth has been watched.",
        (),
        lambda a: [((), a.observed)],
        unit="seconds",
    ),
    _gauge(
        "leak_verdicts_ready",
        "1 if growth has been watched long enough for a verdict.",
        (),
        lambda a: [((), a.ready)],
    ),
    _gauge(
        "exhaustion_seconds",
        "Time until growth of a cache, or of a total of kernel memory, will have used the memory "
        "that is available, at its pace of the last minutes: an early finding (docs/verdicts.md). "
        f"The {MAX_SUSPECTS} fastest that will within a day.",
        ("kind", "suspect", "module"),
        lambda a: exhaustions(a, lambda _, projection: projection.seconds),
        unit="seconds",
    ),
    _gauge(
        "exhaustion_earliest_seconds",
        "Lower bound of the 95 % interval of slabmon_exhaustion_seconds.",
        ("kind", "suspect", "module"),
        lambda a: exhaustions(a, lambda _, projection: projection.earliest),
        unit="seconds",
    ),
    _gauge(
        "exhaustion_latest_seconds",
        "Upper bound of the 95 % interval of slabmon_exhaustion_seconds.",
        ("kind", "suspect", "module"),
        lambda a: exhaustions(a, lambda _, projection: projection.latest),
        unit="seconds",
    ),
    _gauge(
        "exhaustion_bytes_per_second",
        "Growth that slabmon_exhaustion_seconds projects.",
        ("kind", "suspect", "module"),
        lambda a: exhaustions(a, lambda finding, _: finding.bytes_per_second),
    ),
)


def markdown() -> str:
    """Return docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Generated from `slabmon/export/metrics.py` by `make docs`. Counters start when tracking "
        "begins (`slabmon_tracking_since_seconds`) and never fall while it continues.",
        "",
        BOUNDS,
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    metrics: tuple[Metric[Any], ...] = (*DAEMON, *CATALOGUE, *MEMORY, *CENSUS, *VERDICTS)
    for metric in metrics:
        labels = ", ".join(metric.labels)
        lines.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
