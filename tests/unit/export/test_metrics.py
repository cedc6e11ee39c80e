# SPDX-License-Identifier: Apache-2.0
"""The metric catalogue and the page made from it."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from slabmon.base.workloads import WorkloadNames, named, of_path
from slabmon.export.census_rows import CGROUP_LABELS
from slabmon.export.metrics import (
    CATALOGUE,
    CENSUS,
    DAEMON,
    Daemon,
    Metric,
    alias_label,
    markdown,
)
from slabmon.export.series import (
    KINDS,
    MAX_CALLERS,
    MAX_CGROUPS,
    MAX_DMA_DEVICES,
    MAX_INFO,
    MAX_PAGE_SITES,
    OTHER,
)
from slabmon.model import BlockKind, Cache, Live
from slabmon.runtime.figures import DaemonFigures
from tests.support.builders import cache, device, page_site, snapshot
from tests.support.paths import ROOT

# What users' dashboards rely on: name and labels.
PROMISED = {
    "slabmon_cache_allocations_total": ("cache",),
    "slabmon_cache_frees_total": ("cache",),
    "slabmon_cache_requested_bytes_total": ("cache",),
    "slabmon_cache_allocated_bytes_total": ("cache",),
    "slabmon_cache_live_bytes": ("cache",),
    "slabmon_cache_live_objects": ("cache",),
    "slabmon_device_managed_bytes": ("bus", "device", "driver"),
    "slabmon_device_managed_resources": ("bus", "device", "driver"),
    "slabmon_device_dma_bytes": ("bus", "device", "driver"),
    "slabmon_site_live_bytes": ("site", "module"),
    "slabmon_site_allocations_total": ("site", "module"),
    "slabmon_gfp_allocations_total": ("class",),
    "slabmon_gfp_modifier_allocations_total": ("modifier",),
    "slabmon_gfp_modifier_allocated_bytes_total": ("modifier",),
    "slabmon_gfp_modifier_allocation_failures_total": ("modifier",),
    "slabmon_allocation_failures_total": ("cache",),
    "slabmon_lost_events_total": ("reason",),
    "slabmon_bpf_run_seconds_total": ("program",),
    "slabmon_bpf_runs_total": ("program",),
    "slabmon_feature_state": ("feature", "state"),
    "slabmon_tracking_since_seconds": (),
    "slabmon_build_info": None,
    "slabmon_up": (),
    "slabmon_census_objects": ("cache", "owner", "certainty"),
    "slabmon_census_bytes": ("cache", "owner", "certainty"),
    "slabmon_census_cgroup_bytes": (*CGROUP_LABELS, "state"),
    "slabmon_cgroup_live_bytes": CGROUP_LABELS,
    "slabmon_census_orphan_bytes": ("cache", "owner"),
    "slabmon_census_orphan_objects": ("cache", "owner"),
    "slabmon_census_age_seconds": (),
    "slabmon_census_failures_total": ("reason",),
    "slabmon_census_seconds": (),
    "slabmon_census_cpu_seconds_total": (),
}
ALL: tuple[Metric[Any], ...] = (*DAEMON, *CATALOGUE, *CENSUS)
METRICS = {metric.exposed: metric for metric in ALL}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_metrics_are_there_with_their_labels(name: str) -> None:
    labels = PROMISED[name]
    assert name in METRICS
    assert labels is None or METRICS[name].labels == labels


class ReadFigures:
    """Figures of a daemon that note which of them are read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(DaemonFigures(), name)


def test_each_figure_of_the_daemon_has_a_metric() -> None:
    figures: Any = ReadFigures()
    for metric in DAEMON:
        list(metric.rows(Daemon(figures=figures)))
    assert {field.name for field in fields(DaemonFigures)} <= figures.read


def test_names_are_unique() -> None:
    assert len(METRICS) == len(ALL)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_help_and_units_follow_the_conventions(metric: object) -> None:
    found = METRICS[metric.exposed]  # type: ignore[attr-defined]
    assert re.fullmatch(r"slabmon_[a-z_]+", found.name)
    assert not found.name.endswith("_total"), "added for counters when exposed"
    assert found.help.endswith(".")
    assert found.unit in ("", "bytes", "seconds")
    if found.unit:
        assert found.name.endswith("_" + found.unit)
    assert all(re.fullmatch("[a-z]+", label) for label in found.labels)


def test_no_metric_has_a_process_id_as_label() -> None:
    assert not {"pid", "tgid", "comm", "process"} & {
        label for metric in ALL for label in metric.labels
    }


def test_what_is_named_by_the_kernel_is_bounded() -> None:
    """Rows of a census are bounded where they are made (tests/unit/export/test_census_rows.py), and
    so are names of caches, callers of pages and devices with DMA memory, below."""
    metrics: tuple[Metric[Any], ...] = (*DAEMON, *CATALOGUE)
    bounded = (
        "slabmon_cache_info",
        "slabmon_page_site_live_bytes",
        "slabmon_device_dma_bytes",
    )
    for metric in metrics:
        for label, bound in (("cache", "cache"), ("site", "site"), ("device", "device")):
            if label in metric.labels and metric.name not in bounded:
                assert metric.bound == bound
        if metric.bound:
            assert metric.bound in KINDS


