# SPDX-License-Identifier: Apache-2.0
"""The live page over a daemon that keeps history: choosing a moment, and what is shown of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Tab
from tests.page.scenes import STEP

pytestmark = [pytest.mark.browser, pytest.mark.beside]
Open = Callable[..., Tab]
SHOWN = "JSON.parse(new URLSearchParams(location.hash.slice(1)).get('at'))"


def objects(tab: Tab) -> int:
    """Live objects of the leaking cache: so many per second of tracking."""
    place = tab.page.locator("thead th").evaluate_all(
        "all => all.findIndex(one => one.dataset.name === 'live_objects')"
    )
    title = tab.line("leaky").nth(place).get_attribute("title") or ""
    return int(title.split()[0].replace(",", ""))


def recorded(tab: Tab) -> None:
    expect(tab.page.locator("#clock")).to_contain_text("RECORDED")
    tab.wait("!document.body.classList.contains('seeking')")
    tab.wait_for_answers()  # the server answers few requests of the past at a time


def test_a_moment_is_typed_and_the_present_comes_back(open_page: Open) -> None:
    tab = open_page("kept", "#every=true")
    now = objects(tab)
    shown = tab.page.locator("#at").input_value()
    wanted = tab.page.evaluate(
        """text => {
            const time = new Date(new Date(text) - 3600000);
            return new Date(time - time.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
        }""",
        shown,
    )
    tab.page.keyboard.press("t")
    tab.page.locator("#at").fill(wanted)
    tab.page.locator("#at").press("Enter")
    recorded(tab)
    assert objects(tab) == pytest.approx(now - 3600 * STEP, abs=30 * STEP)
    expect(tab.page.locator("#pause")).to_be_disabled()
    # Nothing is asked for again and again: the past does not change.
    tab.wait("document.querySelector('#figure .moment') !== null")
    asked = len(tab.requests)
    tab.page.wait_for_timeout(6000)
    assert len(tab.requests) == asked
    tab.page.locator("#now").click()
    expect(tab.page.locator("#clock")).to_contain_text("as of")
    tab.wait("!document.body.classList.contains('recorded')")
    assert objects(tab) >= now


def test_minutes_back_and_on_by_keyboard(open_page: Open) -> None:
    tab = open_page("kept", "#every=true")
    tab.page.keyboard.press("[")
    recorded(tab)
    first = objects(tab)
    at = tab.page.evaluate(SHOWN)
    tab.page.keyboard.press("[")
    tab.wait(f"{SHOWN} < {at} - 30")
    recorded(tab)
    assert objects(tab) < first
    tab.page.keyboard.press("]")
    tab.page.keyboard.press("]")
    tab.page.go_back()
    recorded(tab)


def test_charts_are_those_around_the_moment_and_lead_to_others(open_page: Open) -> None:
    tab = open_page("kept", "#every=true")
    tab.row("leaky").click()
    expect(tab.page.locator("#what")).to_have_text("leaky")
    tab.page.keyboard.press("[")
    recorded(tab)
    chart = tab.page.locator("#figure svg")
    expect(chart.locator(".moment")).to_have_count(1)
    assert chart.locator("text.x").count() > 2
    assert all(
        re.fullmatch(r"\d\d:\d\d", text) for text in chart.locator("text.x").all_text_contents()
    )
    before = objects(tab)
    at = tab.page.evaluate(SHOWN)
    box = chart.bounding_box()
    assert box is not None
    tab.page.mouse.click(box["x"] + 75, box["y"] + 60)  # at its very beginning
    tab.wait(f"{SHOWN} < {at} - 600")
    recorded(tab)
    assert objects(tab) < before - 600 * STEP
    expect(tab.page.locator("#what")).to_have_text("leaky")


def test_all_views_and_rows_of_a_moment_are_of_that_moment(open_page: Open) -> None:
    tab = open_page("kept")
    for _ in range(3):
        tab.page.keyboard.press("[")
        recorded(tab)
    at = tab.page.evaluate(SHOWN)
    tab.row("leaky").click()
    tab.page.locator("#links").get_by_role("link", name="sites").click()
    expect(tab.row("keep_it+0x10 [leakmod]")).to_be_visible()
    assert tab.page.evaluate(SHOWN) == at
    tab.page.locator("#views").get_by_role("link", name="devices", exact=True).click()
    expect(tab.row("0000:00:03.0")).to_be_visible()
    assert tab.page.evaluate(SHOWN) == at
    link = tab.page.locator("#json").evaluate("one => one.href")
    assert f"at={at}" in link
    answer = tab.page.request.get(link)
    (row,) = json.loads(answer.body())
    # The device gains a resource a second.
    header = tab.page.request.get(f"{tab.server.url}api/v1/table?at={at}").json()["header"]
    assert row["resources"] == 3 + int(header["at"] - header["since"])
    tab.page.reload()
    recorded(tab)
    assert tab.page.evaluate(SHOWN) == at


def test_verdicts_of_a_moment(open_page: Open) -> None:
    tab = open_page("kept")
    tab.page.keyboard.press("[")
    recorded(tab)
    tab.page.locator("#views").get_by_role("link", name="verdicts", exact=True).click()
    tab.wait("document.querySelector('tbody').textContent.includes('0000:00:03.0')")


def test_without_history_there_is_no_way_back(open_page: Open) -> None:
    tab = open_page("growing")
    expect(tab.page.locator("#times")).to_be_hidden()
    tab.page.keyboard.press("[")
    tab.page.wait_for_timeout(300)
    expect(tab.page.locator("#clock")).to_contain_text("as of")
    tab.page.goto(f"{tab.server.url}#at=5")
    expect(tab.page.locator("#refused")).to_contain_text("this daemon keeps no history")
    tab.complaints.clear()  # the browser itself reports the answer 404
