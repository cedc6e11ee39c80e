# SPDX-License-Identifier: Apache-2.0
"""The screens of top as documented in docs/screens.

SLABMON_WRITE_SCREENS=1 writes them; look at them before committing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT
from tests.support.terminal import Terminal, host, on_terminal, start

SCREENS = ROOT / "docs" / "screens"
# Name: keys from the caches view on.
PLACES: dict[str, tuple[str, ...]] = {
    "caches": (),
    "caches-inverted": ("u", "u"),
    "caches-sites": ("enter",),
    "caches-sites-stacks": ("enter", "enter"),
    "sites": ("2",),
    "devices": ("3",),
    "devices-resources": ("3", "enter"),
    "devices-caches": ("3", "enter", "tab"),
    "drivers": ("6",),
    "drivers-devices": ("6", "j", "enter"),
    "cgroups": ("7",),
    "processes": ("8",),
    "gfp": ("9",),
    "census": ("9", "tab", "tab"),
    "owners": ("9", *["tab"] * 3),
    "owners-cache": ("9", *["tab"] * 3, "j", "enter"),
    "orphans": ("9", *["tab"] * 4),
    "losses": ("9", *["tab"] * 8),
    "features": ("shift+tab",),
    "help": ("question_mark",),
    "row": ("i",),
    "filter": ("slash", *"live", "space", "greater_than_sign", "space", *"1k"),
    "caches-paused-mark": ("m", "space"),
}
# All places at the width of a plain terminal, some of them on a narrow and a wide one.
WIDTHS = {60: ("caches", "row"), 80: tuple(PLACES), 140: ("caches", "row", "census", "owners")}


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the time zone nor the CPU time of the test changes what is shown."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("width", WIDTHS)
def test_screens_are_as_documented(width: int) -> None:
    write = bool(os.environ.get("SLABMON_WRITE_SCREENS"))

    async def work(terminal: Terminal) -> None:
        app = terminal.app
        await terminal.feed(host(20))
        await terminal.feed(host(30))
        for name in WIDTHS[width]:
            app.browser = app.grid.browser = start().browser(app.reading.window)
            app.grid.arrive()
            await terminal.press(*PLACES[name])
            shown = terminal.text + "\n"
            path = SCREENS / f"{name}-{width}.txt"
            if write:
                path.write_text(shown)
                if (name, width) == ("caches", 140):  # without the fonts that a viewer would fetch
                    svg = re.sub(r"@font-face \{.*?\}", "", app.export_screenshot(), flags=re.S)
                    (SCREENS / "top.svg").write_text(svg)
            assert shown == path.read_text(), name
            assert all(len(line) <= width for line in terminal.lines)
            if len(app.screen_stack) > 1:
                await terminal.press("escape")

    on_terminal(work, size=(width, 24))


def test_no_screen_is_left_that_nothing_draws() -> None:
    drawn = {f"{name}-{width}.txt" for width, names in WIDTHS.items() for name in names}
    assert {path.name for path in SCREENS.iterdir()} == {*drawn, "top.svg"}
