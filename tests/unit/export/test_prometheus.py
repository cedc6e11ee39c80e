# SPDX-License-Identifier: Apache-2.0
"""Snapshots as Prometheus metrics, read back with the parsers of prometheus_client."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric

from slabmon.base.workloads import of_path
from slabmon.export.metrics import CATALOGUE, CENSUS, DAEMON, VERDICTS, Daemon, Type
from slabmon.export.metrics import Metric as Known
from slabmon.export.prometheus import Exporter, Exposition, merge
from slabmon.export.series import MAX_SERIES, OTHER
from slabmon.model import GfpClass, Live, NodeUse, PageOrder, SizeBucket, Slabinfo, Snapshot
from slabmon.runtime.budget import STEPS, Cost
from slabmon.runtime.figures import BudgetFigures, DaemonFigures, MemoryFigures, ProcessMemory
from slabmon.web.handlers.telemetry import encode, negotiate
from tests.servers.synthetic import SyntheticHost
from tests.support import scraping
from tests.support.builders import cache, device, site, snapshot

Series = tuple[str, tuple[tuple[str, str], ...]]
Values = dict[Series, float]


DAEMON_NOW = Daemon(
    callers={"load_msg": 64.0, "probe [card]": 128.0},
    cgroups={of_path("/system.slice/sshd.service"): 64.0},
    figures=DaemonFigures(
        snapshot_seconds=0.125,
        collector_cpu_seconds=2,
        web_cpu_seconds=3,
        memory=MemoryFigures(
            collector=ProcessMemory(resident=4, proportional=6),
            web=ProcessMemory(resident=5, proportional=7),
            bpf_bytes=8,
        ),
        budget=BudgetFigures(
            limit_cpus=0.02, cost=Cost(0.02, 0.03, 0.01), steps_taken=(STEPS[0].name,)
        ),
        web_restarts=9,
    ),
    age=0.25,
    census_age=60.0,
    scrape_seconds=0.5,
    errors={"timeout": 1},
    connections=2,
    refused={"slow": 3},
    history=True,
)
ALL: tuple[Known[Any], ...] = (*DAEMON, *CATALOGUE)


class Scraper:
    """One daemon's exporter; each scrape shows another snapshot."""

    def __init__(self) -> None:
        self._exporter = Exporter()

    def text(self, now: Snapshot | None, daemon: Daemon = DAEMON_NOW) -> str:
        return scraping.text(self._exporter.families(now, daemon))

    def openmetrics(self, now: Snapshot) -> str:
        return scraping.openmetrics(self._exporter.families(now, DAEMON_NOW))

    def values(self, now: Snapshot) -> Values:
        """Samples by name and labels; a duplicate is an error."""
        return _values(scraping.parse_text(self.text(now)))


def _values(families: Iterable[Metric]) -> Values:
    found: Values = {}
    for family in families:
        for sample in family.samples:
            series = sample.name, tuple(sorted(sample.labels.items()))
            assert series not in found, series
            found[series] = sample.value
    return found


def of(values: Values, name: str) -> dict[tuple[str, ...], float]:
    """Values of one metric by the values of its labels, in order of label name."""
    return {
        tuple(label for _, label in labels): value
        for (metric, labels), value in values.items()
        if metric == name
    }


@pytest.fixture
def scraper() -> Scraper:
    return Scraper()


def test_values_are_those_of_the_snapshot(scraper: Scraper) -> None:
    found = scraper.values(snapshot())
    caches = {("kmalloc-64",): 101.0, ("kmalloc-large",): 2.0}
    assert of(found, "slabmon_cache_allocations_total") == caches
    assert of(found, "slabmon_cache_live_bytes")["kmalloc-64",] == 6016
    assert of(found, "slabmon_cache_slab_bytes") == {("kmalloc-64",): 16_384.0}
    assert of(found, "slabmon_allocation_failures_total")["kmalloc-64",] == 3
    assert of(found, "slabmon_site_allocations_total") == {
        ("", "alloc_thing+0x1c"): 100.0,
        ("card", "probe_card+0x40"): 3.0,
    }
    assert of(found, "slabmon_device_managed_bytes")["pci", "0000:00:03.0", "virtio-pci"] == 300
    assert of(found, "slabmon_device_slab_bytes") == {("pci", "0000:00:03.0", "virtio-pci"): 512.0}
    assert of(found, "slabmon_gfp_allocations_total")["atomic",] == 1
    assert of(found, "slabmon_lost_events_total")["samples_full",] == 2
    assert of(found, "slabmon_bpf_runs_total")["kfree",] == 2000
    assert of(found, "slabmon_bpf_run_seconds_total")["kmalloc",] == 0.25
    assert of(found, "slabmon_feature_state")["stacks", "degraded"] == 1
    assert of(found, "slabmon_feature_state")["stacks", "on"] == 0
    assert of(found, "slabmon_tracking_since_seconds") == {(): 1_700_000_000.25}
    assert of(found, "slabmon_up") == {(): 1.0}
    assert of(found, "slabmon_snapshot_seconds") == {(): 0.125}


