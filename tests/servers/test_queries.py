# SPDX-License-Identifier: Apache-2.0
"""Every query of every panel and rule, run by a real Prometheus and, after remote write, by
VictoriaMetrics. Scraped are the live daemon on this machine's kernel and two synthetic hosts.

Over all of them no query may be empty. Of the live host alone those of EMPTY may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.live.daemon import Daemon, free_port
from tests.servers.compressed import HOUR, PACE, SCRAPES, compressed, write_rules
from tests.servers.exposed import exporter
from tests.servers.processes import Server, prometheus, query, victoria_metrics, wait_for
from tests.servers.synthetic import SyntheticHost
from tests.support.boards import ALERTS, RECORDS, PanelQuery, panel_queries

pytestmark = [pytest.mark.servers, pytest.mark.live, pytest.mark.beside]
QUERIES = list(panel_queries())
RULES = {**RECORDS, **{name: rule["expr"] for name, rule in ALERTS.items()}}
ALL = ".+"

_SECOND_MINUTE = "the daemon knows its cost after its second minute"
_NO_STATISTICS = "BPF statistics run for one second in sixty"
_FIRST_CENSUS = "the first census is taken a minute after the start"
_NO_ORPHANS = "orphans are not looked for by default"
_QUIET = "nothing of the kind happens on a healthy host"
_NO_PROFILE = "few kernels profile allocations"
_NO_DMA = "drivers may allocate no memory for DMA while they are watched"
_NO_MODULES = "this kernel may have no modules that allocate"
# Queries that may be empty on the live host, and why. Nothing else may.
EMPTY = {
    "host.json: Features that are not fully on: A": "everything may be on",
    "host.json: Memory lasts for: A": _QUIET,
    "host.json: Exhaustion of memory: A": _QUIET,
    "host.json: Exhaustion of memory: B": _QUIET,
    "host.json: Exhaustion of memory: C": _QUIET,
    "host.json: Growth that exhausts memory: A": _QUIET,
    "host.json: Suspects: A": _QUIET,
    "host.json: Growth of suspects: A": _QUIET,
    "host.json: Who is behind suspects: A": _QUIET,
    "host.json: Dismissed growth by reason: B": _QUIET,
    "host.json: Allocations by NUMA node: A": "there may be one node only",
    "host.json: Web process: C": "history is not kept by default",
    "host.json: Page allocations: A": "not asked for by default",
    "host.json: Page frees: A": "not asked for by default",
    "host.json: Memory by line of the kernel's source: A": _NO_PROFILE,
    "host.json: Allocations by line of the kernel's source: A": _NO_PROFILE,
    "host.json: Caches with unobserved frees: A": "none may have been seen to",
    "host.json: CPU time, and the budget: A": _SECOND_MINUTE,
    "host.json: Run time of BPF programs: A": _NO_STATISTICS,
    "host.json: Disabled for the budget: A": _QUIET,
    "host.json: Memory in use by owner: A": _FIRST_CENSUS,
    "host.json: Objects in use by owner: A": _FIRST_CENSUS,
    "host.json: Slab memory by cgroup: A": _FIRST_CENSUS,
    "host.json: Certainty of the owners: A": _FIRST_CENSUS,
    "host.json: Orphans: A": _NO_ORPHANS,
    "host.json: Objects nothing refers to: A": _NO_ORPHANS,
    "host.json: Age: A": _FIRST_CENSUS,
    "host.json: Duration: A": _FIRST_CENSUS,
    "device.json: Suspects: A": _QUIET,
    "device.json: DMA memory by device: A": _NO_DMA,
    "fleet.json: Suspected leaks by module and kernel: A": _QUIET,
    "fleet.json: Modules suspected on several kernels: A": _QUIET,
    "fleet.json: Growth of modules by kernel: A": _NO_MODULES,
    "fleet.json: Modules that grow on several kernels: A": _NO_MODULES,
    "fleet.json: Live memory of modules by host: A": _NO_MODULES,
    "fleet.json: CPU time of slabmon: A": _SECOND_MINUTE,
    "fleet.json: CPU time of slabmon: B": _SECOND_MINUTE,
    "fleet.json: CPU time of slabmon: C": _SECOND_MINUTE,
    "fleet.json: Hosts on which it costs most: A": _SECOND_MINUTE,
}
EMPTY_RULES = {
    **dict.fromkeys(ALERTS, "an alert that does not fire has no series"),
    "instance:slabmon_cost_cpus:sum": _SECOND_MINUTE,
    "release_module:slabmon_leak_suspect_bytes_per_second:sum": _QUIET,
}


@dataclass
class Fleet:
    """The servers, and the instances that they scrape."""

    prometheus: Server
    victoria: Server
    live: str
    synthetic: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("queries")
    daemon = Daemon(folder)
    daemon.config.write_text("[state]\nkeep = false\n")
    old, new = SyntheticHost("6.1.0"), SyntheticHost("6.12.0", up=False)
    daemon.start()
    try:
        with (
            exporter(old.scrape) as first,
            exporter(new.scrape) as second,
            victoria_metrics(folder) as victoria,
        ):
            live, dead = daemon.url.removeprefix("http://"), f"127.0.0.1:{free_port()}"
            config: dict[str, Any] = {
                "global": SCRAPES,
                "rule_files": [write_rules(folder)],
                "remote_write": [{"url": f"{victoria.url}/api/v1/write"}],
                "scrape_configs": [
                    {
                        "job_name": "slabmon",
                        "static_configs": [{"targets": [live, first, second, dead]}],
                    }
                ],
            }
            with prometheus(folder, config) as server:
                found = Fleet(server, victoria, live, f"{first}|{second}")
                # The longest look back, and what the rules need to see of it.
                enough = f'slabmon_up{{instance="{live}"}} offset {9 * HOUR:g}s'
                for store in (server, victoria):
                    wait_for("a past", partial(query, store, enough))
                yield found
    finally:
        daemon.signal(15)
        daemon.wait()


def _ask(store: Server, of: PanelQuery, instance: str) -> list[dict[str, Any]]:
    filled = of.filled(PACE, job="slabmon", instance=instance)
    return query(store, compressed(filled))


@pytest.mark.parametrize("store", ["prometheus", "victoria"])
def test_no_panel_is_empty_over_all_hosts(fleet: Fleet, store: str) -> None:
    server: Server = getattr(fleet, store)
    for one in QUERIES:
        wait_for(one.id, partial(_ask, server, one, ALL))


@pytest.mark.parametrize("store", ["prometheus", "victoria"])
def test_no_panel_of_the_live_host_is_empty_but_those_that_may_be(fleet: Fleet, store: str) -> None:
    server: Server = getattr(fleet, store)
    for one in QUERIES:
        if one.id not in EMPTY:
            wait_for(one.id, partial(_ask, server, one, fleet.live))


def test_what_may_be_empty_is_there() -> None:
    assert set(EMPTY) <= {one.id for one in QUERIES}
    assert set(EMPTY_RULES) <= set(RULES)


def test_series_have_the_labels_that_legends_columns_and_links_name(fleet: Fleet) -> None:
    for one in QUERIES:
        # Of a live host the ten largest may all have an empty label, such as no module.
        series = _ask(fleet.prometheus, one, fleet.synthetic)
        has = set().union(*(found["metric"] for found in series))
        if one.panel["type"] == "table":
            options = one.panel["transformations"][0]["options"]
            named = set(options["include"]["names"]) - {"Value"}
        else:
            named = set(re.findall(r"\{\{(\w+)\}\}", one.target["legendFormat"]))
        for link in one.panel["fieldConfig"]["defaults"].get("links", []):
            named |= set(re.findall(r"__field\.labels\.(\w+)", link["url"]))
        assert named <= has, one.id


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("store", ["prometheus", "victoria"])
def test_no_rule_is_empty_over_all_hosts(fleet: Fleet, store: str, name: str) -> None:
    server: Server = getattr(fleet, store)
    wait_for(name, lambda: query(server, compressed(RULES[name])))


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("store", ["prometheus", "victoria"])
def test_what_is_recorded_of_the_live_host_is_there(fleet: Fleet, store: str, name: str) -> None:
    if name in EMPTY_RULES:
        return
    server: Server = getattr(fleet, store)
    of_host = "" if name.startswith("release_") else f'{{instance="{fleet.live}"}}'
    wait_for(name, lambda: query(server, name + of_host))


def test_every_alert_fires_somewhere_in_this_fleet(fleet: Fleet) -> None:
    for name in ALERTS:
        firing = f'ALERTS{{alertname="{name}", alertstate="firing"}}'
        wait_for(name, partial(query, fleet.prometheus, firing))


def test_all_targets_but_the_dead_one_are_scraped_without_an_error(fleet: Fleet) -> None:
    found = query(fleet.prometheus, "up")
    assert sorted(one["value"][1] for one in found) == ["0", "1", "1", "1"]


@pytest.mark.parametrize("store", ["prometheus", "victoria"])
def test_servers_listen_on_the_loopback_only(fleet: Fleet, store: str) -> None:
    server: Server = getattr(fleet, store)
    assert server.listens_on() == {"127.0.0.1"}
