# SPDX-License-Identifier: Apache-2.0
"""CPU time of each view of a large host: from a new snapshot to the visible lines.

A benchmark, not a test: `make bench-views`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from slabmon.leaks.observer import Observer
from slabmon.model import KnownBy, ServedDevice, Snapshot
from slabmon.runtime.tuning import raise_gc_threshold
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.chart_history import ChartHistory
from slabmon.views.filtering import mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window, WindowBuilder
from slabmon.web.feeds.live import PageMoment
from slabmon.web.handlers import page_json
from slabmon.web.handlers.query import TableQuery
from tests.support.censuses import large
from tests.support.snapshots import grown, synthetic
from tests.support.terminal import Script, Terminal, on_terminal

ROUNDS, LINES, POINTS = 12, 50, 120
CGROUPS = 20_000
SERVED = 0.3  # of the tracked objects are for a device


def redraw(view: View, window: Window) -> None:
    """Compute what a refresh does: order, filter, and the visible lines."""
    table = Table(view, window)
    order = table.order(keep=mask("live > 1k" if "live_bytes" in view.brief else "", table))
    texts(table, order[:LINES], table.brief)


def answer(name: str, window: Window) -> None:
    """Compute the live page's answer for a view."""
    fresh = Window(Instant(window.snapshot), window.before, window.moments, window.trails)
    page_json.encoded(page_json.table(TableQuery(view=name, filter="_7"), PageMoment(fresh, 0.0)))


def host() -> Snapshot:
    """Return a large host whose devices are those of a part of its tracked objects."""
    base = synthetic(cgroups=CGROUPS)
    devices = {
        number: ServedDevice(
            bus=device.bus,
            name=device.name,
            driver=device.driver,
            module=device.module,
            known_by=KnownBy.STACK,
        )
        for number, device in enumerate(base.devices, 1)
    }
    rng = np.random.default_rng(7)
    count = len(base.tracked.bytes)
    device = rng.integers(1, len(devices) + 1, count, np.uint32)
    device[rng.random(count) > SERVED] = 0
    tracked = replace(base.tracked, device=device, devices=devices)
    return replace(base, tracked=tracked, census=large(cgroups=CGROUPS))


def shown(values: list[float]) -> str:
    """Return quartiles and the largest of some figures."""
    return "".join(f"{value:8.1f}" for value in (*np.percentile(values, (25, 50, 75)), max(values)))


def measure(work: Callable[[], object]) -> float:
    """Return milliseconds of CPU time."""
    begin = time.process_time()
    work()
    return (time.process_time() - begin) * 1e3


def _add(history: WindowBuilder, snapshot: Snapshot, windows: list[Window]) -> None:
    windows.append(history.add(snapshot))


def on_screen(windows: list[Window], times: dict[str, list[float]]) -> None:
    """Append the times of `top` per view: a new window, the table, and all lines of the screen."""

    async def work(terminal: Terminal) -> None:
        app = terminal.app
        for name in VIEWS:
            app.show_view(name)
            await terminal.pilot.pause()
            for window in windows:
                fresh = Window(
                    Instant(window.snapshot), window.before, window.moments, window.trails
                )

                def redraw(fresh: Window = fresh) -> None:
                    app.browser.refresh(fresh)
                    app.grid.redraw()
                    app.screen._compositor.render_update(full=True)

                times[name].append(measure(redraw))

    on_terminal(work, Script(windows[0].snapshot), (140, LINES))


def main() -> int:
    """Print quartiles and the longest CPU time per view in milliseconds: of a table alone, of a
    redraw of the terminal, and of an answer to the live page."""
    raise_gc_threshold()  # as top and the web process do
    history = WindowBuilder(VIEWS.values(), Observer())
    base = host()
    for number in range(POINTS):
        history.add(grown(base, 5.0 * (number + 1)))
    adding: list[float] = []
    windows: list[Window] = []
    tables: dict[str, list[float]] = {view: [] for view in VIEWS}
    screens: dict[str, list[float]] = {view: [] for view in VIEWS}
    pages: dict[str, list[float]] = {view: [] for view in VIEWS}
    for number in range(ROUNDS):
        snapshot = grown(base, 5.0 * (POINTS + number + 1))
        adding.append(measure(partial(_add, history, snapshot, windows)))
        for name, view in VIEWS.items():
            tables[name].append(measure(partial(redraw, view, windows[-1])))
            pages[name].append(measure(partial(answer, name, windows[-1])))
    on_screen(windows[-8:], screens)
    hour = ChartHistory(VIEWS.values())
    points = [measure(partial(hour.add, Instant(window.snapshot))) for window in windows[::2]]
    heading = "".join(f"{each:>32}" for each in ("table", "screen", "page"))
    sys.stdout.write(f"quartiles and longest, ms{heading[20:]}\n")
    for name in VIEWS:
        figures = "".join(shown(each[name]) for each in (tables, screens, pages))
        sys.stdout.write(f"{name:15}{figures}\n")
    sys.stdout.write(
        f"taking a snapshot in: median {np.median(adding):.1f}, "
        f"longest {max(adding):.1f} ms; "
        f"a point of the hour: median {np.median(points):.1f} ms\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
