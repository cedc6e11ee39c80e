"""Time of each view of a large host: from a new snapshot to the visible lines.

A benchmark, not a test: `make bench-views`.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from slabmon.analysis.filtering import mask
from slabmon.analysis.table import Table
from slabmon.analysis.window import History, Window
from slabmon.export.human import texts
from slabmon.view import View
from slabmon.views import VIEWS
from tests.synthetic import large_snapshot

ROUNDS, LINES, POINTS = 12, 50, 120


def redraw(view: View, window: Window) -> None:
    """What a refresh computes: order, filter, and the visible lines."""
    table = Table(view, window)
    order = table.order(keep=mask("live > 1k" if "live_bytes" in view.brief else "", table))
    texts(table, order[:LINES], table.brief)


def main() -> int:
    """Prints median and longest time per view in milliseconds."""
    history = History(VIEWS.values())
    snapshots = [large_snapshot(5.0 * number) for number in range(1, 6)]
    for number in range(POINTS):  # the same rows again: only the time moves on
        first = snapshots[number % len(snapshots)]
        object.__setattr__(first.tracking, "seconds", 5.0 * (number + 1))
        history.add(first)
    adding: list[float] = []
    times: dict[str, list[float]] = {view: [] for view in VIEWS}
    for number in range(ROUNDS):
        snapshot = large_snapshot(5.0 * (POINTS + number + 1))
        begin = time.perf_counter()
        window = history.add(snapshot)
        adding.append(time.perf_counter() - begin)
        for name, view in VIEWS.items():
            begin = time.perf_counter()
            redraw(view, window)
            times[name].append(time.perf_counter() - begin)
    for name, values in {"taking a snapshot in": adding, **times}.items():
        milliseconds = np.array(values) * 1e3
        sys.stdout.write(
            f"{name:21} median {np.median(milliseconds):6.1f} ms, "
            f"longest {milliseconds.max():6.1f} ms\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
