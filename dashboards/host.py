# SPDX-License-Identifier: Apache-2.0
"""One host, or a few: health and losses first, then the holders of memory."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import cost
from dashboards.board import TO_DEVICE, board
from dashboards.panels import Panel, bars, number, of_metric, rows, series
from dashboards.queries import Query, about, gauge, rate, top

CACHE, SITE = "{{instance}} {{cache}}", "{{instance}} {{site}} {{module}}"
DEVICE = "{{instance}} {{bus}} {{device}} {{driver}}"
OWNER = "{{instance}} {{cache}} {{owner}}"
LOST_SHARE = f"sum({rate('lost_events_total')}) / sum({rate('gfp_allocations_total')})"


def _health() -> list[Panel]:
    degraded = gauge("feature_state", 'state="degraded"')
    return [
        number(
            "Reading the kernel",
            about("up"),
            "bool_yes_no",
            f"min({gauge('up')})",
            alarm=1,
            low=True,
        ),
        number(
            "Counting since",
            about("tracking_since_seconds"),
            "dateTimeFromNow",
            f"1000 * max({gauge('tracking_since_seconds')})",
        ),
        number(
            "Suspected leaks",
            about("leak_suspects"),
            "short",
            f"sum({gauge('leak_suspects')})",
            alarm=1,
        ),
        number(
            "Failed allocations",
            about("gfp_allocation_failures_total"),
            "cps",
            f"sum({rate('gfp_allocation_failures_total')})",
            alarm=1e-9,
        ),
        number(
            "Lost events",
            "Lost events per allocation; above one in a thousand the "
            "figures are less accurate than stated.",
            "percentunit",
            LOST_SHARE,
            alarm=1e-3,
        ),
        number(
            "Degraded features",
            "Features that work less well than on other hosts: `slabmon check` shows the reason.",
            "short",
            f"count({degraded} == 1) or vector(0)",
            alarm=1,
        ),
        of_metric("Lost events by reason", "lost_events_total", legend="{{instance}} {{reason}}"),
        rows(
            "Features that are not fully on",
            about("feature_state"),
            "bool_yes_no",
            gauge("feature_state", 'state!="on"') + " == 1",
            {"instance": "Host", "feature": "Feature", "state": "State", "Value": "Is"},
        ),
        of_metric(
            "Failed allocations by GFP class",
            "gfp_allocation_failures_total",
            legend="{{instance}} {{class}}",
        ),
        of_metric("Failed allocations by cache", "allocation_failures_total", legend=CACHE),
        of_metric("Failed allocations by call site", "site_allocation_failures_total", legend=SITE),
        of_metric("Failed readings", "scrape_errors_total", legend="{{instance}} {{reason}}"),
    ]


def _verdicts() -> list[Panel]:
    return [
        number(
            "Ready for verdicts",
            about("leak_verdicts_ready"),
            "bool_yes_no",
            f"min({gauge('leak_verdicts_ready')})",
            alarm=1,
            low=True,
            width=8,
        ),
        number(
            "Watched",
            about("leak_observed_seconds"),
            "s",
            f"min({gauge('leak_observed_seconds')})",
            width=8,
        ),
        number(
            "Memory lasts for",
            about("exhaustion_seconds", "Empty: nothing exhausts it within a day."),
            "s",
            f"min({gauge('exhaustion_seconds')})",
            width=8,
        ),
        series(
            "Exhaustion of memory",
            about("exhaustion_seconds", "With its 95 % interval."),
            "s",
            Query(gauge("exhaustion_seconds"), "{{instance}} {{kind}} {{suspect}}"),
            Query(gauge("exhaustion_earliest_seconds"), "{{instance}} {{suspect}} at the earliest"),
            Query(gauge("exhaustion_latest_seconds"), "{{instance}} {{suspect}} at the latest"),
        ),
        of_metric(
            "Growth that exhausts memory",
            "exhaustion_bytes_per_second",
            legend="{{instance}} {{kind}} {{suspect}} {{module}}",
        ),
        rows(
            "Suspects",
            about(
                "leak_suspect_bytes_per_second", "`slabmon leaks` on the host shows the evidence."
            ),
            "binBps",
            gauge("leak_suspect_bytes_per_second"),
            {
                "instance": "Host",
                "kind": "Kind",
                "suspect": "Suspect",
                "module": "Module",
                "Value": "Growth",
            },
        ),
        of_metric(
            "Growth of suspects",
            "leak_suspect_bytes_per_second",
            legend="{{instance}} {{kind}} {{suspect}} {{module}}",
        ),
        rows(
            "Who is behind suspects",
            about("leak_suspect_info"),
            "binBps",
            f"{gauge('leak_suspect_info')} * on (instance, kind, suspect, module) group_left () "
            f"{gauge('leak_suspect_bytes_per_second')}",
            {
                "instance": "Host",
                "suspect": "Suspect",
                "process": "Process",
                "cgroup": "Cgroup",
                "caller": "Caller",
                "Value": "Growth",
            },
            width=24,
        ),
        series(
            "Suspects by strength",
            about("leak_suspects"),
            "short",
            Query(
                f"sum by (instance, strength) ({gauge('leak_suspects')})",
                "{{instance}} {{strength}}",
            ),
        ),
        series(
            "Dismissed growth by reason",
            about("leak_dismissed"),
            "short",
            Query(gauge("leak_dismissed"), "{{instance}} all"),
            Query(f"{gauge('leak_dismissed_findings')} > 0", "{{instance}} {{reason}}"),
        ),
        of_metric(
            "Closer looks at suspects",
            "escalations_total",
            legend="{{instance}} {{kind}}",
            width=6,
        ),
        of_metric(
            "Closer looks that failed", "escalation_failures_total", legend="{{instance}}", width=6
        ),
        of_metric("Closer looks now", "escalation_running", legend="{{instance}}", width=6),
        of_metric(
            "CPU time of closer looks",
            "escalation_cpu_seconds_total",
            legend="{{instance}}",
            width=6,
        ),
    ]


def _memory() -> list[Panel]:
    rows_of_kernel = gauge("memory_bytes", 'kind="kernel"')
    return [
        series(
            "All memory by kind",
            about("memory_bytes"),
            "bytes",
            Query(
                f"sum by (instance, kind) ({gauge('memory_bytes')})",
                "{{instance}} {{kind}}",
            ),
            Query(gauge("memory_unaccounted_bytes"), "{{instance}} unaccounted"),
            stacked=True,
        ),
        series(
            "Kernel memory",
            "What the kernel itself holds, by what it is for: slab is one of these rows.",
            "bytes",
            Query(f"{rows_of_kernel} > 0", "{{instance}} {{row}}"),
            stacked=True,
        ),
        of_metric("Unaccounted", "memory_unaccounted_bytes", legend="{{instance}}"),
        of_metric("Named by no counter", "memory_uncounted_bytes", legend="{{instance}}"),
        of_metric(
            "Pages and per-CPU memory by caller",
            "page_site_live_bytes",
            legend="{{instance}} {{kind}} {{site}} {{module}} {{by}}",
            width=24,
        ),
        of_metric(
            "Memory by line of the kernel's source",
            "allocinfo_bytes",
            more="Empty where the kernel does not profile allocations.",
            legend="{{instance}} {{line}}",
        ),
        of_metric(
            "Allocations by line of the kernel's source",
            "allocinfo_allocations",
            legend="{{instance}} {{line}}",
        ),
    ]


def _caches() -> list[Panel]:
    net = f"{rate('cache_allocated_bytes_total')} - {rate('cache_freed_bytes_total')}"
    requested, allocated = (
        rate(f"cache_{kind}_bytes_total") for kind in ("requested", "allocated")
    )
    slabs, reclaimable = gauge("cache_slab_bytes"), gauge("cache_reclaimable")
    return [
        of_metric("Live memory", "cache_live_bytes", legend=CACHE),
        of_metric("Standard error of live memory", "cache_live_stderr_bytes", legend=CACHE),
        of_metric("Slab memory", "cache_slab_bytes", legend=CACHE, width=8),
        series(
            "Slab memory by family",
            about("cache_info", "All kinds of one kmalloc size together."),
            "bytes",
            Query(
                top(
                    f"sum by (instance, family) ({slabs} * on (instance, cache) "
                    f"group_left (family) {gauge('cache_info')})"
                ),
                "{{instance}} {{family}}",
            ),
            width=8,
        ),
        series(
            "Slab memory, reclaimable and not",
            "Memory of all slabs: the part that the kernel reclaims under pressure, and the rest.",
            "bytes",
            Query(f"sum({slabs} and {reclaimable} == 1)", "reclaimable"),
            Query(f"sum({slabs} unless {reclaimable} == 1)", "not reclaimable"),
            width=8,
            stacked=True,
        ),
        series(
            "Growth, by counters",
            "Allocated minus freed bytes, exactly. Not evidence "
            "of a leak where frees are not seen.",
            "binBps",
            Query(top(net), CACHE),
        ),
        of_metric("Live objects", "cache_live_objects", legend=CACHE),
        of_metric("Active objects", "cache_active_objects", legend=CACHE),
        of_metric("Allocations", "cache_allocations_total", legend=CACHE),
        of_metric("Frees", "cache_frees_total", legend=CACHE),
        series(
            "Requested share of allocated bytes",
            "Requested bytes as a share of allocated bytes: the ten caches that waste most.",
            "percentunit",
            Query(f"bottomk(10, {requested} / ({allocated} > 0))", CACHE),
        ),
        of_metric("Frees without an event", "cache_unobserved_frees_total", legend=CACHE),
        rows(
            "Caches with unobserved frees",
            about(
                "cache_frees_observable",
                "Growth there is not evidence of a leak. Shown with their slab memory.",
            ),
            "bytes",
            f"{slabs} and {gauge('cache_frees_observable')} == 0",
            {"instance": "Host", "cache": "Cache", "Value": "Slab memory"},
        ),
    ]


def _sites() -> list[Panel]:
    live = gauge("site_live_bytes")
    return [
        of_metric("Live memory by call site", "site_live_bytes", legend=SITE),
        series(
            "Live memory by module",
            "Sum over the call sites of a module; no name: the kernel itself.",
            "bytes",
            Query(top(f"sum by (instance, module) ({live})"), "{{instance}} {{module}}"),
        ),
        of_metric(
            "Live memory by caller",
            "caller_live_bytes",
            legend="{{instance}} {{caller}} {{module}}",
        ),
        of_metric(
            "Live memory by cgroup",
            "cgroup_live_bytes",
            legend="{{instance}} {{namespace}} {{pod}} {{container}} {{cgroup}}",
        ),
        of_metric("Allocations by call site", "site_allocations_total", legend=SITE),
        of_metric("Allocated bytes by call site", "site_allocated_bytes_total", legend=SITE),
    ]


def _devices() -> list[Panel]:
    return [
        of_metric(
            "Managed memory by device", "device_managed_bytes", legend=DEVICE, link=TO_DEVICE
        ),
        of_metric("Slab memory of the devices", "device_slab_bytes", legend=DEVICE, link=TO_DEVICE),
        series(
            "Managed memory by driver",
            about("device_managed_bytes"),
            "bytes",
            Query(
                top(f"sum by (instance, driver) ({gauge('device_managed_bytes')})"),
                "{{instance}} {{driver}}",
            ),
            link=TO_DEVICE,
        ),
        of_metric("Managed resources", "device_managed_resources", legend=DEVICE, link=TO_DEVICE),
    ]


def _requests() -> list[Panel]:
    return [
        of_metric(
            "Live memory by what allocated it",
            "context_live_bytes",
            legend="{{instance}} {{context}}",
            width=8,
        ),
        of_metric(
            "Allocations by GFP class",
            "gfp_allocations_total",
            legend="{{instance}} {{class}}",
            width=8,
        ),
        of_metric(
            "Allocated bytes by GFP class",
            "gfp_allocated_bytes_total",
            legend="{{instance}} {{class}}",
            width=8,
        ),
        *(
            of_metric(title, metric, legend="{{instance}} {{modifier}}", width=8)
            for title, metric in (
                ("Allocations by GFP modifier", "gfp_modifier_allocations_total"),
                ("Allocated bytes by GFP modifier", "gfp_modifier_allocated_bytes_total"),
                ("Failed allocations by GFP modifier", "gfp_modifier_allocation_failures_total"),
            )
        ),
        bars(
            "Request sizes in bytes",
            about("request_size_bytes_bucket", "Each bar is up to its size, from the one above."),
            "cps",
            Query(f"sum by (le) ({rate('request_size_bytes_bucket')})", "{{le}}"),
            width=6,
            histogram=True,
        ),
        of_metric(
            "Allocations by NUMA node",
            "node_allocations_total",
            legend="{{instance}} {{node}}",
            width=6,
        ),
        of_metric(
            "Page allocations",
            "page_allocations_total",
            legend="{{instance}} order {{order}} {{class}}",
            width=6,
        ),
        of_metric("Page frees", "page_frees_total", legend="{{instance}} order {{order}}", width=6),
    ]


def _census() -> list[Panel]:
    return [
        of_metric("Memory in use by owner", "census_bytes", legend=OWNER),
        of_metric("Objects in use by owner", "census_objects", legend=OWNER),
        of_metric(
            "Slab memory by cgroup",
            "census_cgroup_bytes",
            legend="{{instance}} {{cgroup}} {{state}}",
        ),
        of_metric("Orphans", "census_orphan_bytes", legend=OWNER),
        of_metric("Objects nothing refers to", "census_orphan_objects", legend=OWNER),
        series(
            "Certainty of the owners",
            "Memory in use by how certain it is whose it is.",
            "bytes",
            Query(
                f"sum by (instance, certainty) ({gauge('census_bytes')})",
                "{{instance}} {{certainty}}",
            ),
        ),
        of_metric("Age", "census_age_seconds", legend="{{instance}}", width=6),
        of_metric("Duration", "census_seconds", legend="{{instance}}", width=6),
        of_metric("CPU time", "census_cpu_seconds_total", legend="{{instance}}", width=6),
        of_metric("Failures", "census_failures_total", legend="{{instance}} {{reason}}", width=6),
    ]


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "slabmon-host",
        "slabmon / Host",
        "Kernel slab memory of a host: whether the figures can be trusted, what is suspected to "
        "leak, and which caches, call sites and devices hold memory.",
        {
            "Health and losses": _health(),
            "Verdicts": _verdicts(),
            "All memory": _memory(),
            "Caches": _caches(),
            "Call sites": _sites(),
            "Devices": _devices(),
            "Requests": _requests(),
            "Census": _census(),
            "Cost of slabmon": cost.panels(),
        },
    )
