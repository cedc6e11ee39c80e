"""The views: one table of rows and columns for every output (tables, CSV, top, page, report)."""

from __future__ import annotations

from operator import attrgetter

from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.columns import BYTES, COUNT, COUNTER, FLAG, GAUGE, Column, attribute, label
from slabmon.views.view import Link, View, dimension, group_links

_TRENDS = ("growth_bytes_per_hour", "history")
_LIVE = (*c.LIVE, *c.growth("live_bytes"), c.GROWTH_ERROR, *c.AGES)
_DEVICE = (
    label("bus", "Bus of the device, else its class.", "device.bus"),
    label("name", "Name of the device in sysfs.", "device.name"),
    label("driver", "Driver bound to the device.", "device.driver"),
)
_SAME_DEVICE = (("device.bus", attrgetter("bus")), ("device.name", attrgetter("name")))
_SAME_RELEASE = (("release.name", attrgetter("release.name")),)
_SAME_CACHE = (("cache", attrgetter("cache")),)
_SAME_OWNER = (("owner", attrgetter("key")),)

_ALL = (
    View(
        "caches", "slab caches, and page-backed kmalloc as kmalloc-large",
        rows.caches, attrgetter("name"),
        (
            label("name", "Name of the cache; a second cache of one name is name#2."),
            attribute("object_size", BYTES, c.LABEL, "Size of one object.", title="size"),
            c.ALLOCS, c.FREES, c.FAILED, c.REQUESTED, c.ALLOCATED, c.FREED, *c.LIVE,
            attribute("frees_observable", "", FLAG, c.OBSERVABLE.help, title="frees seen"),
            attribute("reclaimable", "", FLAG, "Whether the kernel can shrink it under pressure."),
            attribute("active_objects", COUNT, GAUGE,
                      "Objects in use, of all time, as /proc/slabinfo has it: an upper bound.",
                      "slabinfo?active_objects", "active"),
            attribute("total_objects", COUNT, GAUGE, "Objects that its slabs have room for.",
                      "slabinfo?total_objects", "total"),
            Column("use_ratio", c.PERCENT, c.RATIO, "active_objects of total_objects.",
                   lambda t: t.quotient(t.values("active_objects"), t.values("total_objects")),
                   "use"),
            attribute("slab_bytes", BYTES, GAUGE, "Memory of all its slabs (/proc/slabinfo).",
                      "slabinfo?slab_bytes", "slabs"),
            c.ALLOC_RATE, c.FREE_RATE, c.FAIL_RATE, c.BYTE_RATE, *c.WASTE,
            *c.growth("live_bytes"), c.GROWTH_ERROR, *c.AGES,
        ),
        ("name", "live_bytes", "live_high_bytes", *_TRENDS, "allocs_per_second",
         "frees_per_second", "allocated_bytes", "waste_ratio", "oldest_seconds",
         "age_p90_seconds", "slab_bytes", "failed"),
        "allocated_bytes", "live.bytes", "live.stderr_bytes",
        group_links("cache", of=attrgetter("name")),
    ),
    View(
        "sites", "call sites that allocate",
        rows.sites, attrgetter("symbol", "offset", "module"),
        (
            label("site", "Function and offset of the call.", "label"),
            label("module", "Module the call is in; none is the core kernel."),
            c.ALLOCS, c.FAILED, c.REQUESTED, c.ALLOCATED, *c.LIVE, c.OBSERVABLE, c.ALLOC_RATE,
            c.FAIL_RATE, c.BYTE_RATE, *c.WASTE, *c.growth("live_bytes"), c.GROWTH_ERROR, *c.AGES,
        ),
        ("site", "module", "live_bytes", "live_high_bytes", *_TRENDS, "allocs_per_second",
         "allocated_bytes", "waste_ratio", "oldest_seconds", "age_p90_seconds", "failed"),
        "allocated_bytes", "live.bytes", "live.stderr_bytes",
        group_links("site", of=attrgetter("full_label")),
    ),
    View(
        "devices", "devices with managed (devres) resources",
        lambda snapshot: snapshot.devices, attrgetter("bus", "name"),
        (
            label("bus", "Bus of the device, else its class."),
            label("name", "Name of the device in sysfs."),
            label("driver", "Driver bound to the device."),
            label("module", "Module of the driver; none is built in."),
            attribute("resources", COUNT, GAUGE, "Managed resources it holds."),
            attribute("managed_bytes", BYTES, GAUGE, "Sum of their sizes, without headers.",
                      title="managed"),
            attribute("slab_bytes", BYTES, GAUGE, "What the slab objects behind them occupy.",
                      title="slab"),
            attribute("added", COUNT, COUNTER, "Resources added since tracking began."),
            attribute("removed", COUNT, COUNTER, "Resources removed since tracking began."),
            *c.growth("managed_bytes"),
        ),
        ("bus", "name", "driver", "module", "resources", "managed_bytes", "slab_bytes", *_TRENDS,
         "added", "removed"),
        "managed_bytes", "managed_bytes",
        links=(
            Link("resources", _SAME_DEVICE, "resources"), Link("caches", _SAME_DEVICE, "holdings"),
        ),
    ),
    View(
        "resources", "managed resources by device and release function",
        rows.resources, attrgetter("device.bus", "device.name", "release.name"),
        (
            *_DEVICE, label("release", "Function that releases the resource.", "release.name"),
            attribute("resources", COUNT, GAUGE, "Managed resources.", "release.resources"),
            attribute("bytes", BYTES, GAUGE, "Sum of their sizes.", "release.bytes"),
        ),
        ("bus", "name", "driver", "release", "resources", "bytes"), "bytes",
        links=(Link("devices with it", _SAME_RELEASE, "resources"),),
    ),
    View(
        "holdings", "slab memory behind managed resources by device and cache",
        rows.holdings, attrgetter("device.bus", "device.name", "cache"),
        (
            *_DEVICE, label("cache", "Cache of the slab objects."),
            attribute("bytes", BYTES, GAUGE, "What the slab objects occupy."),
        ),
        ("bus", "name", "driver", "cache", "bytes"), "bytes",
        links=(Link("devices in it", _SAME_CACHE, "holdings"),),
    ),
    View(
        "drivers", "modules: what their call sites allocate and their devices hold",
        rows.drivers, attrgetter("key"),
        (
            label("name", "Module, else the built-in driver."),
            attribute("built_in", "", FLAG,
                      "Built into the kernel: its call sites are within [core kernel].",
                      title="built in"),
            label("driver", "Its device drivers."),
            attribute("devices", COUNT, GAUGE, "Its devices that hold managed resources."),
            attribute("resources", COUNT, GAUGE, "Managed resources of its devices."),
            attribute("managed_bytes", BYTES, GAUGE, "Sum of the resources' sizes.",
                      title="managed"),
            attribute("slab_bytes", BYTES, GAUGE,
                      "What the slab objects behind the resources occupy.", title="slab"),
            attribute("sites", COUNT, GAUGE, "Call sites in it that allocated."),
            c.ALLOCS, c.FAILED, c.REQUESTED, c.ALLOCATED, *_LIVE, c.OBSERVABLE, c.ALLOC_RATE,
            c.FAIL_RATE, c.BYTE_RATE, *c.WASTE,
        ),
        ("name", "live_bytes", "live_high_bytes", "managed_bytes", "devices", "resources",
         "sites", *_TRENDS, "allocs_per_second", "allocated_bytes", "oldest_seconds"),
        "live_bytes", "live.bytes", "live.stderr_bytes",
        links=(Link("devices", _SAME_OWNER, "devices"),
               Link("sites", _SAME_OWNER, "sites")),
    ),
    View(
        "cgroups", "live memory by the cgroup that allocated it",
        rows.grouped(("cgroup",)), attrgetter("labels"),
        (
            dimension(0, "cgroup", "Path of the cgroup; [number] for one that is gone."),
            *_LIVE, c.OBSERVABLE,
        ),
        ("cgroup", "live_bytes", "live_high_bytes", "live_objects", *_TRENDS,
         "oldest_seconds", "age_p90_seconds"),
        "live_bytes", "live.bytes", "live.stderr_bytes",
        group_links("cgroup"), details=True,
    ),
    View(
        "processes", "live memory by the process that allocated it",
        rows.grouped(("process", "pid")), attrgetter("labels"),
        (
            dimension(0, "process", "Name of the task that allocated it."),
            dimension(1, "pid", "Its process id."), *_LIVE, c.OBSERVABLE,
        ),
        ("process", "pid", "live_bytes", "live_high_bytes", "live_objects", *_TRENDS,
         "oldest_seconds", "age_p90_seconds"),
        "live_bytes", "live.bytes", "live.stderr_bytes",
        group_links("process", "pid"),
    ),
    View(
        "gfp", "allocations by class of GFP flags",
        lambda snapshot: snapshot.gfp, attrgetter("name"),
        (
            label("class", "Class of GFP flags.", "name"), c.ALLOCS, c.ALLOCATED, c.FAILED,
            c.ALLOC_RATE, c.BYTE_RATE, c.FAIL_RATE,
        ),
        ("class", "allocs", "allocs_per_second", "allocated_bytes",
         "allocated_bytes_per_second", "failed", "failed_per_second"), "allocs",
        links=group_links("gfp", of=attrgetter("name")),
    ),
    View(
        "sizes", "kmalloc requests by size",
        lambda snapshot: snapshot.sizes, attrgetter("le"),
        (
            attribute("le", BYTES, c.LABEL, "Largest size in the row, a power of two."),
            c.ALLOCS, c.ALLOC_RATE,
        ),
        ("le", "allocs", "allocs_per_second"),
    ),
    View(
        "nodes", "allocations by preferred NUMA node",
        lambda snapshot: snapshot.nodes, attrgetter("node"),
        (
            attribute("node", "", c.LABEL, "The node asked for, else the CPU's own."),
            c.ALLOCS, c.ALLOCATED, c.ALLOC_RATE, c.BYTE_RATE,
        ),
        ("node", "allocs", "allocs_per_second", "allocated_bytes", "allocated_bytes_per_second"),
    ),
    View(
        "pages", "page allocator by order",
        lambda snapshot: snapshot.pages, attrgetter("order", "gfp_class"),
        (
            attribute("order", "", c.LABEL, "2^order pages at a time."),
            label("gfp_class", "Class of GFP flags; frees know none."),
            c.ALLOCS, c.FREES, c.FAILED, c.ALLOC_RATE, c.FREE_RATE,
        ),
        ("order", "gfp_class", "allocs", "frees", "failed", "allocs_per_second",
         "frees_per_second"),
    ),
    View(
        "losses", "events that were missed",
        rows.losses, attrgetter("reason"),
        (
            label("reason", "Why they were missed."),
            attribute("count", COUNT, COUNTER, "Events missed since tracking began.", "lost"),
            Column("count_per_second", c.PER_SECOND, c.RATE,
                   "Events missed per second of the last interval.", lambda t: t.rate("lost"),
                   "count/s"),
        ),
        ("reason", "count", "count_per_second"),
    ),
    View(
        "programs", "slabmon's own BPF programs, while the kernel takes BPF statistics",
        lambda snapshot: snapshot.programs, attrgetter("name"),
        (
            label("program", "The program.", "name"),
            attribute("runs", COUNT, COUNTER, "Runs that were timed."),
            attribute("run_seconds", c.SECONDS, COUNTER, "Time these runs took."),
            Column("seconds_per_run", c.SECONDS, c.RATIO, "Mean time of a run.",
                   lambda t: t.quotient(t.now("run_seconds"), t.now("runs"), 10), "time/run"),
        ),
        ("program", "runs", "run_seconds", "seconds_per_run"), "run_seconds",
    ),
    View(
        "features", "what this host allows to be seen",
        rows.features, attrgetter("name"),
        (
            label("feature", "Capability.", "name"),
            label("state", "on, degraded or off.", "feature.state"),
            label("reason", "Why it is not on.", "feature.reason"),
        ),
        ("feature", "state", "reason"),
    ),
    View(
        "verdicts", "suspected leaks, and growth that is none (after 20 minutes of watching)",
        rows.verdicts, attrgetter("kind", "key"),
        (
            label("suspect", "Call site, cache, driver (module) or device that grows.", "name"),
            label("kind", "Which of these it is."),
            label("verdict", "possible, likely or strong, as it has been watched; none: no leak."),
            attribute("growth_bytes_per_hour", c.BYTES_PER_HOUR, c.RATE,
                      "Growth per hour, over the window.", "growth", "growth/h"),
            attribute("low_bytes_per_hour", c.BYTES_PER_HOUR, c.RATE,
                      "Lower end of its 95 % interval.", "low", "at least"),
            attribute("high_bytes_per_hour", c.BYTES_PER_HOUR, c.RATE,
                      "Upper end of its 95 % interval.", "high", "at most"),
            attribute("live_bytes", BYTES, GAUGE, "What it holds.", "live", "live"),
            attribute("window_seconds", c.SECONDS, c.RATIO, "Time over which it grew.",
                      "window", "window"),
            label("behind", "Module, drivers and devices behind it."),
            label("reason", "Why it is no leak, else the evidence for and against."),
        ),
        ("suspect", "verdict", "growth_bytes_per_hour", "live_bytes", "window_seconds", "kind",
         "behind", "reason"),
        judged=True,
    ),
)  # fmt: skip
VIEWS = {view.name: view for view in _ALL}