def test_openmetrics_has_the_same_samples(scraper: Scraper) -> None:
    now = snapshot()
    other = _values(scraping.parse_openmetrics(scraper.openmetrics(now)))
    assert scraper.values(now) == other


def test_each_family_has_help_and_the_type_of_the_catalogue(scraper: Scraper) -> None:
    families = {
        family.name: family
        for family in scraping.parse_openmetrics(scraper.openmetrics(snapshot()))
    }
    for metric in ALL:
        assert families[metric.name].type == metric.kind
        assert families[metric.name].documentation == metric.help


def test_only_slabmons_own_metrics_are_exported(scraper: Scraper) -> None:
    assert all(name.startswith("slabmon_") for name, _ in scraper.values(snapshot()))


def test_every_metric_of_the_catalogue_has_a_sample(scraper: Scraper) -> None:
    now = snapshot()
    everything = replace(now, caches=(*now.caches, cache("dentry", reclaimable=True)))
    names = {name for name, _ in scraper.values(everything)}
    assert {metric.exposed for metric in ALL} <= names


def test_request_sizes_are_a_histogram(scraper: Scraper) -> None:
    shown = scraper.values(snapshot())
    assert of(shown, "slabmon_request_size_bytes_bucket") == {
        ("64.0",): 90.0,
        ("128.0",): 103.0,
        ("+Inf",): 103.0,
    }
    assert of(shown, "slabmon_request_size_bytes_count") == {(): 103.0}
    assert of(shown, "slabmon_request_size_bytes_sum") == {(): 6_300.0}


def test_a_sum_that_was_not_recorded_is_not_a_number(scraper: Scraper) -> None:
    shown = scraper.values(snapshot(sizes=(SizeBucket(64, 90),)))
    assert math.isnan(of(shown, "slabmon_request_size_bytes_sum")[()])


ACCEPT_1, ACCEPT_2 = (
    f"application/openmetrics-text; version={version}" for version in ("1.0.0", "2.0.0")
)


def negotiated(accept: str, shown: Snapshot, exporter: Exporter | None = None) -> str:
    content_type = negotiate(accept)
    exposition = Exposition.of(content_type)
    families = (exporter or Exporter()).families(shown, Daemon(), exposition=exposition)
    return encode(content_type, families).decode()


def test_a_native_histogram_is_exposed_by_negotiation() -> None:
    sizes = (SizeBucket(8, 5, 40), SizeBucket(64, 90, 5_000), SizeBucket(128, 13, 1_300))
    newer = negotiated(ACCEPT_2, snapshot(sizes=sizes))
    # Native buckets 3, 6 and 7: 2**number is the upper bound. The syntax is that of
    # "Histogram with both Classic and Native Buckets" in the specification.
    assert (
        "# TYPE slabmon_request_size_bytes histogram\n"
        "# UNIT slabmon_request_size_bytes bytes\n"
        "# HELP slabmon_request_size_bytes Sizes of kmalloc requests since tracking began.\n"
        "slabmon_request_size_bytes {count:108,sum:6340.0,"
        "schema:0,zero_threshold:0,zero_count:0,"
        "positive_spans:[3:1,2:1,0:1],positive_buckets:[5,90,13],"
        f"bucket:[8.0:5,64.0:95,128.0:108,+Inf:108]}} st@{snapshot().tracking.since:.3f}\n"
    ) in newer
    for older in ("", "text/plain", ACCEPT_1):
        assert "schema:" not in negotiated(older, snapshot(sizes=sizes))


def test_counters_that_start_with_tracking_say_so_in_openmetrics() -> None:
    started = {
        family.name: {sample.value for sample in family.samples if "_created" in sample.name}
        for family in scraping.parse_openmetrics(negotiated(ACCEPT_1, snapshot()))
    }
    since = {snapshot().tracking.since}
    for metric in CATALOGUE:
        starts = metric.kind != Type.GAUGE and not metric.bound
        assert started[metric.name] == (since if starts else set()), metric.name
    assert "_created" not in negotiated("text/plain", snapshot())


