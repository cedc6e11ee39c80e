# SPDX-License-Identifier: Apache-2.0
"""One driver or device: its managed resources, its module's call sites, its verdicts."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.board import board, label_choice
from dashboards.panels import Panel, number, of_metric, rows, series
from dashboards.queries import Query, about, gauge, rate, top

CHOSEN = ('bus=~"$bus"', 'driver=~"$driver"', 'device=~"$device"')
MODULE = 'module=~"$module"'
DEVICE, SITE = "{{instance}} {{bus}} {{device}}", "{{instance}} {{site}} {{module}}"
COLUMNS = {"instance": "Host", "bus": "Bus", "device": "Device", "driver": "Driver"}


def _devices() -> list[Panel]:
    managed = gauge("device_managed_bytes", *CHOSEN)
    slabs = gauge("device_slab_bytes", *CHOSEN)
    resources = gauge("device_managed_resources", *CHOSEN)
    added = rate("device_resources_added_total", *CHOSEN)
    removed = rate("device_resources_removed_total", *CHOSEN)
    return [
        number(
            "Devices",
            "Devices that hold managed resources.",
            "short",
            f"count({resources})",
            width=6,
        ),
        number(
            "Managed memory", about("device_managed_bytes"), "bytes", f"sum({managed})", width=6
        ),
        number(
            "Slab memory of the devices",
            about("device_slab_bytes"),
            "bytes",
            f"sum({slabs})",
            width=6,
        ),
        number(
            "Managed resources",
            about("device_managed_resources"),
            "short",
            f"sum({resources})",
            width=6,
        ),
        rows(
            "Devices by managed memory",
            about("device_managed_bytes"),
            "bytes",
            top(managed, 50),
            {**COLUMNS, "Value": "Managed"},
        ),
        rows(
            "Growth in an hour",
            "Managed memory now minus an hour ago. After a driver is "
            "bound and unbound it has to return to the same level.",
            "bytes",
            top(f"{managed} - {gauge('device_managed_bytes', *CHOSEN)} offset 1h", 50),
            {**COLUMNS, "Value": "Growth"},
        ),
        *(
            of_metric(title, name, legend=DEVICE, matchers=CHOSEN, width=8)
            for title, name in (
                ("Managed memory by device", "device_managed_bytes"),
                ("Slab memory by device", "device_slab_bytes"),
                ("DMA memory by device", "device_dma_bytes"),
            )
        ),
        of_metric(
            "Resources by device", "device_managed_resources", legend=DEVICE, matchers=CHOSEN
        ),
        series(
            "Managed memory by driver",
            about("device_managed_bytes"),
            "bytes",
            Query(top(f"sum by (instance, driver) ({managed})"), "{{instance}} {{driver}}"),
        ),
        of_metric(
            "Resources added",
            "device_resources_added_total",
            legend=DEVICE,
            matchers=CHOSEN,
            width=8,
        ),
        of_metric(
            "Resources removed",
            "device_resources_removed_total",
            legend=DEVICE,
            matchers=CHOSEN,
            width=8,
        ),
        series(
            "Added minus removed",
            "Above zero for long: the driver accumulates resources.",
            "cps",
            Query(top(f"{added} - {removed}"), DEVICE),
            width=8,
        ),
    ]


def _sites() -> list[Panel]:
    return [
        of_metric("Live memory by call site", "site_live_bytes", legend=SITE, matchers=(MODULE,)),
        series(
            "Live memory by module",
            "Sum over the call sites of a module; no name: the kernel "
            "itself, including built-in drivers.",
            "bytes",
            Query(
                top(f"sum by (instance, module) ({gauge('site_live_bytes', MODULE)})"),
                "{{instance}} {{module}}",
            ),
        ),
        of_metric(
            "Allocations by call site", "site_allocations_total", legend=SITE, matchers=(MODULE,)
        ),
        of_metric(
            "Allocated bytes by call site",
            "site_allocated_bytes_total",
            legend=SITE,
            matchers=(MODULE,),
        ),
        of_metric(
            "Failed allocations by call site",
            "site_allocation_failures_total",
            legend=SITE,
            matchers=(MODULE,),
        ),
        rows(
            "Suspects",
            about(
                "leak_suspect_bytes_per_second",
                "`slabmon leaks` on the host names the devices behind them.",
            ),
            "binBps",
            gauge("leak_suspect_bytes_per_second", MODULE),
            {
                "instance": "Host",
                "kind": "Kind",
                "suspect": "Suspect",
                "module": "Module",
                "Value": "Growth",
            },
        ),
    ]


def make() -> Dashboard:
    """Return the dashboard."""
    variables = [
        label_choice(name, "device_managed_resources") for name in ("bus", "driver", "device")
    ]
    return board(
        "slabmon-device",
        "slabmon / Device and driver",
        "Managed (devm) resources of devices and the call sites of modules. Bus, driver and device "
        "select devices; module selects call sites and suspects.",
        {"Devices": _devices(), "Call sites of the module": _sites()},
        [*variables, label_choice("module", "site_live_bytes")],
    )
