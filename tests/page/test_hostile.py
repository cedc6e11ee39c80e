# SPDX-License-Identifier: Apache-2.0
"""The live page among those who mean harm: names, fragments, filters, and who is let in."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Tab
from tests.page.scenes import EVIL, EVIL_COMM, PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.beside]
Open = Callable[..., Tab]


def test_a_filter_that_would_backtrack_for_ever_is_answered(open_page: Open) -> None:
    tab = open_page("growing", "#view=%22cgroups%22")  # with long names
    tab.page.locator("#filter").fill("/(.|.)+!$/")
    expect(tab.page.locator("#count")).to_have_text("No row matches.")


def test_behind_a_password(open_page: Open) -> None:
    tab = open_page("secured", password=PASSWORD)
    tab.row("leaky").click()
    expect(tab.page.locator("#what")).to_have_text("leaky")
    clock = tab.page.locator("#clock").inner_text()
    tab.wait(f"document.getElementById('clock').textContent !== '{clock}'")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(tab.server.url)


def test_hostile_names_are_harmless_text(open_page: Open) -> None:
    tab = open_page("hostile")
    for view in (
        "caches",
        "sites",
        "devices",
        "resources",
        "holdings",
        "drivers",
        "cgroups",
        "processes",
        "losses",
        "features",
    ):
        tab.page.goto(f"{tab.server.url}#view=%22{view}%22")
        wanted = EVIL_COMM.decode() if view == "processes" else EVIL
        tab.wait(f"document.querySelector('#views [aria-current]')?.textContent === '{view}'")
        assert wanted in tab.page.locator("tbody").inner_text(), view
        assert EVIL in (tab.page.locator("#limits").text_content() or "")
        if view in ("losses", "features"):
            continue
        tab.page.locator("tbody th button").first.click()
        tab.page.locator("#links a").first.click()
        expect(tab.page.locator("#path")).to_contain_text(wanted)
        expect(tab.rows.first).to_be_visible()
        assert tab.page.locator("script").count() == 1
        assert tab.page.locator("main img").count() == 0


def test_a_hostile_fragment_is_harmless(open_page: Open) -> None:
    tab = open_page("still")
    for fragment in ("#view=%22__proto__%22", "#path=[[1]]", "#path=7&sort={}&offset=-1&key=[[["):
        tab.page.goto(tab.server.url + fragment)
        tab.page.wait_for_timeout(300)
        tab.page.goto(f"{tab.server.url}#view=%22sites%22")
        expect(tab.page.locator("#views [aria-current]")).to_have_text("sites")
    # The browser itself reports each answer 400.
    tab.complaints = [text for text in tab.complaints if "400" not in text]
