# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, a server over a synthetic host, and a page that must not misbehave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.conftest import CHROMIUM
from tests.page.scenes import USER

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Whatever is asked for, nothing but the loopback is found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
_WATCH = """
window.violations = [];
addEventListener('securitypolicyviolation', event => violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Served:
    """A server that can be stopped and started again on its port."""

    def __init__(self, scene: str) -> None:
        self._scene, self._port = scene, 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.page.server", self._scene, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Tab:
    """A page, all it asked for and complained about."""

    page: Page
    server: Served
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    unanswered: set[Request] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(_WATCH)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("request", lambda request: self.unanswered.add(request))
        for end in ("requestfinished", "requestfailed"):
            self.page.on(end, lambda request: self.unanswered.discard(request))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def open(self, fragment: str = "") -> None:
        """Opens the page and waits for its first rows."""
        self.page.goto(self.server.url + fragment)
        self.page.wait_for_selector("tbody tr")

    @property
    def rows(self) -> Locator:
        return self.page.locator("tbody tr")

    def names(self) -> list[str]:
        """What the rows are called."""
        return self.page.locator("tbody th").all_inner_texts()

    def row(self, name: str) -> Locator:
        """The button that selects a row."""
        return self.page.locator("tbody th").get_by_role("button", name=name, exact=True)

    def heading(self, name: str) -> Locator:
        return self.page.locator("thead").get_by_role("button", name=name, exact=True)

    def line(self, name: str) -> Locator:
        """The cells of a row."""
        inside = self.page.get_by_role("button", name=name, exact=True)
        return self.rows.filter(has=inside).locator("td, th")

    def cell(self, row: str, column: str) -> str:
        """The text of a cell, by the row's name and the column's name."""
        place = self.page.locator("thead th").evaluate_all(
            "(all, name) => all.findIndex(one => one.dataset.name === name)", column
        )
        return self.line(row).nth(place).inner_text()

    def wait_for_answers(self) -> None:
        """Waits until nothing asked for is unanswered."""
        for _ in range(PATIENCE_MS // 50):
            if not self.unanswered:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"unanswered: {[request.url for request in self.unanswered]}")

    def wait(self, condition: str) -> None:
        """Waits until an expression of JavaScript holds. The policy forbids evaluating text in
        the page itself, so it is asked again and again from outside."""
        for _ in range(PATIENCE_MS // 50):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {condition}")


@dataclass
class Desk:
    """Opens tabs, each over a server of its own; what they did is judged at the end."""

    browser: Browser
    tabs: list[Tab] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        scene: str,
        fragment: str = "#view=%22caches%22",
        *,
        dark: bool = False,
        width: int = 1280,
        server: Served | None = None,
        password: str = "",
    ) -> Tab:
        context = self.browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 800},
            http_credentials={"username": USER, "password": password} if password else None,
        )
        self.contexts.append(context)
        tab = Tab(context.new_page(), server or Served(scene))
        self.tabs.append(tab)
        tab.open(fragment)
        return tab

    def close(self) -> None:
        for tab in self.tabs:
            tab.server.stop()
        for context in self.contexts:
            context.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens the page over a scene. After the test: no request left the server, nothing was
    complained about, no policy was violated."""
    desk = Desk(browser)
    try:
        yield desk.open
        for tab in desk.tabs:
            assert [url for url in tab.requests if not url.startswith(tab.server.url)] == []
            assert tab.complaints == []
            assert tab.page.evaluate("window.violations") == []
            assert tab.page.evaluate("window.hurt") is None
    finally:
        desk.close()
