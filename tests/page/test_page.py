# SPDX-License-Identifier: Apache-2.0
"""The live page as a person uses it, in a headless Chromium."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from slabmon.export.text import to_dict
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.table import Table
from tests.page.conftest import Tab
from tests.page.scenes import growing

pytestmark = [pytest.mark.browser, pytest.mark.beside]
Open = Callable[..., Tab]


def number(text: str) -> float:
    """The amount at the beginning of a cell."""
    amount, *unit = text.rstrip("?").replace(",", "").split()
    scale = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
    return float(amount) * scale.get(unit[0] if unit else "", 1)


def test_shows_the_same_figures_as_table_and_json(open_page: Open) -> None:
    tab = open_page("still", "#every=true")
    found = growing(60.0)
    for name in (
        *("caches", "sites", "devices", "drivers", "cgroups", "processes"),
        *("gfp", "modifiers", "owners"),
    ):
        tab.page.goto(f"{tab.server.url}#every=true&view=%22{name}%22")
        tab.wait(f"document.querySelector('#views [aria-current]')?.textContent === '{name}'")
        table = Table.of(VIEWS[name], found)
        assert tab.page.locator("tbody tr").evaluate_all(
            "lines => lines.map(line => [...line.cells].map(cell => cell.textContent))"
        ) == texts(table, table.order()[:100], table.columns)
    document = to_dict(found)
    tab.page.goto(f"{tab.server.url}#every=true")
    tab.wait("document.querySelector('#views [aria-current]')?.textContent === 'caches'")
    place = [column.name for column in Table.of(VIEWS["caches"], found).columns]
    for cache in document["caches"][:2]:
        for name in ("allocs", "frees", "allocated_bytes", "live_bytes", "live_stderr_bytes"):
            title = tab.line(cache["name"]).nth(place.index(name)).get_attribute("title") or ""
            assert title.startswith(f"{cache[name]:,} "), name


def test_sorts_by_click_and_by_keyboard(open_page: Open) -> None:
    tab = open_page("growing")
    assert tab.page.locator("thead th[aria-sort]").inner_text() == "held"
    tab.heading("live").click()
    tab.wait("document.querySelector('thead th[aria-sort]').dataset.name === 'live_bytes'")
    assert tab.names()[0] == "steady"
    expect(tab.page.locator("th[data-name=live_bytes]")).to_have_attribute(
        "aria-sort", "descending"
    )
    heading = tab.heading("name")
    heading.focus()
    heading.press("Enter")
    expect(tab.page.locator("th[data-name=name]")).to_have_attribute("aria-sort", "ascending")
    assert tab.names() == sorted(tab.names())
    heading.press("Enter")
    expect(tab.page.locator("th[data-name=name]")).to_have_attribute("aria-sort", "descending")
    assert tab.names()[0] == "steady"
    assert tab.page.evaluate("document.activeElement.textContent") == "name"
    tab.page.reload()
    tab.page.wait_for_selector("tbody tr")
    expect(tab.page.locator("th[data-name=name]")).to_have_attribute("aria-sort", "descending")


def test_filters_with_the_language_of_the_views(open_page: Open) -> None:
    tab = open_page("growing")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("live > 1k")
    expect(tab.rows).to_have_count(2)
    assert "2 matching, 152 in total" in tab.page.locator("#count").inner_text()
    tab.page.locator("#filter").fill("/^idle-(7|8)$/")
    expect(tab.page.locator("tbody th")).to_have_text(["idle-7", "idle-8"])
    tab.page.locator("#filter").fill("no-such-cache")
    expect(tab.page.locator("#count")).to_have_text("No row matches.")
    tab.page.locator("#filter").fill("colour = red")
    expect(tab.page.locator("#refused")).to_contain_text("unknown column 'colour'")
    expect(tab.page.locator("#filter")).to_have_attribute("aria-invalid", "true")
    tab.complaints.clear()  # the browser itself reports the answer 400
    tab.page.locator("#filter").fill("")
    expect(tab.page.locator("#refused")).to_be_hidden()
    expect(tab.rows).to_have_count(100)


def test_drills_down_and_back(open_page: Open) -> None:
    tab = open_page("growing")
    tab.row("leaky").click()
    expect(tab.page.locator("#what")).to_have_text("leaky")
    tab.page.get_by_role("link", name="sites", exact=True).last.click()
    expect(tab.row("keep_it+0x10 [leakmod]")).to_be_visible()
    assert tab.names() == ["keep_it+0x10 [leakmod]"]
    assert tab.page.locator("#path").inner_text() == "caches → leaky → sites"
    assert tab.page.evaluate("document.activeElement.id") == "title"
    tab.row("keep_it+0x10 [leakmod]").click()
    tab.page.locator("#links").get_by_role("link", name="stacks").click()
    expect(tab.page.locator("tbody th")).to_have_text("do_init;probe;keep_it")
    tab.page.go_back()
    expect(tab.row("keep_it+0x10 [leakmod]")).to_be_visible()
    tab.page.go_back()
    expect(tab.row("steady")).to_be_visible()
    expect(tab.page.locator("#what")).to_have_text("leaky")
    tab.page.go_forward()
    expect(tab.page.locator("#path")).to_have_text("caches → leaky → sites")
    tab.page.reload()
    expect(tab.row("keep_it+0x10 [leakmod]")).to_be_visible()


def test_a_census_is_a_view_like_the_others(open_page: Open) -> None:
    tab = open_page("growing", "#view=%22census%22")
    expect(tab.page.locator("#note")).to_contain_text("census of 2023-")
    assert tab.names() == ["dentry", "kmalloc-64"]
    tab.row("kmalloc-64").click()
    expect(tab.page.locator("#charts")).to_be_hidden()
    tab.page.locator("#links").get_by_role("link", name="owners").click()
    expect(tab.page.locator("tbody th")).to_contain_text(["pointed to by evil.name"])
    assert "has ops card_ops [card] at +8" in tab.names()
    tab.page.locator("#filter").fill("sure = likely bytes > 100k")
    expect(tab.page.locator("tbody th")).to_have_text(["pointed to by evil.name"])
    tab.row("pointed to by evil.name").click()
    tab.page.locator("#links").get_by_role("link", name="cache", exact=True).click()
    expect(tab.page.locator("tbody th")).to_have_text(["kmalloc-64"])
    expect(tab.page.locator("#path")).to_contain_text("pointed to by evil.name")


def test_without_a_census_the_page_says_how_to_get_one(open_page: Open) -> None:
    tab = open_page("uncounted")
    expect(tab.page.locator("#note")).to_be_hidden()
    tab.page.get_by_role("link", name="owners", exact=True).click()
    expect(tab.page.locator("#note")).to_contain_text("no census yet: ")
    expect(tab.page.locator("#count")).to_have_text("No rows.")


def test_from_a_device_to_its_resources_and_on(open_page: Open) -> None:
    tab = open_page("growing", "#view=%22devices%22")
    tab.row("0000:00:03.0").click()
    tab.page.locator("#links").get_by_role("link", name="resources").click()
    expect(tab.rows).to_have_count(2)
    assert "devm_keep" in tab.rows.first.inner_text()


def test_updates_by_itself_and_pauses(open_page: Open) -> None:
    tab = open_page("growing")
    first = number(tab.cell("leaky", "allocated_bytes"))
    shown = tab.cell("leaky", "allocated_bytes")
    tab.wait(f"!document.querySelector('tbody').textContent.includes('{shown}')")
    assert number(tab.cell("leaky", "allocated_bytes")) > first
    tab.page.keyboard.press("p")
    expect(tab.page.locator("#clock")).to_contain_text("PAUSED")
    expect(tab.page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    tab.page.wait_for_timeout(500)  # an answer may have been under way
    shown, asked = tab.page.locator("tbody").inner_text(), len(tab.requests)
    tab.page.wait_for_timeout(6000)  # more than an update takes to come
    assert tab.page.locator("tbody").inner_text() == shown
    assert len(tab.requests) == asked
    # What is sorted is the moment that is shown, not a later one.
    figure = tab.cell("leaky", "allocated_bytes")
    clock = tab.page.locator("#clock").inner_text()
    tab.heading("name").click()
    expect(tab.page.locator("th[data-name=name]")).to_have_attribute("aria-sort", "ascending")
    tab.page.locator("#filter").fill("leaky")
    expect(tab.rows).to_have_count(1)
    assert tab.cell("leaky", "allocated_bytes") == figure
    assert tab.page.locator("#clock").inner_text() == clock
    expect(tab.page.locator("#clock")).to_contain_text("PAUSED")
    tab.page.locator("#pause").click()
    tab.wait("!document.getElementById('clock').textContent.includes('PAUSED')")


def test_survives_a_restart_of_the_daemon(open_page: Open) -> None:
    tab = open_page("growing")
    tab.row("leaky").click()
    tab.server.stop()
    banner = tab.page.locator("#banner")
    expect(banner).to_contain_text("slabmon does not answer")
    assert tab.names(), "the last figures stay"
    tab.server.start()
    expect(banner).to_contain_text("slabmon restarted tracking")
    assert "stale" not in tab.page.locator("body").get_attribute("class").split()  # type: ignore[union-attr]
    expect(tab.page.locator("#what")).to_have_text("leaky")
    # The browser itself reports each refused connection.
    tab.complaints = [text for text in tab.complaints if "net::ERR_CONNECTION" not in text]


def test_charts_of_what_is_selected(open_page: Open) -> None:
    tab = open_page("growing")
    chart = tab.page.locator("#figure svg")
    tab.wait("document.querySelector('#figure path.line')?.getAttribute('d').includes('L')")
    assert "KiB ±" in tab.page.locator("#figure output").inner_text()
    assert tab.page.locator("#figure path.band").count() == 1
    tab.row("leaky").click()
    expect(tab.page.locator("#what")).to_have_text("leaky")
    chart.focus()
    chart.press("ArrowLeft")
    assert not tab.page.locator("#figure output").inner_text().startswith("now")
    expect(tab.page.locator("#figure .cursor")).to_have_attribute("visibility", "visible")
    box = chart.bounding_box()
    assert box is not None
    tab.page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 50)
    assert "KiB" in (tab.page.locator("#figure text.y").last.text_content() or "")
    assert tab.page.locator("#rates .key").all_inner_texts() == ["allocs/s", "frees/s", "failed/s"]


def test_no_line_is_drawn_over_a_pause(open_page: Open) -> None:
    tab = open_page("growing")

    def paused(route: Route) -> None:
        answer = route.fetch()
        chart = answer.json()
        chart["times"] = [time + (600 if i >= 2 else 0) for i, time in enumerate(chart["times"])]
        route.fulfill(response=answer, json=chart)

    tab.wait("document.querySelector('#figure path.line')?.getAttribute('d').includes('L')")
    assert (tab.page.locator("#figure path.line").get_attribute("d") or "").count("M") == 1
    tab.page.route("**/api/v1/chart*", paused)
    tab.wait(
        "document.querySelector('#figure path.line')?.getAttribute('d').split('M').length === 3"
    )


def test_no_trend_is_drawn_over_a_pause(open_page: Open) -> None:
    tab = open_page("growing")

    def paused(route: Route) -> None:
        answer = route.fetch()
        table = answer.json()
        at = next(i for i, c in enumerate(table["columns"]) if c["kind"] == "history")
        for row in table["rows"]:
            row["values"][at] = [1, 2, None, None, 5, 6]
        route.fulfill(response=answer, json=table)

    tab.page.route("**/api/v1/table?*", paused)
    tab.wait("document.querySelector('.spark path')?.getAttribute('d').split('M').length === 3")
    assert "NaN" not in (tab.page.locator(".spark path").first.get_attribute("d") or "")


def test_by_keyboard_alone(open_page: Open) -> None:
    tab = open_page("growing")
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("ArrowUp")
    assert tab.page.evaluate("document.activeElement.textContent") == "steady"
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#what")).to_have_text("leaky")
    expect(tab.row("leaky")).to_have_attribute("aria-pressed", "true")
    outline = tab.row("leaky").evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid", "the focus is visible"
    clock = tab.page.locator("#clock").inner_text()
    tab.wait(f"document.getElementById('clock').textContent !== '{clock}'")
    assert tab.page.evaluate("document.activeElement.textContent") == "leaky", "focus is kept"
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#what")).to_have_text("all caches")
    tab.page.keyboard.press("?")
    expect(tab.page.locator("#help")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#help")).to_be_hidden()
    reachable = tab.page.locator("tbody button[tabindex='0']").count()
    assert reachable == 1, "one stop for the whole table"


def test_the_header_tells_the_truth(open_page: Open) -> None:
    tab = open_page("growing")
    facts = tab.page.locator("#facts").inner_text()
    for text in ("sampled every 64.0 KiB", "1m0", "2 (", "250.0us/event", "of a CPU"):
        assert text in facts, text
    limits = tab.page.locator("#limits")
    limits.locator("summary").click()
    assert "stacks is degraded: a reason" in limits.inner_text()
    assert "lost 2: samples_full" in limits.inner_text()
    unseen = tab.page.locator("td.unseen").first
    assert unseen.inner_text().endswith("?")
    assert "not all frees can be observed" in (unseen.get_attribute("title") or "")
    assert tab.heading("waste").get_attribute("title") == VIEWS["caches"].column("waste_ratio").help


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_are_readable(open_page: Open, dark: bool) -> None:
    tab = open_page("growing", dark=dark)
    contrast = tab.page.evaluate(
        """() => {
            const light = text => {
                const parts = text.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
                    .map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
                return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
            };
            const style = name => getComputedStyle(document.querySelector(name));
            const ground = light(style('section').backgroundColor);
            return ['tbody th button', 'td.error', 'td.unseen', 'thead button', '#facts dt',
                    '.attention dd'].map(name => light(style(name).color))
                .map(one => (Math.max(one, ground) + .05) / (Math.min(one, ground) + .05))
                .concat(ground);
        }"""
    )
    assert min(contrast[:-1]) >= 4.5, contrast
    assert (contrast[-1] < 0.1) == dark


def test_at_the_width_of_a_phone(open_page: Open) -> None:
    tab = open_page("growing", width=360)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    tab.page.locator(".scroll").evaluate("one => one.scrollLeft = 300")
    box = tab.row("leaky").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 60, "the names stay in sight"


def test_exports_what_is_shown(open_page: Open) -> None:
    tab = open_page("still", "#view=%22caches%22&filter=%22live > 0%22&sort=%22name%22")
    expect(tab.rows).to_have_count(2)
    link = tab.page.locator("#csv").evaluate("one => one.href")
    with urllib.request.urlopen(link) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="slabmon-caches.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    assert [row["name"] for row in rows] == tab.names() == ["leaky", "steady"]
    with urllib.request.urlopen(tab.page.locator("#json").evaluate("one => one.href")) as answer:
        assert [row["live_bytes"] for row in json.load(answer)] == [64 * 7 * 60, 51_200]


def test_a_large_host_stays_responsive(open_page: Open) -> None:
    tab = open_page("large", "#view=%22sites%22")
    expect(tab.rows).to_have_count(100)
    expect(tab.page.locator("#count")).to_have_text("1 to 100 of 10,000")
    tab.page.locator("#next").click()
    expect(tab.page.locator("#count")).to_have_text("101 to 200 of 10,000")
    tab.page.locator("#filter").fill("function_77")
    expect(tab.page.locator("#count")).to_contain_text("matching, 10,000 in total")
