# SPDX-License-Identifier: Apache-2.0
"""The table of views: complete, consistent, and the same rows however they are reached."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from slabmon.base.units import (
    BYTES,
    BYTES_PER_HOUR,
    BYTES_PER_SECOND,
    COUNT,
    PER_SECOND,
    PERCENT,
    SECONDS,
)
from slabmon.base.workloads import WorkloadNames
from slabmon.model import FeatureState, KnownBy, Live, Release, ServedDevice, Snapshot, State
from slabmon.tui.help import markdown
from slabmon.views import columns as c
from slabmon.views.catalogue import VIEWS
from slabmon.views.drilldown import follow_link, grouped_view
from slabmon.views.filtering import mask
from slabmon.views.summary import summarize
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant
from tests.support.builders import Object, cache, device, site, snapshot, tracked, window_of
from tests.support.paths import ROOT

UNITS = {
    "",
    COUNT,
    BYTES,
    SECONDS,
    PERCENT,
    PER_SECOND,
    BYTES_PER_SECOND,
    BYTES_PER_HOUR,
}
OBJECTS = [
    Object(cache=0, site=0, bytes=64, stack=7),
    Object(cache=0, site=1, bytes=128, comm=b"dd", tgid=5, cgroup=2, stack=8),
    Object(cache=1, site=1, bytes=512, comm=b"dd", tgid=5, cgroup=2, stack=8),
]
FOUND = snapshot(
    caches=(cache("a"), cache("b")),
    sites=(site("open", 4, allocated_bytes=64), site("probe", 8, "card", allocated_bytes=640)),
    devices=(
        device(
            name="x",
            driver="card",
            module="card",
            managed_bytes=10,
            slab_bytes=16,
            resources=2,
            by_release=(Release("r1", 1, 4), Release("r2", 1, 6)),
            slab_by_cache={"a": 16},
        ),
        device(
            name="y",
            driver="card2",
            module="card",
            managed_bytes=1,
            slab_bytes=None,
            by_release=(Release("r1", 1, 1),),
        ),
        device(name="z", driver="card", module=None, managed_bytes=5),
        device(name="w", driver=None, module=None, managed_bytes=7),
    ),
    tracked=tracked(OBJECTS, {7: ("kmalloc", "open"), 8: ("kmalloc", "probe")}, {1: "/", 2: "/b"}),
)


def rows(view: View, *columns: str, of: Snapshot = FOUND) -> list[tuple[Any, ...]]:
    table = Table.of(view, of)
    return table.cells(table.order(), [view.column(name) for name in columns])


@pytest.mark.parametrize("view", VIEWS.values(), ids=lambda view: view.name)
def test_every_view_is_complete(view: View) -> None:
    names = [column.name for column in view.columns]
    assert len(set(names)) == len(names)
    assert set(view.brief) <= set(names)
    assert view.sort in ("", *names)
    headings = Counter(column.heading for column in view.columns)
    assert set(headings.values()) == {1}, headings
    for column in view.columns:
        assert isinstance(column.kind, c.Kind)
        assert column.unit in UNITS
        assert column.help.endswith(".")
        assert "\n" not in column.help
    assert view.columns[0].kind == c.Kind.LABEL
    for link in view.links:
        assert bool(link.view) != bool(link.by)
        assert not link.view or link.view in VIEWS


@pytest.mark.parametrize("view", VIEWS.values(), ids=lambda view: view.name)
def test_every_view_can_be_ordered_by_every_column_both_ways(view: View) -> None:
    table = Table(view, window_of(FOUND, later(5)))
    for column in table.columns:
        forth, back = table.order(column.name), table.order(column.name, inverted=True)
        assert sorted(forth) == sorted(back) == list(range(len(table)))


def later(seconds: float, **fields: Any) -> Snapshot:
    tracking = replace(FOUND.tracking, seconds=FOUND.tracking.seconds + seconds)
    return replace(FOUND, tracking=tracking, **fields)


def test_the_views_that_scripts_name_are_there() -> None:
    assert {
        "caches",
        "sites",
        "devices",
        "resources",
        "drivers",
        "cgroups",
        "processes",
        "gfp",
        "modifiers",
        "sizes",
        "pages",
        "nodes",
        "losses",
        "features",
    } <= set(VIEWS)


def test_a_driver_has_its_sites_and_its_devices() -> None:
    found = {
        row[0]: row[1:]
        for row in rows(
            VIEWS["drivers"],
            "name",
            "built_in",
            "driver",
            "devices",
            "managed_bytes",
            "slab_bytes",
            "sites",
            "live_bytes",
        )
    }
    # A built-in driver of the module's driver's name is another row.
    assert found == {
        "card": (True, "card", 1, 5, 0, 0, 0),
        "[core kernel]": (True, "", 0, 0, 0, 1, 64),
        "[no driver]": (True, "", 1, 7, 0, 0, 0),
    } | {"card": found["card"]}
    by_key = Table.of(VIEWS["drivers"], FOUND).listing.position
    assert set(by_key) == {
        (False, "card"),
        (True, "card"),
        (True, "[core kernel]"),
        (True, "[no driver]"),
    }
    assert rows(VIEWS["drivers"], "name", "driver", "devices", "live_bytes", "slab_bytes")[0] == (
        "card",
        "card, card2",
        2,
        640,
        None,
    )


def test_cgroups_and_processes_hold_what_they_allocated() -> None:
    assert rows(VIEWS["cgroups"], "cgroup", "live_bytes") == [("/b", 640), ("/", 64)]
    assert rows(VIEWS["processes"], "process", "pid", "live_objects") == [
        ("dd", "5", 2),
        ("cat", "100", 1),
    ]


def test_cgroups_without_their_paths_are_shown_by_number() -> None:
    bare = replace(FOUND, tracked=replace(FOUND.tracked, cgroups={}))
    assert {row[0] for row in rows(VIEWS["cgroups"], "cgroup", of=bare)} == {"[1]", "[2]"}


def test_the_view_of_cgroups_says_why_there_are_none() -> None:
    assert Table.of(VIEWS["cgroups"], FOUND).note == ""
    reason = "the kernel's BTF does not describe cgroups"
    features = {**FOUND.features, "cgroups": FeatureState(State.OFF, reason)}
    assert Table.of(VIEWS["cgroups"], replace(FOUND, features=features)).note == reason


def test_cgroups_are_shown_with_what_runs_in_them() -> None:
    path = f"/kubepods/pod{'a' * 32}/{'c' * 64}"
    names = {"c" * 64: WorkloadNames("nginx", "web-0", "shop")}
    shown = replace(
        FOUND, tracked=replace(FOUND.tracked, cgroups={1: "/", 2: path}), workloads=names
    )
    columns = ("workload", "unit", "container", "pod", "namespace", "container_id", "pod_uid")
    assert rows(VIEWS["cgroups"], *columns, of=shown) == [
        ("shop/web-0/nginx", None, "nginx", "web-0", "shop", "c" * 64, "a" * 32),
        ("/", None, None, None, None, None, None),
    ]
    table = Table.of(VIEWS["cgroups"], shown)
    for text in (
        "nginx",
        "web-0",
        "shop",
        "shop/web-0",
        "ccccccc",
        "pod ~ web",
        "pod_uid = " + "a" * 32,
    ):
        found = [table.values("workload")[row] for row in table.order(keep=mask(text, table))]
        assert found == ["shop/web-0/nginx"], text


def descend(view: View, name: str, title: str) -> View:
    """Along the link of this title from the row that is called so."""
    table = Table.of(view, FOUND)
    first = table.values(view.columns[0].name).tolist()
    if view.name.startswith("devices"):
        first = table.values("name").tolist()
    (link,) = [link for link in view.links if link.title == title]
    return follow_link(link, view, table.listing.rows[first.index(name)], VIEWS)


def test_from_a_cache_to_its_sites_to_their_stacks() -> None:
    sites = descend(VIEWS["caches"], "a", "sites")
    assert rows(sites, "site", "live_bytes") == [("probe+0x8 [card]", 128), ("open+0x4", 64)]
    stacks = descend(sites, "probe+0x8 [card]", "stacks")
    assert rows(stacks, "stack", "live_bytes") == [("probe;kmalloc", 128)]
    assert not stacks.links


def test_from_a_site_to_all_of_its_caches() -> None:
    caches = descend(VIEWS["sites"], "probe+0x8", "caches")
    assert rows(caches, "cache", "live_bytes") == [("b", 512), ("a", 128)]


def test_from_a_device_to_its_resources_and_caches() -> None:
    resources = descend(VIEWS["devices"], "x", "resources")
    assert rows(resources, "release", "bytes") == [("r2", 6), ("r1", 4)]
    assert rows(descend(VIEWS["devices"], "x", "caches"), "cache", "bytes") == [("a", 16)]
    table = Table.of(resources, FOUND)
    (link,) = resources.links
    same = follow_link(link, resources, table.listing.rows[0], VIEWS)
    assert rows(same, "name", "release") == [("x", "r1"), ("y", "r1")]


def test_from_a_driver_to_its_devices_and_sites() -> None:
    assert rows(descend(VIEWS["drivers"], "card", "devices"), "name") == [("x",), ("y",)]
    sites = descend(VIEWS["drivers"], "card", "sites")
    assert rows(sites, "site", "oldest_seconds") == [("probe+0x8", 1.0)]


@pytest.mark.parametrize(
    ("view", "name"), [("cgroups", "/b"), ("processes", "dd"), ("gfp", "kernel")]
)
def test_from_other_owners_to_caches(view: str, name: str) -> None:
    found = dict(rows(descend(VIEWS[view], name, "caches"), "cache", "live_bytes"))
    assert found == {"b": 512, "a": 192 if view == "gfp" else 128}


def test_from_a_modifier_to_the_sites_of_objects_that_have_it() -> None:
    atomic = [*OBJECTS, Object(site=1, bytes=32, gfp=0x920), Object(site=0, bytes=8, gfp=0xDC0)]
    host = replace(FOUND, tracked=tracked(atomic))
    table = Table.of(VIEWS["modifiers"], host)
    found = {}
    for row in table.listing.rows:
        (link,) = [link for link in table.view.links if link.title == "sites"]
        view = follow_link(link, table.view, row, VIEWS)
        found[table.view.key(row)] = dict(rows(view, "site", "live_bytes", of=host))
    assert {name: sites for name, sites in found.items() if sites} == {
        "zero": {"probe+0x8 [card]": 32, "open+0x4": 8},
        "high": {"probe+0x8 [card]": 32},
    }


def test_a_narrowed_view_keeps_rates_and_history() -> None:
    narrow = descend(VIEWS["drivers"], "card", "sites")
    sites = tuple(s._replace(allocs=20, live=Live(1, 99)) for s in FOUND.sites)
    table = Table(narrow, window_of(FOUND, later(10, sites=sites)))
    columns = [narrow.column(name) for name in ("allocs_per_second", "history")]
    assert table.cells(table.order(), columns) == [(2.0, [0, 99])]


def test_views_by_any_dimensions_lead_on() -> None:
    view = grouped_view(("module", "size"))
    assert rows(view, "module", "size", "live_bytes") == [
        ("card", "512", 512),
        ("card", "128", 128),
        ("", "64", 64),
    ]
    (link,) = [link for link in view.links if link.title == "caches"]
    row = next(r for r in Table.of(view, FOUND).listing.rows if r.labels == ("card", "512"))  # type: ignore[attr-defined]
    assert rows(follow_link(link, view, row, VIEWS), "cache", "live_bytes") == [("b", 512)]


def test_figures_since_a_mark_are_differences() -> None:
    caches = (cache("a", allocs=7, live=Live(3, 300, 40, 1, 2)), cache("new", allocs=2))
    mark = later(0, caches=(cache("a", allocs=5, live=Live(1, 100, 30, 1, 2)),))
    view = VIEWS["caches"]
    table = Table(view, window_of(later(0), later(1, caches=caches)), Instant(mark))
    columns = [
        view.column(name)
        for name in (
            "name",
            "object_size",
            "allocs",
            "live_bytes",
            "live_stderr_bytes",
            "live_low_bytes",
        )
    ]
    assert table.cells([0, 1], columns) == [
        ("a", 64, 2, 200, 50, None),
        ("new", 64, 2, 0, 0, None),
    ]


def test_a_mark_of_another_session_is_void() -> None:
    tracking = replace(FOUND.tracking, since=1.0)
    table = Table(VIEWS["caches"], window_of(FOUND), Instant(replace(FOUND, tracking=tracking)))
    assert table.mark is None


def test_missing_values_come_last_both_ways() -> None:
    table = Table.of(VIEWS["devices"], FOUND)
    for name in ("slab_bytes", "driver"):
        missing = {
            i
            for i, value in enumerate(table.values(name).tolist())
            if value is None or value != value
        }
        for inverted in (False, True):
            assert table.order(name, inverted)[-1] in missing


def test_the_documentation_is_made_from_this_table() -> None:
    page = ROOT / "docs" / "views.md"
    assert page.read_text() == markdown(), "run `make docs`"


def test_a_summary_tells_the_truth() -> None:
    features = {"kmalloc": FeatureState(State.ON, ""), "stacks": FeatureState(State.OFF, "why")}
    window = window_of(
        later(0, losses={"full": 2, "none": 0}, features=features),
        later(4, losses={"full": 10, "none": 0}, features=features),
    )
    found = summarize(window)
    assert (found.lost, found.lost_per_second, found.losses) == (10, 2.0, (("full", 10),))
    assert found.limited == {"off": ("stacks",)}
    assert found.event_seconds == 0.75 / 3000
    assert found.seconds == 4
    assert summarize(window_of(later(0, programs=()))).cpu_ratio is None


def test_call_sites_show_their_device_where_one_is_known() -> None:
    card = ServedDevice(
        bus="pci", name="0000:01:00.0", driver="nvme", module="nvme", known_by=KnownBy.PROBE
    )

    def brief(*devices: int) -> list[str]:
        objects = [Object(device=number) for number in devices]
        fields = {"tracked": tracked(objects, devices={1: card})}
        window = window_of(later(0, **fields), later(1, **fields))
        return [column.name for column in Table(VIEWS["sites"], window).brief]

    assert brief(0, 1).index("device") == brief(0, 1).index("history") + 1
    assert "device" not in brief(0, 0)
