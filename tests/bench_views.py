"""CPU time of each view of a large host: from a new snapshot to the visible lines.

A benchmark, not a test: `make bench-views`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from slabmon.analysis.filtering import mask
from slabmon.analysis.table import Table
from slabmon.analysis.window import History, Window
from slabmon.export.human import texts
from slabmon.model import Live, Snapshot
from slabmon.view import View
from slabmon.views import VIEWS
from tests.unit.snapshots import synthetic

ROUNDS, LINES, POINTS = 12, 50, 120


def at(base: Snapshot, seconds: float) -> Snapshot:
    """A large host after so many seconds of tracking; every site holds more than before."""
    size = 64 * int(seconds)
    sites = tuple(
        site._replace(allocs=int(seconds) * number, live=Live(number, size * number, 8 * size))
        for number, site in enumerate(base.sites)
    )
    return replace(base, tracking=replace(base.tracking, seconds=seconds), sites=sites)


def redraw(view: View, window: Window) -> None:
    """What a refresh computes: order, filter, and the visible lines."""
    table = Table(view, window)
    order = table.order(keep=mask("live > 1k" if "live_bytes" in view.brief else "", table))
    texts(table, order[:LINES], table.brief)


def main() -> int:
    """Prints median and longest time per view in milliseconds of CPU time."""
    history = History(VIEWS.values())
    base = synthetic()
    for number in range(POINTS):
        history.add(at(base, 5.0 * (number + 1)))
    adding: list[float] = []
    times: dict[str, list[float]] = {view: [] for view in VIEWS}
    for number in range(ROUNDS):
        snapshot = at(base, 5.0 * (POINTS + number + 1))
        begin = time.process_time()
        window = history.add(snapshot)
        adding.append(time.process_time() - begin)
        for name, view in VIEWS.items():
            begin = time.process_time()
            redraw(view, window)
            times[name].append(time.process_time() - begin)
    for name, values in {"taking a snapshot in": adding, **times}.items():
        milliseconds = np.array(values) * 1e3
        sys.stdout.write(
            f"{name:21} median {np.median(milliseconds):6.1f} ms, "
            f"longest {milliseconds.max():6.1f} ms\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
