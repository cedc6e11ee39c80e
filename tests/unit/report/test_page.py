# SPDX-License-Identifier: Apache-2.0
"""The page as a file: its figures, its size, and that nothing in it can do harm."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from slabmon.export.text import to_dict
from slabmon.model import Release, Snapshot
from slabmon.report.page import embedded, to_page
from slabmon.views.catalogue import VIEWS
from tests.support.builders import Object, cache, device, site, window_of
from tests.support.conditions import fast_leak
from tests.support.reported import SOME, STACKED, host, report_period
from tests.support.snapshots import synthetic

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 1 }}"


class Page(HTMLParser):
    """Elements with their text; tables by title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: dict[str, list[dict[str, str]]] = {}
        self._open: list[str] = []
        self._title = ""
        self._headings: list[str] = []
        self._row: list[str] = []
        self._exact = False  # the cell's value is an attribute; what is shown is rounded
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in ("meta", "link", "input", "circle", "polygon", "polyline"):
            self._open.append(tag)
        if tag == "details":
            self._title, self._headings = found["data-table"] or "", []
            self.tables[self._title] = []
        elif tag == "tr":
            self._row = []
        elif tag == "td":
            self._row.append(found.get("data-value") or "")
            self._exact = "data-value" in found

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        if tag == "tr" and self._row and self._title and self._headings:
            self.tables[self._title].append(dict(zip(self._headings, self._row, strict=True)))
        elif tag == "details":
            self._title = ""

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        self.texts.setdefault(self._open[-1], []).append(data)
        if self._title and "thead" in self._open and self._open[-1] == "th":
            self._headings.append(data)
        elif self._open[-1] == "td" and not self._exact:
            self._row[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> Any:
        return json.loads(next(text for text in self.texts["script"] if text.startswith("{")))


def page(now: Snapshot, before: Snapshot | None = None, by: Sequence[str] = ()) -> Page:
    return Page(to_page(report_period(now, before), "live", by))


def graph(found: Page, name: str) -> Any:
    return next(one for one in found.data["graphs"] if one["id"] == name)


def test_figures_are_those_of_the_snapshot_as_json() -> None:
    snapshot = host(SOME)
    found, document = page(snapshot, by=("process",)), to_dict(snapshot, ("process",))
    caches = found.tables["slab caches, and page-backed kmalloc as kmalloc-large"]
    wanted = {row["name"]: row for row in document["caches"]}
    assert [row["name"] for row in caches] == ["dentry", "kmalloc-64", "kmalloc-large"]
    for row in caches:
        for heading, key in (
            ("live", "live_bytes"),
            ("at most", "live_high_bytes"),
            ("allocated", "allocated_bytes"),
            ("failed", "failed"),
        ):
            assert int(row[heading]) == wanted[row["name"]][key], (row["name"], key)
    groups = found.tables["process"]
    assert {row["process"]: int(row["live"]) for row in groups} == {
        row["process"]: row["live_bytes"] for row in document["groups"]
    }
    sites = found.tables["call sites that allocate"]
    assert {row["site"]: int(row["allocated"]) for row in sites} == {
        f"{row['symbol']}+{row['offset']:#x}": row["allocated_bytes"] for row in document["sites"]
    }
    devices = found.tables["devices with managed (devres) resources or DMA memory"]
    assert [int(row["managed"]) for row in devices] == [
        row["managed_bytes"] for row in document["devices"]
    ]
    live = sum(row["live_bytes"] for row in document["caches"])
    assert graph(found, "live")["tree"]["size"][0] == live
    assert graph(found, "by")["tree"]["size"][0] == live
    assert graph(found, "allocated")["tree"]["size"][0] == sum(
        row["allocated_bytes"] for row in document["sites"]
    )
    assert graph(found, "stacked")["tree"]["size"][0] == STACKED.bytes.sum()


def test_a_change_shows_differences() -> None:
    before, now = host(SOME[:3], 60), host(SOME, 120)
    found = page(now, before)
    change = sum(c.live.bytes for c in now.caches) - sum(c.live.bytes for c in before.caches)
    live = graph(found, "live")
    assert live["diff"]
    assert live["tree"]["net"][0] == change
    rows = found.tables["slab caches, and page-backed kmalloc as kmalloc-large"]
    assert sum(int(row["live"]) for row in rows) == change


def test_it_asks_for_nothing_and_allows_nothing_else() -> None:
    text = to_page(report_period(host(SOME)), "live", ())
    found = Page(text)
    policy = next(
        meta["content"]
        for meta in found.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    for _, attributes in found.tags:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:,") == "data:,"
    assert not re.search(r"https?://|url\(|@import", text)


@pytest.mark.parametrize("by", [(), ("process", "cgroup", "stack")])
def test_hostile_names_stay_text(by: tuple[str, ...]) -> None:
    plain = host(SOME)
    tracked = replace(
        plain.tracked,
        stacks={0: (HOSTILE, "b"), 1: (HOSTILE + " [x]",), 2: ("c",)},
        cgroups={1: HOSTILE, 2: "/x"},
        comm=plain.tracked.comm.astype("S64"),
    )
    tracked.comm[:] = b"</script><script>alert(1)"
    snapshot = replace(
        plain,
        tracked=tracked,
        losses={HOSTILE: 3},
        caches=tuple(replace(row, name=f"{row.name}{HOSTILE}") for row in plain.caches),
        sites=tuple(row._replace(symbol=HOSTILE, module=HOSTILE) for row in plain.sites),
        devices=(
            device(
                name=HOSTILE,
                driver=HOSTILE,
                bus=HOSTILE,
                resources=1,
                managed_bytes=9,
                by_release=(Release(HOSTILE, 1, 9),),
                slab_by_cache={HOSTILE: 16},
            ),
        ),
        host=replace(plain.host, release=HOSTILE),
    )
    earlier = replace(snapshot, tracking=replace(snapshot.tracking, seconds=9.0))
    for before in (None, earlier):
        found = page(snapshot, before, by)
        assert len(found.named("script")) == 2
        assert not found.named("img")
        assert HOSTILE in found.data["maps"][0]["tree"]["names"]
        assert any(HOSTILE in text for text in found.texts["th"])


def test_embedded_data_cannot_end_its_element() -> None:
    text = embedded({"a": HOSTILE + "<!--"})
    assert "<" not in text
    assert json.loads(text) == {"a": HOSTILE + "<!--"}


def test_an_empty_host_has_a_page() -> None:
    snapshot = host(
        [],
        caches=(),
        sites=(),
        devices=(),
        losses={},
        features={},
        gfp=(),
        sizes=(),
        nodes=(),
        programs=(),
    )
    found = page(replace(snapshot, tracked=host([]).tracked))
    assert graph(found, "live")["tree"]["size"] == [0]
    assert "No event was lost." in found.texts["p"]


def test_many_rows_make_no_large_page() -> None:
    text = to_page(report_period(synthetic(300, 4000, 2000, 20_000)), "live", ("process", "cgroup"))
    assert len(text) < 2_000_000
    found = Page(text)
    for one in (*found.data["graphs"], *found.data["maps"]):
        assert len(one["tree"]["depth"]) <= 12_000
    assert any(
        re.fullmatch(r"\[[\d,]+ smaller\]", name) for name in graph(found, "live")["tree"]["names"]
    )


def test_an_old_recording_says_that_it_has_no_modifiers() -> None:
    title = VIEWS["modifiers"].title
    assert "not recorded: " not in to_page(report_period(host(SOME)), "live", ())
    text = to_page(report_period(host(SOME, modifiers=())), "live", ())
    assert "not recorded: " in text[text.index(f'data-table="{title}"') :]


def test_growth_has_charts() -> None:
    earlier = host(SOME[:2], 60)
    later = host([*SOME, Object(cache=1, site=2, bytes=65536)], 120)
    found = Page(to_page(report_period(later, earlier), "live", ()))
    assert len([one for one in found.named("svg") if one.get("class") == "chart"]) >= 2
    assert any("dentry: from" in text for text in found.texts["title"])


def test_names_are_not_cut_in_data() -> None:
    snapshot = host([], caches=(cache("c" * 500),), sites=(site("s" * 500, allocated_bytes=5),))
    assert "s" * 500 in graph(page(snapshot), "allocated")["tree"]["names"]


def test_the_first_section_says_what_is_wrong() -> None:
    hosts = [fast_leak(float(second)) for second in range(10, 100, 10)]
    period = replace(report_period(hosts[-1]), window=window_of(*hosts))
    text = to_page(period, "live", ())
    section = text[text.index('<section id="overview">') : text.index('<ul class="tiles">')]
    assert "WARN kmalloc-1k holds" in section
    assert "by nic_ring_fill [nic] in backup.service" in section
    assert '<tr data-state="warn"><td>  kmalloc-1k</td>' in section
    assert "not assessed at this moment" in section
