# SPDX-License-Identifier: Apache-2.0
"""The overview as a view: its sentence, its links, and where it is first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from slabmon.leaks.finding import Assessment, Kind
from slabmon.views.catalogue import VIEWS
from slabmon.views.drilldown import follow_link
from slabmon.views.overview.facts import OverviewRow
from slabmon.views.overview.view import OVERVIEW
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window
from tests.support.builders import snapshot
from tests.support.censuses import rich
from tests.support.conditions import fast_leak, healthy, old_leak
from tests.unit.views.overview.test_rows import assessed, finding, watched


def note(window: Window) -> str:
    return Table(OVERVIEW, window).note


def test_it_is_the_first_view() -> None:
    assert next(iter(VIEWS)) == "overview"


def test_one_sentence_says_what_is_wrong_and_who_holds_it() -> None:
    assert note(watched(healthy)) == "nothing wrong; leaks: too early: 2m50s of 21m00s"
    assert note(watched(fast_leak)) == (
        "WARN kmalloc-1k holds 728.0 MiB, 3.0% of memory: out of memory in 1h23m, by nic_ring_fill "
        "[nic] in backup.service"
    )
    assert note(watched(lambda seconds: old_leak(seconds, counted=True))) == (
        "WARN kmalloc-256 holds 14.0 GiB, 58.3% of memory: 98% of it is module nic's (likely): has "
        "ops ring_ops [nic] at +8; allocated before tracking began; merged with pool_workqueue"
    )


def test_the_worst_comes_first_and_not_all_is_said() -> None:
    leaks = [finding(f"site_{i}+0x1") for i in range(3)]
    fast = finding("fast+0x1", growth=1e12, kind=Kind.DRIVER)
    window = Window(Instant(old_leak(1.0), lambda: assessed(*leaks, fast)))
    text = note(window)
    assert text.startswith("WARN site_0+0x1 holds 1.0 GiB")
    assert text.endswith(" | 2 more")
    window = Window(Instant(old_leak(1.0), lambda: assessed(*leaks[:2], fast)))
    assert note(window).startswith("CRIT fast+0x1 holds 1.0 GiB")


def test_a_cache_that_is_suspected_is_named_once_unless_most_of_it_is_older() -> None:
    leak = finding("kmalloc-256", kind=Kind.CACHE, live=13e9)
    text = note(Window(Instant(old_leak(1.0), lambda: assessed(leak))))
    assert text.startswith("WARN kmalloc-256 holds 12.1 GiB, 50.4% of memory: likely leak")
    assert text.count("kmalloc-256") == 1
    leak = finding("kmalloc-256", kind=Kind.CACHE)
    text = note(Window(Instant(old_leak(1.0), lambda: assessed(leak))))
    assert "kmalloc-256 holds 1.0 GiB" in text
    assert "kmalloc-256 holds 14.0 GiB" in text


def test_verdicts_that_come_later_are_shown_without_a_new_snapshot() -> None:
    answers = [None, assessed(finding())]
    window = Window(Instant(healthy(1.0), lambda: answers[0]))
    assert len(Table(OVERVIEW, window)) == len(Table(OVERVIEW, window))
    answers.pop(0)
    assert "fill+0x5c [nic]" in Table(OVERVIEW, window).values("what").tolist()


def test_rows_of_another_present_are_computed_anew() -> None:
    window = Window(Instant(healthy(1.0)))
    before = len(Table(OVERVIEW, window))
    later = replace(window, now=Instant(fast_leak(200.0)))
    assert "kmalloc-1k" in Table(OVERVIEW, later).values("what").tolist()
    assert len(Table(OVERVIEW, window)) == before


def reached(window: Window) -> dict[str, list[str]]:
    """What each row leads to: titles, with the number of rows there."""
    table = Table(OVERVIEW, window)
    found = {}
    for row in cast("Sequence[OverviewRow]", table.listing.rows):
        links = [link for link in OVERVIEW.links if link.applies(row)]
        views = [follow_link(link, OVERVIEW, row, VIEWS) for link in links]
        lengths = [len(Table(view, window)) for view in views]
        found[row.what] = [
            f"{link.title} {count}" for link, count in zip(links, lengths, strict=True)
        ]
    return found


def test_each_row_leads_to_its_detail() -> None:
    verdict = finding("nic_ring_fill+0x5c [nic]")
    found = replace(fast_leak(180.0), census=rich())
    leads = reached(Window(Instant(found, lambda: assessed(verdict))))
    assert all(leads.values())
    assert leads["this host"] == ["all memory 12"]
    assert leads["nic_ring_fill+0x5c [nic]"] == ["verdicts 1", "stacks of the site 1"]
    assert leads["kmalloc-1k"] == [
        "owners 0",
        "sites 1",
        "callers 1",
        "processes 1",
        "cgroups 1",
        "stacks 1",
        "cache 1",
    ]
    assert leads["slab, unreclaimable"] == ["caches 4", "kernel memory 6"]
    assert leads["slab, reclaimable"] == ["caches 2", "kernel memory 6"]
    assert leads["processes"] == ["memory of this kind 2", "all memory 12"]
    assert leads["orphans"] == ["orphans 2"]
    assert leads["cost of slabmon"] == ["programs 2", "features 3"]


@pytest.mark.parametrize("assessment", [None, assessed()])
def test_a_plain_snapshot_has_an_overview(assessment: Assessment | None) -> None:
    table = Table(OVERVIEW, Window(Instant(snapshot(), lambda: assessment)))
    assert table.values("what").tolist()[:2] == ["this host", "leaks"]
    assert "growth_bytes_per_hour" not in [column.name for column in table.columns]
