# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: no errors, no requests, zoom, search, keys, hostile names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from slabmon.model import Release, Snapshot
from slabmon.report.page import to_page
from tests.support.builders import Object, device
from tests.support.conditions import fast_leak
from tests.support.reported import SOME, host, report_period
from tests.support.snapshots import synthetic

pytestmark = [pytest.mark.browser, pytest.mark.beside]

HOSTILE = "</script><script>window.hurt=1</script><img src=x onerror='window.hurt=1'>"
PATIENCE_MS = 60_000


@dataclass
class Report:
    """A report that is open, all it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.page.inner_text("#flame-status")

    def cell(self, name: str) -> str:
        """A selector of the first cell of this name in the flame graph."""
        return f"#flame div:text-is('{name}') >> nth=0"

    def shown(self) -> int:
        return self.page.locator("#flame div").count()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def focused(self) -> str:
        label = self.page.locator("#flame div:focus").get_attribute("aria-label")
        return (label or "").partition("\n")[0]


Open = Callable[..., Report]


@pytest.fixture
def report(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a report; at the end none may have asked for anything or complained."""
    opened: list[Report] = []

    def open_report(
        now: Snapshot,
        before: Snapshot | None = None,
        by: tuple[str, ...] = (),
        scheme: str = "light",
    ) -> Report:
        path = tmp_path / "report.html"
        path.write_text(to_page(report_period(now, before), "live", by))
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            offline=True,
            viewport={"width": 1400, "height": 900},
        )
        found = Report(context.new_page())
        opened.append(found)
        found.page.set_default_timeout(PATIENCE_MS)
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.goto(path.as_uri())
        found.page.wait_for_selector("#flame div")
        return found

    yield open_report
    for found in opened:
        found.page.context.close()
        assert found.complaints == []
        assert len(found.requests) == 1, found.requests


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_offline_without_a_word(report: Open, scheme: str) -> None:
    found = report(host(SOME), scheme=scheme)
    assert found.status.startswith("320.2 KiB ±")
    assert found.page.locator("#map div").count() > 0
    assert found.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (
        scheme == "dark"
    )


def test_on_a_narrow_page_the_sentences_of_the_overview_are_whole(report: Open) -> None:
    found = report(fast_leak(180.0))
    found.page.set_viewport_size({"width": 600, "height": 900})
    areas = found.page.locator("#overview, #overview table, #overview .scroll")
    assert set(areas.evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")) == {
        0
    }
    row = found.page.locator("#overview tr").filter(has_text="anonymous memory")
    sentence, name = row.locator("td").last.bounding_box(), row.locator("td").first.bounding_box()
    assert sentence is not None
    assert name is not None
    assert sentence["y"] >= name["y"] + name["height"]


def test_zoom_and_back(report: Open) -> None:
    found = report(host(SOME))
    all_cells = found.shown()
    found.page.click(found.cell("vfs_open"))
    assert found.status.startswith("vfs_open: ")
    assert found.shown() < all_cells
    widths = found.page.locator("#flame div").evaluate_all(
        "cells => cells.filter(c => c.textContent === 'vfs_open').map(c => c.style.width)"
    )
    assert widths == ["100%"]
    found.page.click("#reset")
    assert found.shown() == all_cells


def test_search_marks_and_counts(report: Open) -> None:
    found = report(host(SOME))
    found.page.fill("#find", "DENTRY")
    assert "in 2 frames: 128.2 KiB, 40.03 % of all" in found.status
    dim = found.page.locator("#flame div.dim").count()
    assert dim == found.shown() - 2
    found.page.click("#reset")
    assert found.page.locator("#flame div.dim").count() == 0
    assert found.page.input_value("#find") == ""


