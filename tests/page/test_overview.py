# SPDX-License-Identifier: Apache-2.0
"""The first thing that a person sees on the page: what is wrong, and who holds it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Tab

pytestmark = [pytest.mark.browser, pytest.mark.beside]
Open = Callable[..., Tab]


def state(tab: Tab, row: str) -> str | None:
    found: str | None = tab.row(row).evaluate("button => button.closest('tr').dataset.state")
    return found


@pytest.mark.parametrize("dark", [False, True])
def test_an_old_leak_is_the_first_thing_to_be_seen(open_page: Open, dark: bool) -> None:
    tab = open_page("old leak", "", dark=dark)
    expect(tab.page.locator("#views [aria-current]")).to_have_text("overview")
    note = tab.page.locator("#note")
    expect(note).to_contain_text("WARN kmalloc-256 holds 14.0 GiB, 58.3% of memory")
    expect(note).to_contain_text("ring_ops [nic]")
    box = note.bounding_box()
    assert box is not None
    assert box["y"] < 400, "without scrolling"
    assert [state(tab, row) for row in ("this host", "kmalloc-256", "free")] == [
        "warn",
        "warn",
        "ok",
    ]
    warned, plain = (
        tab.page.locator(f"tr[data-state={name}] td").first.evaluate(
            "cell => getComputedStyle(cell).color"
        )
        for name in ("warn", "ok")
    )
    assert warned != plain


def test_a_row_leads_to_its_detail_and_only_there(open_page: Open) -> None:
    tab = open_page("old leak", "")
    tab.row("kmalloc-256").click()
    expect(tab.page.locator("#what")).to_have_text("kmalloc-256")
    links = tab.page.locator("#links a")
    expect(links).to_have_text(
        ["owners", "sites", "callers", "processes", "cgroups", "stacks", "cache"]
    )
    links.first.click()
    expect(tab.page.locator("tbody th")).to_have_text(["has ops ring_ops [nic] at +8", "unknown"])
    assert tab.page.locator("#path").inner_text() == "overview → kmalloc-256 → owners"
    tab.page.go_back()
    tab.row("free").click()
    expect(links).to_have_text(["memory of this kind", "all memory"])
    links.last.click()
    expect(tab.row("page cache of files")).to_be_visible()


def test_a_fast_leak_is_seen_within_a_minute_of_its_growth(open_page: Open) -> None:
    tab = open_page("fast leak", "")
    expect(tab.page.locator("#note")).to_contain_text(
        "by nic_ring_fill [nic] in backup.service; out of memory in 1h", timeout=40_000
    )
    assert "at +14." in tab.page.locator("#note").inner_text()


def test_a_healthy_host_is_said_to_be_fine(open_page: Open) -> None:
    tab = open_page("healthy", "")
    expect(tab.page.locator("#note")).to_contain_text("nothing wrong")
    assert tab.page.locator("tr[data-state=warn], tr[data-state=crit]").count() == 0


def test_links_without_a_view_are_of_caches(open_page: Open) -> None:
    tab = open_page("growing", "#sort=%22name%22")
    expect(tab.page.locator("#views [aria-current]")).to_have_text("caches")
    tab.page.get_by_role("link", name="overview", exact=True).click()
    expect(tab.row("this host")).to_be_visible()
    tab.page.get_by_role("link", name="caches", exact=True).click()
    expect(tab.row("leaky")).to_be_visible()
    tab.page.reload()
    expect(tab.row("leaky")).to_be_visible()


@pytest.mark.parametrize("width", [360, 600])
def test_on_a_narrow_page_sentences_are_whole_and_the_conclusion_comes_first(
    open_page: Open, width: int
) -> None:
    tab = open_page("fast leak", "", width=width)
    expect(tab.page.locator("#note")).to_contain_text("in backup.service", timeout=40_000)
    note, views = tab.page.locator("#note").bounding_box(), tab.page.locator("#views")
    assert note is not None
    assert note["y"] + note["height"] < 640
    scroll = tab.page.locator(".scroll").first
    hidden = scroll.evaluate("area => area.scrollWidth - area.clientWidth")
    assert hidden == 0, "nothing of the table is beyond its edge"
    sentence, name = tab.line("kmalloc-1k").last.bounding_box(), tab.row("kmalloc-1k")
    above = name.bounding_box()
    assert sentence is not None
    assert above is not None
    assert sentence["y"] >= above["y"] + above["height"]
    assert sentence["x"] + sentence["width"] <= width
    tab.open("#view=%22features%22")
    tab.page.reload()
    chosen = views.locator("[aria-current]")
    expect(chosen).to_have_text("features")
    box = chosen.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_old_slabs_are_not_hidden_by_what_is_live(open_page: Open) -> None:
    tab = open_page("old leak", "")
    facts = tab.page.locator("#facts div").all_inner_texts()
    assert facts[2:4] == ["slabs\n15.1 GiB", "live\n350.0 KiB"]


def test_short_names_are_not_broken_at_their_hyphens(open_page: Open) -> None:
    tab = open_page("fast leak", "", width=1400)
    tab.page.get_by_role("button", name="Pause").click()
    tab.wait_for_answers()
    heights = tab.row("kmalloc-1k").last.evaluate(
        """button => {
            const line = button.closest('tr'), before = button.getBoundingClientRect().height;
            for (const cell of line.cells) {
                if (cell.tagName === 'TD') {
                    cell.className = 'label';
                    cell.textContent = 'much to say '.repeat(200);
                }
            }
            return [before, button.getBoundingClientRect().height];
        }"""
    )
    assert heights[0] == heights[1]


def test_sentences_are_readable_on_a_phone(open_page: Open) -> None:
    tab = open_page("old leak", "", width=360)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    box = tab.line("this host").last.bounding_box()
    assert box is not None
    assert box["width"] > 200
    heights = [
        tab.row(name).evaluate("button => button.getBoundingClientRect().height")
        for name in ("ext4_inode_cache", "free")
    ]
    assert heights[0] == heights[1], "an indented name is on one line"


def test_only_a_conclusion_is_emphasized(open_page: Open) -> None:
    tab = open_page("growing", "#view=%22charged%22")
    note = tab.page.locator("#note")
    expect(note).to_contain_text("census of")
    weight = "note => getComputedStyle(note).fontWeight"
    assert note.evaluate(weight) == "400"
    tab.page.get_by_role("link", name="overview", exact=True).click()
    expect(tab.row("this host")).to_be_visible()
    assert note.evaluate(weight) == "600"
