# SPDX-License-Identifier: Apache-2.0
"""Take screenshots of the dashboards, drawn by Grafana's own components: `make preview`.

`python -m dashboards.preview [DATA...]` draws every dashboard over these data sets (all: live,
leaking, fleet) in both themes into build/preview, and those of the documentation into
docs/images/dashboards. Fails if a query, a panel or a link does.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, FloatRect, ViewportSize, sync_playwright

from dashboards.generate import BOARDS, FOLDER
from dashboards.preview.data import DATA, Data
from tests.conftest import CHROMIUM
from tests.page.conftest import FLAGS

PAGE = FOLDER / "preview" / "dist"
WIDTH, PATIENCE_MS = 1600, 120_000
THEMES = ("light", "dark")
ROOT = FOLDER.parent
DRAWN, DOCS = ROOT / "build" / "preview", ROOT / "docs" / "images" / "dashboards"
# What the documentation shows: made data, up to the last row that begins within these pixels.
DOCUMENTED = {("host", "leaking"), ("device", "leaking"), ("fleet", "fleet")}
MOST_PIXELS = 4000


class _Files(SimpleHTTPRequestHandler):
    """The page below /, the dashboards below /boards/."""

    def translate_path(self, path: str) -> str:
        if path.startswith("/boards/"):
            return str(FOLDER / Path(path).name)
        return super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def _served() -> Iterator[str]:
    handler = partial(_Files, directory=str(PAGE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _shot(browser: Browser, url: str, file: Path, documented: Path | None) -> dict[str, Any]:
    """Write the whole page to a file, and its beginning to another; return what it found."""
    size = ViewportSize(width=WIDTH, height=1000)
    page = browser.new_page(viewport=size, timezone_id="UTC", locale="en-US")
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_function("window.preview && window.preview.missing === 0")
    # Tables out of sight draw no rows.
    size["height"] = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size(size)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # charts are drawn in the next frame, icons come later
    found: dict[str, Any] = page.evaluate("window.preview")
    page.screenshot(path=file, full_page=True)
    if documented:
        tops = page.locator(".heading").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().top)"
        )
        height = size["height"]
        if height > MOST_PIXELS:
            height = max(top for top in tops if top < MOST_PIXELS)
        clip = FloatRect(x=0, y=0, width=WIDTH, height=height)
        page.screenshot(path=documented, clip=clip)
    page.close()
    return {**found, "problems": found["problems"] + errors}


def _shots(browser: Browser, site: str, name: str, data: Data) -> list[str]:
    """Draw all dashboards over one data set; return what is wrong."""
    wrong = []
    for board, theme in product(BOARDS, THEMES):
        kind = Path(board).stem
        choices = {
            "board": f"/boards/{board}",
            "prometheus": data.server.url,
            "from": round(data.start * 1000),
            "to": round(data.end * 1000),
            "scrape": data.pace,
            "theme": theme,
        }
        file = DRAWN / f"{kind}-{name}-{theme}.png"
        documented = DOCS / f"{kind}-{theme}.png" if (kind, name) in DOCUMENTED else None
        url = f"{site}/build/index.html?{urlencode(choices)}"
        found = _shot(browser, url, file, documented)
        print(f"{file.name}: without data: {', '.join(sorted(found['empty'])) or 'none'}")
        wrong += [f"{file.name}: {problem}" for problem in found["problems"]]
    return wrong


def main(names: list[str]) -> int:
    """Take the screenshots; return the exit code."""
    for folder in (DRAWN, DOCS):
        folder.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with _served() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in names:
            with tempfile.TemporaryDirectory() as scratch, DATA[name](Path(scratch)) as data:
                wrong += _shots(browser, site, name, data)
        browser.close()
    for problem in wrong:
        print(problem, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(DATA)))