def test_all_counters_of_the_host_have_a_start_time_in_openmetrics_2() -> None:
    scraped = negotiated(ACCEPT_2, grown(1, 3))
    assert "_created" not in scraped
    assert scraped.endswith("\n# EOF\n")
    start = f" st@{snapshot().tracking.since:.3f}"
    for metric in CATALOGUE:
        name = metric.name + ("_total" if metric.kind == Type.COUNTER else "")
        assert f"# TYPE {name} {metric.kind}\n" in scraped
        samples = re.findall(rf"^{name}[ {{].*", scraped, re.M)
        assert samples or metric.kind == Type.GAUGE or metric.bound == "device", name
        assert all(sample.endswith(start) == (metric.kind != Type.GAUGE) for sample in samples), (
            samples
        )


def test_openmetrics_2_escapes_as_openmetrics_1_does() -> None:
    shown = snapshot(caches=(cache('a"\\b\n', allocs=7),))
    line = 'slabmon_cache_allocations_total{cache="a\\"\\\\b\\n"} 7.0'
    assert f"\n{line}\n" in negotiated(ACCEPT_1, shown)
    assert f"\n{line} st@" in negotiated(ACCEPT_2, shown)


def test_a_row_that_was_folded_starts_when_it_gets_its_series() -> None:
    """At its start time a counter was 0, whatever row it is of."""
    exporter, since = Exporter(1000), snapshot().tracking.since
    seen = []
    for step, allocs in enumerate((1, 10**6, 10**6 + 7)):
        host = grown(1, 400)
        sites = (*host.sites[:-1], host.sites[-1]._replace(allocs=allocs))
        tracking = replace(host.tracking, seconds=10.0 * (1 + step))
        scraped = negotiated(ACCEPT_2, replace(host, sites=sites, tracking=tracking), exporter)
        started = {
            site: (float(value), float(start) - since)
            for site, value, start in re.findall(
                r'^slabmon_site_allocations_total{site="(\w+).*} (\S+) st@(\S+)$', scraped, re.M
            )
        }
        seen.append(started.get("f399"))
        others = {start for site, (_, start) in started.items() if site != "f399"}
        assert others == {0.0}, "rows that always had a series, and the others added up"
    assert seen == [None, (0.0, 20.0), (7.0, 20.0)]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's promtool")
def test_promtool_finds_nothing_to_complain_about() -> None:
    scraped = SyntheticHost("6.1").scrape()
    assert {metric.exposed for metric in (*ALL, *CENSUS, *VERDICTS)} <= set(
        re.findall(r"^\w+", scraped, re.M)
    )
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(NAMES, max_size=6), st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=4))
def test_any_names_make_a_scrape_without_duplicates(
    names: list[str], devices: list[tuple[str, str, str]]
) -> None:
    """Rows of equal labels are added up: one duplicate would fail the whole scrape."""
    now = snapshot(
        caches=tuple(cache(name, allocs=1) for name in names),
        sites=tuple(site(name, 1, name, allocs=1) for name in names),
        devices=tuple(
            device(bus, name, driver=driver, resources=1) for bus, name, driver in devices
        ),
    )
    scraper = Scraper()
    for values in (
        scraper.values(now),
        _values(scraping.parse_openmetrics(scraper.openmetrics(now))),
    ):
        wanted = {(name,): float(count) for name, count in Counter(names).items()}
        assert of(values, "slabmon_cache_allocations_total") == wanted
        held = of(values, "slabmon_device_managed_resources")
        assert sum(held.values()) == len(devices)


def grown(step: int, sites: int) -> Snapshot:
    """The step-th of a sequence: every counter has grown, and there are more sites."""
    amount = [1 + (i * 37 + 11) % 101 for i in range(sites)]
    return snapshot(
        sites=tuple(
            site(
                f"f{i}",
                i,
                None,
                allocs=step * n,
                allocated_bytes=step * n * 64,
                failed=step,
                live=Live(n, 64 * n),
            )
            for i, n in enumerate(amount)
        ),
        caches=tuple(
            cache(
                f"c{i}",
                allocs=step * n,
                frees=step,
                failed=step,
                requested_bytes=step * n,
                allocated_bytes=step * n,
                freed_bytes=step,
                unobserved_frees=step,
                slabinfo=Slabinfo(1, 1, 64, 4096) if i % 2 else None,
            )
            for i, n in enumerate(amount)
        ),
        gfp=(GfpClass("kernel", step, step, step),),
        sizes=(SizeBucket(64, step),),
        nodes=(NodeUse(0, step, step),),
        pages=(PageOrder(0, "kernel", step, 0, 0), PageOrder(0, None, 0, step, 0)),
        losses={"samples_full": step},
    )


