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

from slabmon.views.catalogue import VIEWS
from tests.support.memory import reading
from tests.support.paths import ROOT
from tests.support.terminal import Terminal, host, on_terminal, start

SCREENS = ROOT / "docs" / "screens"
# Name: view, and keys from there on.
PLACES: dict[str, tuple[str, ...]] = {
    "caches": ("caches",),
    "caches-inverted": ("caches", "u", "u"),
    "caches-sites": ("caches", "enter"),
    "caches-sites-stacks": ("caches", "enter", "enter"),
    "sites": ("sites",),
    "devices": ("devices",),
    "devices-resources": ("devices", "enter"),
    "devices-caches": ("devices", "enter", "tab"),
    "drivers": ("drivers",),
    "drivers-devices": ("drivers", "enter"),
    "drivers-sites": ("drivers", "j", "enter"),
    "cgroups": ("cgroups",),
    "processes": ("processes",),
    "gfp": ("gfp",),
    "families": ("families",),
    "census": ("census",),
    "owners": ("owners",),
    "owners-cache": ("owners", "j", "enter"),
    "orphans": ("orphans",),
    "memory": ("memory",),
    "losses": ("losses",),
    "features": ("features",),
    "help": ("caches", "question_mark"),
    "row": ("caches", "i"),
    "filter": ("caches", "slash", *"live", "space", "greater_than_sign", "space", *"1k"),
    "caches-paused-mark": ("caches", "m", "space"),
}
# All places at the width of a plain terminal, some of them on a narrow and a wide one.
WIDTHS = {
    60: ("caches", "row"),
    80: tuple(PLACES),
    140: ("caches", "row", "census", "owners", "memory"),
}


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
        await terminal.feed(host(20, memory=reading(1_700_000_020.0)))
        await terminal.feed(host(30, memory=reading(1_700_000_030.0)))
        for name in WIDTHS[width]:
            view, *keys = PLACES[name]
            app.browser = app.grid.browser = start().browser(app.reading.window)
            app.grid.arrive()
            await terminal.press(*["tab"] * list(VIEWS).index(view), *keys)
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
