# SPDX-License-Identifier: Apache-2.0
"""Many hosts, by the series that rules/slabmon.yml records: no panel reads one series per cache."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.board import TO_HOST, TO_HOST_FROM_TABLE, board
from dashboards.panels import Panel, bars, number, rows, series
from dashboards.queries import Query, about, gauge, of_releases, rate, select, top

HOST = {"instance": "Host"}
LIVE = select("instance:slabmon_cache_live_bytes:sum")
SLABS = select("instance:slabmon_cache_slab_bytes:sum")
CPUS = select("instance:slabmon_cost_cpus:sum")
MEMORY = select("instance:slabmon_memory_bytes:sum")
SUSPECTS = select("instance:slabmon_leak_suspects:sum")
LOST = (
    select("instance:slabmon_lost_events:rate5m")
    + " / "
    + select("instance:slabmon_gfp_allocations:rate5m")
)


def _to_median(expr: str) -> str:
    return top(f"{expr} / scalar(quantile(0.5, {expr}))", 20)


def _quantiles(expr: str) -> list[Query]:
    return [
        Query(f"quantile({share}, {expr})", name)
        for share, name in ((0.5, "median"), (0.95, "95 %"), (1, "highest"))
    ]


def _state() -> list[Panel]:
    degraded = gauge("feature_state", 'state="degraded"')
    return [
        number("Hosts", "Hosts that answer.", "short", f"count({gauge('up')})"),
        number(
            "Not scraped",
            "Targets of the job that do not answer.",
            "short",
            f"count({select('up')} == 0) or vector(0)",
            alarm=1,
        ),
        number(
            "Old figures",
            "Hosts whose kernel tables could not be read.",
            "short",
            f"count({gauge('up')} == 0) or vector(0)",
            alarm=1,
        ),
        number(
            "Hosts with suspects",
            "Hosts with at least one suspected leak.",
            "short",
            f"count({SUSPECTS} > 0) or vector(0)",
            alarm=1,
        ),
        number(
            "Hosts that lose events",
            "More than one lost event per thousand allocations.",
            "short",
            f"count({LOST} > 0.001) or vector(0)",
            alarm=1,
        ),
        number(
            "Over budget",
            "Hosts on which slabmon costs more than its budget.",
            "short",
            f"count({CPUS} > ({gauge('budget_cpus')} > 0)) or vector(0)",
            alarm=1,
        ),
        bars(
            "Hosts by kernel release",
            about("build_info"),
            "short",
            Query(f"count by (release) ({gauge('build_info')})", "{{release}}"),
            width=8,
        ),
        bars(
            "Hosts by version of slabmon",
            about("build_info"),
            "short",
            Query(f"count by (version) ({gauge('build_info')})", "{{version}}"),
            width=8,
        ),
        bars(
            "Hosts on which a feature is degraded",
            about("feature_state"),
            "short",
            Query(f"sum by (feature) ({degraded})", "{{feature}}"),
            width=8,
        ),
    ]


def _outliers() -> list[Panel]:
    failures = select("instance:slabmon_gfp_allocation_failures:rate5m")
    return [
        series("Slab memory over the fleet", "All slabs of a host.", "bytes", *_quantiles(SLABS)),
        rows(
            "Slab memory, times the median",
            "Hosts of one kind should hold about the same amount: the twenty "
            "largest, as multiples of the median of the selected hosts.",
            "short",
            _to_median(SLABS),
            {**HOST, "Value": "Times the median"},
            link=TO_HOST_FROM_TABLE,
        ),
        series(
            "Slab memory, growth of six hours",
            "Slab memory now minus six hours ago: the ten hosts that grew most.",
            "bytes",
            Query(top(f"{SLABS} - {SLABS} offset 6h"), "{{instance}}"),
            link=TO_HOST,
        ),
        series(
            "Live memory",
            "Allocated since tracking began and not freed: the ten largest hosts.",
            "bytes",
            Query(top(LIVE), "{{instance}}"),
            link=TO_HOST,
        ),
        series(
            "Suspected leaks",
            about("leak_suspects"),
            "short",
            Query(top(SUSPECTS), "{{instance}}"),
            width=8,
            link=TO_HOST,
        ),
        series(
            "Failed allocations",
            about("gfp_allocation_failures_total"),
            "cps",
            Query(top(failures), "{{instance}}"),
            width=8,
            link=TO_HOST,
        ),
        series(
            "Lost events",
            "Lost events per allocation.",
            "percentunit",
            Query(top(LOST), "{{instance}}"),
            width=8,
            link=TO_HOST,
        ),
    ]


def _drivers() -> list[Panel]:
    sites = of_releases("release_module:slabmon_site_live_bytes:growth1h", 'module!=""')
    managed = of_releases("release_driver:slabmon_device_managed_bytes:growth1h", 'driver!=""')
    suspects = of_releases("release_module:slabmon_leak_suspect_bytes_per_second:sum")
    by_module = {"module": "Module", "release": "Kernel"}
    kernels = {"module": "Module", "Value": "Kernel releases"}
    return [
        rows(
            "Suspected leaks by module and kernel",
            "Growth of suspects, summed over all hosts of a kernel "
            "release; no module: the kernel itself.",
            "binBps",
            suspects,
            {**by_module, "Value": "Growth"},
        ),
        rows(
            "Modules suspected on several kernels",
            "Kernel releases on which a module is "
            "suspected: on several, it is the driver; on one, a change of that release.",
            "short",
            f"count by (module) ({suspects})",
            kernels,
        ),
        series(
            "Growth of modules by kernel",
            "Live memory of a module's call sites: growth in an "
            "hour, summed over all hosts of a kernel release.",
            "bytes",
            Query(top(sites), "{{module}} {{release}}"),
        ),
        rows(
            "Modules that grow on several kernels",
            "Kernel releases on which the module's live memory grew over the last hour.",
            "short",
            f"count by (module) ({sites} > 0)",
            kernels,
        ),
        series(
            "Growth of managed memory by driver and kernel",
            about(
                "device_managed_bytes",
                "Growth in an hour, summed over all hosts of a kernel release.",
            ),
            "bytes",
            Query(top(managed), "{{driver}} {{release}}"),
        ),
        rows(
            "Live memory of modules by host",
            "Sum over the call sites of a module: the twenty largest pairs of host and module.",
            "bytes",
            top(select("instance_module:slabmon_site_live_bytes:sum", 'module!=""'), 20),
            {**HOST, "module": "Module", "Value": "Live"},
            link=TO_HOST_FROM_TABLE,
        ),
    ]


def _cost() -> list[Panel]:
    return [
        series(
            "CPU time of slabmon",
            about("cost_cpus", "100 % is one CPU."),
            "percentunit",
            *_quantiles(CPUS),
        ),
        series(
            "Memory of slabmon", "Processes, BPF maps and programs.", "bytes", *_quantiles(MEMORY)
        ),
        series(
            "Hosts on which it costs most",
            about("cost_cpus", "100 % is one CPU."),
            "percentunit",
            Query(top(CPUS), "{{instance}}"),
            link=TO_HOST,
        ),
        series(
            "Steps taken to stay within the budget",
            about("budget_step_taken"),
            "short",
            Query(f"sum by (step) ({gauge('budget_step_taken')})", "{{step}}"),
        ),
        series(
            "Time to have a reading",
            about("scrape_duration_seconds"),
            "s",
            *_quantiles(gauge("scrape_duration_seconds")),
            width=8,
        ),
        series(
            "Label sets folded",
            about("folded_series"),
            "short",
            Query(f"sum by (family) ({gauge('folded_series')})", "{{family}}"),
            width=8,
        ),
        series(
            "Web processes restarted",
            about("web_restarts_total"),
            "cps",
            Query(f"sum({rate('web_restarts_total')})", "all"),
            width=8,
        ),
    ]


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "slabmon-fleet",
        "slabmon / Fleet",
        "Outlying hosts, drivers that grow on several kernels, and the cost of slabmon. Needs "
        "the recording rules of rules/slabmon.yml.",
        {
            "State": _state(),
            "Outliers": _outliers(),
            "Drivers over kernels": _drivers(),
            "Cost of slabmon": _cost(),
        },
    )