def test_counters_never_fall_while_there_are_more_rows_than_series(scraper: Scraper) -> None:
    before: Values = {}
    for step, rows in enumerate([10, 150, 400, 400, 2000], 1):
        now = scraper.values(grown(step, rows))
        assert len(now) <= MAX_SERIES
        for series in before.keys() & now.keys():
            if series[0].endswith("_total"):
                assert now[series] >= before[series], series
        before = now


def test_rows_beyond_the_bound_are_added_up_and_counted(scraper: Scraper) -> None:
    now = grown(3, 2000)
    found = scraper.values(now)
    series = of(found, "slabmon_site_allocations_total")
    assert series[OTHER, OTHER] > 0
    assert sum(series.values()) == sum(row.allocs for row in now.sites)
    folded = of(found, "slabmon_folded_series")
    assert folded["site",] == 2000 - (len(series) - 1)
    assert folded["cache",] == 2000 - (len(of(found, "slabmon_cache_allocations_total")) - 1)
    assert folded["device",] == 0


def test_the_largest_keep_a_series_of_their_own(scraper: Scraper) -> None:
    now = grown(1, 2000)
    series = of(scraper.values(now), "slabmon_site_allocations_total")
    del series[OTHER, OTHER]
    left_out = {row.allocs for row in now.sites if ("", row.label) not in series}
    assert max(left_out) <= min(series.values())


def test_equal_label_sets_are_added_up() -> None:
    assert merge([(("a",), 1), (("b",), 2), (("a",), 3)]) == {("a",): 4, ("b",): 2}


def test_folded_caches_do_not_claim_a_sum_of_yes_and_no(scraper: Scraper) -> None:
    """cache_frees_observable is 0 or 1, for the folded ones as well."""
    values = of(scraper.values(grown(1, 2000)), "slabmon_cache_frees_observable")
    assert set(values.values()) <= {0.0, 1.0}


def test_the_daemon_tells_its_own_figures(scraper: Scraper) -> None:
    found = scraper.values(snapshot())
    assert of(found, "slabmon_snapshot_age_seconds") == {(): 0.25}
    assert of(found, "slabmon_scrape_duration_seconds") == {(): 0.5}
    assert of(found, "slabmon_scrape_errors_total") == {("timeout",): 1.0}
    assert of(found, "slabmon_process_cpu_seconds_total") == {("collector",): 2.0, ("web",): 3.0}
    memory = "slabmon_process_resident_bytes", "slabmon_process_proportional_bytes"
    assert [of(found, name) for name in memory] == [
        {("collector",): 4.0, ("web",): 5.0},
        {("collector",): 6.0, ("web",): 7.0},
    ]
    assert of(found, "slabmon_bpf_memory_bytes") == {(): 8.0}
    assert of(found, "slabmon_budget_cpus") == {(): 0.02}
    assert of(found, "slabmon_cost_cpus") == {
        ("collector",): 0.02,
        ("web",): 0.03,
        ("bpf",): 0.01,
    }
    taken = {(step.name,): float(step is STEPS[0]) for step in STEPS}
    assert of(found, "slabmon_budget_step_taken") == taken
    assert of(found, "slabmon_web_restarts_total") == {(): 9.0}
    assert of(found, "slabmon_web_configuration_failed") == {(): 0.0}
    assert of(found, "slabmon_http_refused_connections_total") == {("slow",): 3.0}


def test_a_cost_that_is_not_measured_has_no_sample(scraper: Scraper) -> None:
    figures = DaemonFigures(budget=BudgetFigures(cost=Cost(0.02, 0.03, None)))
    values = _values(scraping.parse_text(scraper.text(snapshot(), Daemon(figures=figures))))
    parts = of(values, "slabmon_cost_cpus")
    assert parts == {("collector",): 0.02, ("web",): 0.03}


def test_without_a_snapshot_only_the_daemon_is_told_of() -> None:
    """What is not known has no sample; that nothing is known has one."""
    found = _values(scraping.parse_text(Scraper().text(None, Daemon(up=False))))
    assert of(found, "slabmon_up") == {(): 0.0}
    assert {name for name, _ in found} <= {metric.exposed for metric in DAEMON}
    assert not of(found, "slabmon_snapshot_age_seconds")


def test_openmetrics_names_units(scraper: Scraper) -> None:
    page = scraper.openmetrics(snapshot())
    for metric in ALL:
        assert (f"# UNIT {metric.name} {metric.unit}\n" in page) == bool(metric.unit), metric.name
