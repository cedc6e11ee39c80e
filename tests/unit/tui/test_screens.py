# SPDX-License-Identifier: Apache-2.0
"""The screens of top as documented in docs/screens.

SLABMON_WRITE_SCREENS=1 writes them; look at them before committing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator

import pytest

from slabmon.model import Snapshot
from tests.support.conditions import fast_leak, healthy, old_leak
from tests.support.memory import reading
from tests.support.paths import ROOT
from tests.support.terminal import Script, Terminal, host, on_terminal, start

SCREENS = ROOT / "docs" / "screens"
# Name: view, and keys from there on.
PLACES: dict[str, tuple[str, ...]] = {
    "overview": ("overview",),
    "overview-owners": ("overview", *"jjjj", "enter"),
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
    "modifiers": ("modifiers",),
    "families": ("families",),
    "census": ("census",),
    "owners": ("owners",),
    "owners-cache": ("owners", "j", "enter"),
    "orphans": ("orphans",),
    "retained": ("retained",),
    "charged": ("charged",),
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
    140: ("overview", "caches", "row", "census", "owners", "memory"),
}


# Hosts in three conditions, and how wide their overview is drawn.
CONDITIONS: dict[str, Callable[[float], Snapshot]] = {
    "healthy": healthy,
    "old-leak": old_leak,
    "fast-leak": fast_leak,
}
CONDITION_WIDTHS = (80, 140)


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
            app.browser = app.grid.browser = start(view=view).browser(app.reading.window)
            app.grid.arrive()
            await terminal.press(*keys)
            shown = terminal.text + "\n"
            path = SCREENS / f"{name}-{width}.txt"
            if write:
                path.write_text(shown)
            assert shown == path.read_text(), name
            assert all(len(line) <= width for line in terminal.lines)
            if len(app.screen_stack) > 1:
                await terminal.press("escape")

    on_terminal(work, size=(width, 24))


@pytest.mark.parametrize("width", CONDITION_WIDTHS)
@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_as_documented(name: str, width: int) -> None:
    make = CONDITIONS[name]

    async def work(terminal: Terminal) -> None:
        for seconds in range(20, 190, 10):
            await terminal.feed(make(float(seconds)))
        shown = terminal.text + "\n"
        path = SCREENS / f"overview-{name}-{width}.txt"
        if os.environ.get("SLABMON_WRITE_SCREENS"):
            path.write_text(shown)
            if (name, width) == ("fast-leak", 140):  # without the fonts that a viewer would fetch
                svg = terminal.app.export_screenshot()
                svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)
                (SCREENS / "top.svg").write_text(svg)
        assert shown == path.read_text()

    on_terminal(work, Script(make(10.0)), (width, 24), start(view="overview"))


def test_no_screen_is_left_that_nothing_draws() -> None:
    drawn = {f"{name}-{width}.txt" for width, names in WIDTHS.items() for name in names}
    drawn |= {f"overview-{name}-{width}.txt" for name in CONDITIONS for width in CONDITION_WIDTHS}
    assert {path.name for path in SCREENS.iterdir()} == {*drawn, "top.svg"}