def info_of(*caches: Cache) -> dict[tuple[str, ...], float]:
    metric = next(metric for metric in CATALOGUE if metric.name == "slabmon_cache_info")
    return dict(metric.rows(snapshot(caches=caches)))


def test_names_of_caches_are_shown_for_the_largest() -> None:
    merged = cache("signal_cache", aliases=("UNIX", "UNIX-STREAM"), allocated_bytes=10)
    many = (cache(f"kmalloc-rnd-{i:02}-{64 * i}", allocated_bytes=i) for i in range(500))
    found = info_of(merged, *many, cache("dentry"))
    assert len(found) == MAX_INFO
    assert ("kmalloc-rnd-499-31936", "", "kmalloc-31936") in found
    assert not any(labels[0] == "dentry" for labels in found)
    assert info_of(merged) == {("signal_cache", "UNIX,UNIX-STREAM", "signal_cache"): 1}


def test_the_largest_callers_of_pages_have_series() -> None:
    metric = next(m for m in CATALOGUE if m.name == "slabmon_page_site_live_bytes")
    pages = [page_site(symbol=f"f{i}", live=Live(1, 1000 - i)) for i in range(100)]
    slab = page_site(symbol="d_alloc", account="slab")
    percpu = page_site(kind=BlockKind.PERCPU, account="percpu", live=Live(1, 7), module="card")
    found = dict(metric.rows(snapshot(page_sites=(*pages, slab, percpu))))
    assert len(found) == MAX_PAGE_SITES + 2
    assert found["pages", "f0+0x1a8", "", "alloc_pages"] == 1000
    assert found["percpu", "anon_pipe_write+0x1a8", "card", "alloc_pages"] == 7
    assert sum(found.values()) == 7 + sum(1000 - i for i in range(100))
    assert ("pages", OTHER, OTHER, OTHER) in found


def test_devices_with_most_dma_memory_have_series() -> None:
    metric = next(m for m in CATALOGUE if m.name == "slabmon_device_dma_bytes")
    cards = [
        device(name=f"card{i}", dma_bytes=4096 * (100 - i), dma_allocs=100) for i in range(100)
    ]
    freed = device("usb", "1-1", driver=None, dma_bytes=0, dma_allocs=7)
    others = (device(name="managed", dma_bytes=0), device(name="of an earlier format"))
    found = dict(metric.rows(snapshot(devices=(*reversed(cards), *others))))
    assert len(found) == MAX_DMA_DEVICES + 1
    assert found["pci", "card0", "virtio-pci"] == 409600
    assert sum(found.values()) == sum(card.dma_bytes or 0 for card in cards)
    assert (OTHER, OTHER, OTHER) in found
    assert dict(metric.rows(snapshot(devices=(freed, *others)))) == {("usb", "1-1", ""): 0}


def test_the_largest_callers_have_series() -> None:
    metric = next(metric for metric in DAEMON if metric.name == "slabmon_caller_live_bytes")
    callers = {f"f{i} [card]": 10.0 * i for i in range(100)} | {"load_msg": 5000.0}
    found = dict(metric.rows(Daemon(callers=callers)))
    assert len(found) == MAX_CALLERS + 1
    assert found["load_msg", ""] == 5000
    assert found["f99", "card"] == 990
    assert sum(found.values()) == sum(callers.values())
    assert (OTHER, OTHER) in found
    assert dict(metric.rows(Daemon())) == {}


def test_the_largest_cgroups_have_series_with_what_runs_there() -> None:
    metric = next(metric for metric in DAEMON if metric.name == "slabmon_cgroup_live_bytes")
    names = {"c" * 64: WorkloadNames("nginx", "web-0", "shop")}
    pod = named(f"/kubepods/pod{'a' * 32}/{'c' * 64}", names)
    cgroups = {of_path(f"/system.slice/job{i}.service"): 10.0 * i for i in range(100)}
    cgroups[pod] = 5000.0
    found = dict(metric.rows(Daemon(cgroups=cgroups)))
    assert len(found) == MAX_CGROUPS + 1
    assert found[pod.cgroup, "", "nginx", "web-0", "shop"] == 5000
    assert found["/system.slice/job99.service", "job99.service", "", "", ""] == 990
    assert sum(found.values()) == sum(cgroups.values())
    assert (OTHER,) * len(CGROUP_LABELS) in found
    assert dict(metric.rows(Daemon())) == {}


def test_a_label_of_many_names_is_bounded() -> None:
    names = [f"cache_number_{i}" for i in range(100)]
    label = alias_label(names)
    assert len(label) <= 254
    assert label.startswith("cache_number_0,cache_number_1,")
    assert label.endswith(",...")
    assert set(label.removesuffix(",...").split(",")) <= set(names)


def test_the_page_lists_every_metric_with_type_and_help() -> None:
    page = markdown()
    for metric in ALL:
        labels = ", ".join(metric.labels)
        assert f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |" in page


def test_the_page_is_a_table_of_four_columns() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}


def test_the_documentation_is_generated_from_the_catalogue() -> None:
    """`make docs` writes it."""
    page = ROOT / "docs" / "metrics.md"
    assert page.read_text() == markdown()
