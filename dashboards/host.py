# SPDX-License-Identifier: Apache-2.0
"""One host, or a few: health and losses first, then who holds memory."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import cost
from dashboards.board import TO_DEVICE, board
from dashboards.panels import Panel, bars, number, of_metric, rows, series
from dashboards.queries import Query, about, gauge, rate, top

CACHE, SITE = "{{instance}} {{cache}}", "{{instance}} {{site}} {{module}}"
DEVICE = "{{instance}} {{bus}} {{device}} {{driver}}"
LOST_SHARE = f"sum({rate('lost_events_total')}) / sum({rate('gfp_allocations_total')})"


def _health() -> list[Panel]:
    degraded = gauge("feature_state", 'state="degraded"')
    return [
        number(
            "Reads the kernel", about("up"), "bool_yes_no", f"min({gauge('up')})", alarm=1, low=True
        ),
        number(
            "Counts since",
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
            "Events missed for each allocation; above one in a thousand the "
            "figures are less certain than they look.",
            "percentunit",
            LOST_SHARE,
            alarm=1e-3,
        ),
        number(
            "Degraded features",
            "Capabilities of which slabmon has less than it could: `slabmon check` says why.",
            "short",
            f"count({degraded} == 1) or vector(0)",
            alarm=1,
        ),
        of_metric("Lost events by reason", "lost_events_total", legend="{{instance}} {{reason}}"),
        rows(
            "Features that are not fully on",
            about("feature_state"),
            "short",
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
        of_metric("Readings that failed", "scrape_errors_total", legend="{{instance}} {{reason}}"),
    ]


def _verdicts() -> list[Panel]:
    return [
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
        series(
            "Suspects by strength",
            about("leak_suspects"),
            "short",
            Query(
                f"sum by (instance, strength) ({gauge('leak_suspects')})",
                "{{instance}} {{strength}}",
            ),
            width=8,
        ),
        of_metric("Growth that is no verdict", "leak_dismissed", legend="{{instance}}", width=8),
        number(
            "Watched", about("leak_observed_seconds"), "s", f"min({gauge('leak_observed_seconds')})"
        ),
        number(
            "Ready for verdicts",
            about("leak_verdicts_ready"),
            "bool_yes_no",
            f"min({gauge('leak_verdicts_ready')})",
            alarm=1,
            low=True,
        ),
    ]


def _caches() -> list[Panel]:
    net = f"{rate('cache_allocated_bytes_total')} - {rate('cache_freed_bytes_total')}"
    requested, allocated = (
        rate(f"cache_{which}_bytes_total") for which in ("requested", "allocated")
    )
    slabs, reclaimable = gauge("cache_slab_bytes"), gauge("cache_reclaimable")
    return [
        of_metric("Live memory", "cache_live_bytes", legend=CACHE),
        of_metric("Its standard error", "cache_live_stderr_bytes", legend=CACHE),
        of_metric("Slab memory", "cache_slab_bytes", legend=CACHE),
        series(
            "Slab memory, reclaimable and not",
            "Memory of all slabs: what the kernel gives back under pressure, and what it cannot.",
            "bytes",
            Query(f"sum({slabs} and {reclaimable} == 1)", "reclaimable"),
            Query(f"sum({slabs} unless {reclaimable} == 1)", "not reclaimable"),
            stacked=True,
        ),
        series(
            "Growth, by counters",
            "Bytes handed out less bytes given back, exactly. No "
            "evidence of a leak where frees are not seen.",
            "binBps",
            Query(top(net), CACHE),
        ),
        of_metric("Live objects", "cache_live_objects", legend=CACHE),
        of_metric("Active objects", "cache_active_objects", legend=CACHE),
        of_metric("Allocations", "cache_allocations_total", legend=CACHE),
        of_metric("Frees", "cache_frees_total", legend=CACHE),
        series(
            "Share of memory handed out that was asked for",
            "Bytes asked for, as a share of bytes handed out: the ten caches that waste most.",
            "percentunit",
            Query(f"bottomk(10, {requested} / ({allocated} > 0))", CACHE),
        ),
        of_metric("Frees without an event", "cache_unobserved_frees_total", legend=CACHE),
        rows(
            "Caches whose frees escape",
            about(
                "cache_frees_observable",
                "Growth there is no evidence of a leak. Shown with their slab memory.",
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
            "Call sites of a module together; no name: the kernel itself.",
            "bytes",
            Query(top(f"sum by (instance, module) ({live})"), "{{instance}} {{module}}"),
        ),
        of_metric("Allocations by call site", "site_allocations_total", legend=SITE),
        of_metric("Bytes handed out by call site", "site_allocated_bytes_total", legend=SITE),
    ]


def _devices() -> list[Panel]:
    return [
        of_metric(
            "Managed memory by device", "device_managed_bytes", legend=DEVICE, link=TO_DEVICE
        ),
        of_metric("Slab memory behind it", "device_slab_bytes", legend=DEVICE, link=TO_DEVICE),
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
            "Allocations by GFP class", "gfp_allocations_total", legend="{{instance}} {{class}}"
        ),
        of_metric(
            "Bytes handed out by GFP class",
            "gfp_allocated_bytes_total",
            legend="{{instance}} {{class}}",
        ),
        bars(
            "Request sizes",
            about("request_size_allocations_total"),
            "cps",
            Query(f"sum by (le) ({rate('request_size_allocations_total')})", "{{le}} bytes"),
            width=6,
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


def make() -> Dashboard:
    """The dashboard."""
    return board(
        "slabmon-host",
        "slabmon / Host",
        "Kernel slab memory of a host: whether the figures can be trusted, what is suspected to "
        "leak, and which caches, call sites and devices hold memory.",
        {
            "Health and losses": _health(),
            "Verdicts": _verdicts(),
            "Caches": _caches(),
            "Call sites": _sites(),
            "Devices": _devices(),
            "Requests": _requests(),
            "Cost of slabmon": cost.panels(),
        },
    )
