# SPDX-License-Identifier: Apache-2.0
"""Selects the moments of a recording, or of a daemon's history, that a report is about."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slabmon.analysis.delta import is_reset
from slabmon.base.errors import UsageError
from slabmon.base.parse import moment, show_moment
from slabmon.runtime.progress import track
from slabmon.sources import MAX_TIMES, Past
from slabmon.sources.lookback import readable
from slabmon.sources.read_limit import ReadLimit
from slabmon.store.recording import TimedSnapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.window import NoJudge, Window, WindowBuilder

if TYPE_CHECKING:
    from slabmon.export.leaks import Document

# The views whose growth a report shows.
GROWING = ("caches", "sites", "devices")
MAX_POINTS = 60
_READ_LIMIT = ReadLimit(MAX_POINTS, 400_000, 4)
_LAST_SECONDS = 3600.0


@dataclass(frozen=True)
class ReportPeriod:
    """The extent of a report: the moment `now` or, with `before`, the change since then.

    `window` ends now and begins with the known history. `origin` names the source. `leaks` holds
    the verdicts, None if there are none. `damaged` says why snapshots were left out, by Unix time.
    """

    origin: str
    now: TimedSnapshot
    before: TimedSnapshot | None
    window: Window
    leaks: Document | None = None
    damaged: dict[float, str] = field(default_factory=dict)


def of_past(
    past: Past,
    origin: str,
    start: str | None,
    end: str | None,
    present: TimedSnapshot | None = None,
    reach: float = math.inf,
) -> ReportPeriod:
    """Return the period that --from and --to select (None: not given).

    Without `end` it ends at `present`, or at the last moment that can be read. Without `start` the
    window begins at most `reach` seconds earlier. Raises UsageError if a time lies outside the
    history or the two moments cannot be compared.
    """
    first, last = past.span()
    damaged: dict[float, str] = {}

    def chosen(text: str) -> TimedSnapshot:
        time = moment(text, last)
        # Times are given, and shown, in whole seconds.
        if not int(first) <= time <= int(last) + 1:
            raise UsageError(
                f"{text} ({show_moment(time)}) is outside the {origin}, which covers "
                f"{show_moment(first)} to {show_moment(last)}"
            )
        return past.at(time)

    now = (present or _last(past, last, damaged)) if end is None else chosen(end)
    before = None if start is None else chosen(start)
    if before is not None:
        check_pair(before, now)
    begin = max(first, now.time - reach) if before is None else before.time
    window = _window(past, begin, now, damaged)
    return ReportPeriod(origin, now, before, window, damaged=damaged)


def _last(past: Past, last: float, damaged: dict[float, str]) -> TimedSnapshot:
    """Return the last snapshot of the last hour that can be read. Raises DamagedSnapshot if none
    can."""
    times = past.times(last - _LAST_SECONDS, last, MAX_TIMES)
    recorded = next(readable(past, reversed(times), damaged), None)
    return past.at(last) if recorded is None else recorded


def check_pair(before: TimedSnapshot, now: TimedSnapshot) -> None:
    """Raise UsageError unless the change between two moments can be computed."""
    if before.time >= now.time:
        raise UsageError(
            f"--from ({show_moment(before.time)}) is not before --to ({show_moment(now.time)}): "
            "each time stands for the last snapshot before it; choose two different ones"
        )
    if is_reset(before.snapshot, now.snapshot):
        raise UsageError(
            f"tracking restarted at {show_moment(now.snapshot.tracking.since)}, between the two "
            "moments, so their counters cannot be compared; choose both before or after it"
        )


def _window(past: Past, begin: float, now: TimedSnapshot, damaged: dict[float, str]) -> Window:
    history = growth_history()
    times = past.times(begin, now.time, _READ_LIMIT.points(now.snapshot))
    for recorded in readable(past, track(times, len(times), "reading the past"), damaged):
        history.add(recorded.snapshot)
    return history.add(now.snapshot)


def growth_history() -> WindowBuilder:
    """Return a builder of windows over all snapshots added to it, for the views of GROWING and for
    the overview."""
    views = [VIEWS[name] for name in (*GROWING, "memory", "overview")]
    return WindowBuilder(views, NoJudge(), span=float("inf"), step=0)
