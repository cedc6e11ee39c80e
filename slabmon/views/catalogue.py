# SPDX-License-Identifier: Apache-2.0
"""The standing views: one table for every output (tables, CSV, top, page, report). See view.py."""

from __future__ import annotations

from operator import attrgetter

from slabmon.base.units import BYTES, BYTES_PER_HOUR, COUNT, PER_SECOND, SECONDS
from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.allocinfo import ALLOCINFO
from slabmon.views.census import CENSUS, CONTENTS, OF_CACHE, ORPHANS, OWNERS, RETAINED
from slabmon.views.charged import CHARGED
from slabmon.views.columns import Column, Kind, attribute, dimension, label
from slabmon.views.devices import DEVICES
from slabmon.views.drilldown import group_links
from slabmon.views.families import FAMILIES
from slabmon.views.memory import MEMORY
from slabmon.views.modifiers import GFP_MODIFIERS
from slabmon.views.overview.view import OVERVIEW
from slabmon.views.page_sites import PAGE_SITES
from slabmon.views.verdict_notes import verdicts_note
from slabmon.views.view import Link, View
from slabmon.views.workloads import cgroups_note, workload_columns

_TRENDS = ("growth_bytes_per_hour", "history")
_LIVE = (*c.LIVE, *c.growth("live_bytes"), c.GROWTH_ERROR, *c.AGES)
_DEVICE = c.device_labels("device.")
_SAME_RELEASE = (("release.name", attrgetter("release.name")),)
_SAME_CACHE = (("cache", attrgetter("cache")),)
_SAME_OWNER = (("owner", attrgetter("key")),)