def test_everything_can_be_done_with_the_keyboard(report: Open) -> None:
    found = report(host(SOME))
    found.press("/")
    assert found.page.evaluate("document.activeElement.id") == "find"
    found.page.focus("#flame div[tabindex='0']")
    assert found.focused == "all"
    found.press("ArrowDown")
    first = found.focused
    found.press("ArrowRight")
    assert found.focused != first
    found.press("ArrowLeft")
    assert found.focused == first
    found.press("Enter")
    assert found.status.startswith(f"{first}: ")
    found.press("ArrowUp")
    assert found.focused == "all"
    found.press("Escape")
    assert found.status.startswith("320.2 KiB")
    assert found.page.locator("#flame div[tabindex='0']").count() == 1


def test_what_a_cell_says(report: Open) -> None:
    found = report(host(SOME))
    found.page.hover(found.cell("kmalloc-large"))
    assert found.page.inner_text("#tip") == (
        "kmalloc-large\n64.0 KiB (exact)\n19.98 % of all\n1 object"
    )
    found.page.hover(found.cell("kmalloc-64"))
    assert found.page.inner_text("#tip").startswith("kmalloc-64\n128.1 KiB ± 90.")


def test_tabs_change_the_graph(report: Open) -> None:
    found = report(host(SOME), by=("process", "cgroup"))
    found.page.click("#tab-allocated")
    assert found.status == "5.7 MiB"
    assert "Exact" in found.page.inner_text("#flame-note")
    found.page.click("#tab-stacked")
    found.page.hover(found.cell("vfs_open"))
    assert found.page.inner_text("#tip").startswith("vfs_open\n3.9 MiB ± 56.9 KiB\n68.32 %")
    found.page.click("#tab-by")
    assert found.page.locator(found.cell("/system.slice")).count() == 1
    found.press("ArrowRight")
    assert found.page.evaluate("document.activeElement.id") == "tab-live"


def test_a_change_is_red_and_blue(report: Open) -> None:
    gone = Object(cache=2, site=1, bytes=65536, interval=0, stack=1, age=50)
    found = report(host(SOME[:3], 120), host([*SOME[1:3], gone], 60))
    assert found.status.startswith("net 32 B")
    assert found.page.locator("#flame div.grew").count() > 0
    assert found.page.locator("#flame div.shrank").count() > 0


def test_devices_open_and_close(report: Open) -> None:
    cards = tuple(
        device(
            name=f"card{i}",
            slab_by_cache={"kmalloc-64": 64 * i},
            by_release=(Release("devm_a", 1, 100 * i), Release("devm_b", 1, 50)),
        )
        for i in range(1, 30)
    )
    found = report(host(SOME, devices=cards))
    assert found.page.is_disabled("#map-out")
    found.page.click("#map div >> nth=0", position={"x": 20, "y": 8})
    assert "card29 · 2.9 KiB (exact)" in found.page.inner_text("#map-status")
    found.page.click("#map-out")
    assert "in 29 devices" in found.page.inner_text("#map-status")
    found.page.click("[data-map='1']")
    assert "27.2 KiB in 29 devices" in found.page.inner_text("#map-status")


def test_hostile_names_are_harmless(report: Open) -> None:
    plain = host(SOME)
    snapshot = replace(
        plain,
        losses={HOSTILE: 1},
        host=replace(plain.host, release=HOSTILE),
        caches=tuple(replace(row, name=row.name + HOSTILE) for row in plain.caches),
        devices=(device(name=HOSTILE, by_release=(Release(HOSTILE, 1, 9),)),),
        tracked=replace(
            plain.tracked,
            cgroups={1: HOSTILE, 2: HOSTILE},
            stacks={0: (HOSTILE,), 1: (HOSTILE,), 2: (HOSTILE,)},
        ),
    )
    found = report(snapshot, by=("cgroup", "process"))
    for tab in ("live", "stacked", "allocated", "by"):
        found.page.click(f"#tab-{tab}")
    found.page.hover("#map div >> nth=0")
    assert HOSTILE in found.page.inner_text("#tip")
    assert found.page.evaluate("window.hurt") is None


def test_a_large_host_is_drawn(report: Open) -> None:
    found = report(synthetic(300, 4000, 2000, 20_000))
    assert 1_000 < found.shown() < 20_000
    found.page.fill("#find", "function_7")
    assert " frames: " in found.status