_ALL = (
    OVERVIEW,
    View(
        name="caches",
        title="slab caches, and page-backed kmalloc as kmalloc-large",
        rows=rows.caches,
        key=attrgetter("name"),
        columns=(
            label("name", "Name of the cache; a second cache of one name is name#2."),
            c.aliases("name"),
            label("family", "All kinds of one kmalloc size, such as kmalloc-64 of kmalloc-cg-64."),
            attribute(
                "object_size", unit=BYTES, kind=Kind.LABEL, help="Size of one object.", title="size"
            ),
            c.HELD,
            c.ALLOCS,
            c.FREES,
            c.FAILED,
            c.REQUESTED,
            c.ALLOCATED,
            c.FREED,
            *c.LIVE,
            attribute(
                "frees_observable",
                kind=Kind.FLAG,
                help=c.OBSERVABLE.help,
                title="frees seen",
            ),
            attribute(
                "reclaimable",
                kind=Kind.FLAG,
                help="Whether the kernel can shrink it under pressure.",
            ),
            attribute(
                "active_objects",
                unit=COUNT,
                kind=Kind.GAUGE,
                help="Objects in use by /proc/slabinfo, earlier ones included; an upper bound.",
                path="slabinfo?active_objects",
                title="active",
            ),
            attribute(
                "total_objects",
                unit=COUNT,
                kind=Kind.GAUGE,
                help="Objects that its slabs have room for.",
                path="slabinfo?total_objects",
                title="total",
            ),
            c.ratio("use_ratio", "active_objects", "total_objects", title="use"),
            attribute(
                "slab_bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Memory of all its slabs (/proc/slabinfo).",
                path="slabinfo?slab_bytes",
                title="slabs",
            ),
            c.ALLOC_RATE,
            c.FREE_RATE,
            c.FAIL_RATE,
            c.BYTE_RATE,
            *c.WASTE,
            *c.growth("live_bytes"),
            c.GROWTH_ERROR,
            *c.AGES,
        ),
        brief=(
            "name",
            "aliases",
            "held_bytes",
            "live_bytes",
            "live_high_bytes",
            *_TRENDS,
            "allocs_per_second",
            "frees_per_second",
            "allocated_bytes",
            "waste_ratio",
            "oldest_seconds",
            "age_p90_seconds",
            "failed",
        ),
        sort="held_bytes",
        figure="live.bytes",
        figure_error="live.stderr_bytes",
        links=(*group_links("cache", get=attrgetter("name")), *OF_CACHE),
    ),
    View(
        name="sites",
        title="call sites that allocate",
        rows=rows.sites,
        key=attrgetter("symbol", "offset", "module"),
        columns=(
            label("site", "Function and offset of the call.", path="label"),
            label("module", "Module the call is in; none: core kernel."),
            label("component", "Built-in driver, file system or subsystem, by its prefix."),
            c.CALLER,
            c.CONTEXT,
            c.SERVED,
            c.ALLOCS,
            c.FAILED,
            c.REQUESTED,
            c.ALLOCATED,
            *c.LIVE,
            c.OBSERVABLE,
            c.ALLOC_RATE,
            c.FAIL_RATE,
            c.BYTE_RATE,
            *c.WASTE,
            *c.growth("live_bytes"),
            c.GROWTH_ERROR,
            *c.AGES,
        ),
        brief=(
            "site",
            "module",
            "caller",
            "live_bytes",
            "live_high_bytes",
            *_TRENDS,
            c.SERVED.name,
            "allocs_per_second",
            "allocated_bytes",
            "waste_ratio",
            "oldest_seconds",
            "age_p90_seconds",
            "failed",
        ),
        sort="live_bytes",
        figure="live.bytes",
        figure_error="live.stderr_bytes",
        links=group_links("site", get=attrgetter("full_label")),
        details=True,
    ),
    DEVICES,
    View(
        name="resources",
        title="managed resources by device and release function",
        rows=rows.resources,
        key=attrgetter("device.bus", "device.name", "release.name"),
        columns=(
            *_DEVICE,
            label("release", "Function that releases the resource.", path="release.name"),
            attribute(
                "resources",
                unit=COUNT,
                kind=Kind.GAUGE,
                help="Managed resources.",
                path="release.resources",
            ),
            attribute(
                "bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Sum of their sizes.",
                path="release.bytes",
            ),
        ),
        brief=("bus", "name", "driver", "release", "resources", "bytes"),
        sort="bytes",
        links=(Link(title="devices with it", where=_SAME_RELEASE, view="resources"),),
    ),
    View(
        name="holdings",
        title="slab memory behind managed resources by device and cache",
        rows=rows.holdings,
        key=attrgetter("device.bus", "device.name", "cache"),
        columns=(
            *_DEVICE,
            label("cache", "Cache of the slab objects."),
            c.aliases("cache"),
            attribute(
                "bytes", unit=BYTES, kind=Kind.GAUGE, help="Bytes that the slab objects occupy."
            ),
        ),
        brief=("bus", "name", "driver", "cache", "aliases", "bytes"),
        sort="bytes",
        links=(Link(title="devices in it", where=_SAME_CACHE, view="holdings"),),
    ),
    View(
        name="drivers",
        title="modules and built-in drivers: what they allocate and their devices hold",
        rows=rows.drivers,
        key=attrgetter("key"),
        columns=(
            label("name", "Module, or built-in driver, file system or subsystem."),
            attribute(
                "built_in",
                kind=Kind.FLAG,
                help="Built into the kernel: its call sites are those of functions with its "
                "prefix; others are counted under [core kernel].",
                title="built in",
            ),
            label("driver", "Its device drivers."),
            attribute(
                "devices",
                unit=COUNT,
                kind=Kind.GAUGE,
                help="Its devices that hold managed resources or DMA memory.",
            ),
            attribute(
                "resources", unit=COUNT, kind=Kind.GAUGE, help="Managed resources of its devices."
            ),
            attribute(
                "managed_bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Sum of the resources' sizes.",
                title="managed",
            ),
            attribute(
                "slab_bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Bytes that the slab objects behind the resources occupy.",
                title="slab",
            ),
            attribute(
                "dma_bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Bytes allocated for DMA of its devices since tracking began, and not freed.",
                title="DMA",
            ),
            attribute(
                "sites", unit=COUNT, kind=Kind.GAUGE, help="Call sites in it that allocated."
            ),
            c.ALLOCS,
            c.FAILED,
            c.REQUESTED,
            c.ALLOCATED,
            *_LIVE,
            c.OBSERVABLE,
            c.ALLOC_RATE,
            c.FAIL_RATE,
            c.BYTE_RATE,
            *c.WASTE,
        ),
        brief=(
            "name",
            "live_bytes",
            "live_high_bytes",
            "managed_bytes",
            "devices",
            "resources",
            "sites",
            *_TRENDS,
            "dma_bytes",
            "allocs_per_second",
            "allocated_bytes",
            "oldest_seconds",
        ),
        sort="live_bytes",
        figure="live.bytes",
        figure_error="live.stderr_bytes",
        links=(
            Link(title="devices", where=_SAME_OWNER, view="devices"),
            Link(title="sites", where=_SAME_OWNER, view="sites"),
        ),
    ),
    View(
        name="cgroups",
        title="live memory by the cgroup of the task that allocated it",
        rows=rows.grouped(("cgroup",)),
        key=attrgetter("labels"),
        columns=(
            *workload_columns(0),
            dimension(
                0,
                "cgroup",
                help="Path of the cgroup, in the hierarchy of cgroup v1 that charges memory where "
                "there is one; the cgroup that the kernel charges in the place of the task's where "
                "it does (events of inotify: who watches, not who writes). [id] if it was removed "
                "before it was seen; [softirq], [irq] or [nmi] for what interrupts allocated, "
                "whichever cgroup they interrupted.",
            ),
            *_LIVE,
            c.OBSERVABLE,
        ),
        brief=(
            "workload",
            "live_bytes",
            "live_high_bytes",
            "live_objects",
            *_TRENDS,
            "oldest_seconds",
            "age_p90_seconds",
            "cgroup",
        ),
        sort="live_bytes",
        figure="live.bytes",
        figure_error="live.stderr_bytes",
        links=group_links("cgroup"),
        note=cgroups_note,
        details=True,
    ),
    View(
        name="processes",
        title="live memory by the process that allocated it",
        rows=rows.grouped(("process", "pid")),
        key=attrgetter("labels"),
        columns=(
            dimension(
                0,
                "process",
                help="Name of the allocating task; [softirq], [irq] or [nmi] for what interrupts "
                "allocated, whichever task they interrupted.",
            ),
            dimension(1, "pid", help="Its process ID."),
            *_LIVE,
            c.OBSERVABLE,
        ),
        brief=(
            "process",
            "pid",
            "live_bytes",
            "live_high_bytes",
            "live_objects",
            *_TRENDS,
            "oldest_seconds",
            "age_p90_seconds",
        ),
        sort="live_bytes",
        figure="live.bytes",
        figure_error="live.stderr_bytes",
        links=group_links("process", "pid"),
    ),
    View(
        name="gfp",
        title="allocations by class of GFP flags",
        rows=lambda snapshot: snapshot.gfp,
        key=attrgetter("name"),
        columns=(
            label("class", "Class of GFP flags.", path="name"),
            c.ALLOCS,
            c.ALLOCATED,
            c.FAILED,
            c.ALLOC_RATE,
            c.BYTE_RATE,
            c.FAIL_RATE,
        ),
        brief=(
            "class",
            "allocs",
            "allocs_per_second",
            "allocated_bytes",
            "allocated_bytes_per_second",
            "failed",
            "failed_per_second",
        ),
        sort="allocs",
        links=group_links("gfp", get=attrgetter("name")),
    ),
    GFP_MODIFIERS,
    FAMILIES,
    CENSUS,
    OWNERS,
    ORPHANS,
    RETAINED,
    CONTENTS,
    CHARGED,
    MEMORY,
    ALLOCINFO,
    View(
        name="sizes",
        title="kmalloc requests by size",
        rows=lambda snapshot: snapshot.sizes,
        key=attrgetter("le"),
        columns=(
            attribute(
                "le",
                unit=BYTES,
                kind=Kind.LABEL,
                help="Largest request size in the row, a power of two.",
            ),
            c.ALLOCS,
            c.ALLOC_RATE,
        ),
        brief=("le", "allocs", "allocs_per_second"),
    ),
    View(
        name="nodes",
        title="allocations by preferred NUMA node",
        rows=lambda snapshot: snapshot.nodes,
        key=attrgetter("node"),
        columns=(
            attribute(
                "node",
                kind=Kind.LABEL,
                help="The requested node, or the CPU's node if none was requested.",
            ),
            c.ALLOCS,
            c.ALLOCATED,
            c.ALLOC_RATE,
            c.BYTE_RATE,
        ),
        brief=(
            "node",
            "allocs",
            "allocs_per_second",
            "allocated_bytes",
            "allocated_bytes_per_second",
        ),
    ),
    View(
        name="pages",
        title="page allocator by order",
        rows=lambda snapshot: snapshot.pages,
        key=attrgetter("order", "gfp_class"),
        columns=(
            attribute("order", kind=Kind.LABEL, help="2^order pages at a time."),
            label("gfp_class", "Class of GFP flags; none for frees."),
            c.ALLOCS,
            c.FREES,
            c.FAILED,
            c.ALLOC_RATE,
            c.FREE_RATE,
        ),
        brief=(
            "order",
            "gfp_class",
            "allocs",
            "frees",
            "failed",
            "allocs_per_second",
            "frees_per_second",
        ),
    ),
    PAGE_SITES,
    View(
        name="losses",
        title="lost events",
        rows=rows.losses,
        key=attrgetter("reason"),
        columns=(
            label("reason", "Why they were lost."),
            attribute(
                "count",
                unit=COUNT,
                kind=Kind.COUNTER,
                help="Events lost since tracking began.",
                path="lost",
            ),
            Column(
                name="count_per_second",
                unit=PER_SECOND,
                kind=Kind.RATE,
                help="Events lost per second of the last interval.",
                get=lambda t: t.rate("lost"),
                title="count/s",
            ),
        ),
        brief=("reason", "count", "count_per_second"),
    ),
    View(
        name="programs",
        title="slabmon's own BPF programs, while BPF statistics are enabled",
        rows=lambda snapshot: snapshot.programs,
        key=attrgetter("name"),
        columns=(
            label("program", "Name of the program.", path="name"),
            attribute("runs", unit=COUNT, kind=Kind.COUNTER, help="Timed runs."),
            attribute(
                "run_seconds", unit=SECONDS, kind=Kind.COUNTER, help="Total time of the timed runs."
            ),
            Column(
                name="seconds_per_run",
                unit=SECONDS,
                kind=Kind.RATIO,
                help="Mean time of a run.",
                get=lambda t: t.quotient(t.now("run_seconds"), t.now("runs"), 10),
                title="time/run",
            ),
        ),
        brief=("program", "runs", "run_seconds", "seconds_per_run"),
        sort="run_seconds",
    ),
    View(
        name="features",
        title="capabilities on this host",
        rows=rows.features,
        key=attrgetter("name"),
        columns=(
            label("feature", "Capability.", path="name"),
            label("state", "on, degraded or off.", path="feature.state"),
            label("reason", "Why it is off or degraded.", path="feature.reason"),
        ),
        brief=("feature", "state", "reason"),
    ),
    View(
        name="verdicts",
        title="what exhausts memory, suspected leaks (after 20 minutes of tracking), and growth "
        "dismissed as harmless",
        rows=rows.verdicts,
        key=attrgetter("kind", "key", "early"),
        columns=(
            label(
                "suspect",
                "The growing call site, caller, cache, family of caches, driver (module), device, "
                "cgroup or total of memory.",
                path="name",
            ),
            label(
                "kind",
                "site, caller, driver, cache, family, cgroup, device, or memory (a total).",
            ),
            label(
                "verdict",
                "possible, likely or strong: a leak, by the evidence so far; early: not known to "
                "be a leak, but it will exhaust memory within a day; none: dismissed.",
            ),
            attribute(
                "exhaustion_seconds",
                unit=SECONDS,
                kind=Kind.RATIO,
                help="Projected time until it has used all available memory, where that is soon.",
                path="exhaustion_seconds",
                title="exhausts in",
            ),
            attribute(
                "growth_bytes_per_hour",
                unit=BYTES_PER_HOUR,
                kind=Kind.RATE,
                help="Growth per hour, over the window.",
                path="growth",
                title="growth/h",
            ),
            attribute(
                "low_bytes_per_hour",
                unit=BYTES_PER_HOUR,
                kind=Kind.RATE,
                help="Lower bound of its 95 % confidence interval.",
                path="low",
                title="at least",
            ),
            attribute(
                "high_bytes_per_hour",
                unit=BYTES_PER_HOUR,
                kind=Kind.RATE,
                help="Upper bound of its 95 % confidence interval.",
                path="high",
                title="at most",
            ),
            attribute(
                "live_bytes",
                unit=BYTES,
                kind=Kind.GAUGE,
                help="Bytes that it holds.",
                path="live",
                title="live",
            ),
            attribute(
                "window_seconds",
                unit=SECONDS,
                kind=Kind.RATIO,
                help="Time over which it grew.",
                path="window",
                title="window",
            ),
            label("behind", "Module, drivers and devices behind it."),
            label(
                "callers",
                "Functions that asked for most of it, with their shares: the first ones on the "
                "stacks that are no helpers.",
                path="caller_text",
            ),
            label(
                "processes",
                "Processes that allocated most of what survives, with their shares; (gone): it "
                "does not run any more.",
                path="process_text",
            ),
            label(
                "cgroups",
                "Containers, else cgroups, that allocated most of what survives, with their "
                "shares.",
                path="cgroup_text",
            ),
            label("stack", "Stack of most survivors, outermost first.", path="stack_text"),
            label("parts", "Suspects that grow in lockstep with it.", path="part_text"),
            label("reproduce", "Command that shows each such allocation from now on."),
            label("dismissal", "Code of the reason for its dismissal; empty if not dismissed."),
            label("reason", "Why it was dismissed, or the evidence for and against a leak."),
        ),
        brief=(
            "suspect",
            "verdict",
            "exhaustion_seconds",
            "growth_bytes_per_hour",
            "live_bytes",
            "processes",
            "callers",
            "behind",
            "window_seconds",
            "kind",
            "parts",
            "reason",
        ),
        note=verdicts_note,
        judged=True,
    ),
)
VIEWS = {view.name: view for view in _ALL}
