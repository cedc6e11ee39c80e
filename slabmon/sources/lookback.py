# SPDX-License-Identifier: Apache-2.0
"""Views of a source's past: growth before a moment, and verdicts at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from slabmon.base.errors import DamagedSnapshot, SlabmonError
from slabmon.export.leaks import SHARE, from_dict
from slabmon.leaks.observer import Observer
from slabmon.sources import Past, SnapshotSource
from slabmon.sources.daemon import DaemonSource
from slabmon.sources.read_limit import JUDGED, JUDGED_SECONDS, WINDOW
from slabmon.views.window import WINDOW_SECONDS, WindowBuilder

if TYPE_CHECKING:
    from slabmon.leaks.finding import Assessment
    from slabmon.model import Snapshot
    from slabmon.sources.recording import RecordingSource
    from slabmon.store.recording import TimedSnapshot

_POLL_SECONDS = 10.0  # verdicts do not change sooner
_POLL_SHARE = 0.05  # of the time may pass in polls


def past_of(source: SnapshotSource) -> Past | None:
    """Return the past of a source, if it can have one; whether a daemon has is known only when it
    is asked."""
    return cast(Past, source) if hasattr(source, "at") else None


def readable(
    past: Past, times: Iterable[float], damaged: dict[float, str]
) -> Iterator[TimedSnapshot]:
    """Yield the snapshots of these times. Why one cannot be read is put into `damaged`, by time."""
    for moment in times:
        try:
            recorded = past.at(moment)
        except DamagedSnapshot as error:
            damaged[moment] = str(error)
            continue
        yield recorded


def fill(history: WindowBuilder, past: Past, now: TimedSnapshot) -> None:
    """Add the snapshots before a moment, as far back as a window reaches, except damaged ones."""
    times = past.times(now.time - WINDOW_SECONDS, now.time, WINDOW.points(now.snapshot))
    for recorded in readable(past, times, {}):
        history.add(recorded.snapshot)


def fill_recorded(history: WindowBuilder, source: RecordingSource) -> None:
    """Go to where a recording's first snapshots fill a window, and begin it with them, so that
    growth is known at once."""
    source.clock.seek(source.span()[0] + WINDOW_SECONDS)
    with suppress(SlabmonError):  # what cannot be read is said where it is shown
        fill(history, source, source.at(source.clock.now))


def fill_present(history: WindowBuilder, source: SnapshotSource) -> None:
    """Begin a window that ends now with what a daemon knows of the minutes before: its history or,
    if it keeps none, the window of its page."""
    from slabmon.store.recording import TimedSnapshot

    past = past_of(source)
    try:
        if past is not None:
            now = source.snapshot()
            fill(history, past, TimedSnapshot(now.taken, now))
    except SlabmonError:
        with suppress(SlabmonError):  # of an earlier version
            if isinstance(source, DaemonSource):
                history.resume(source.window())


def judged(
    past: Past,
    now: TimedSnapshot,
    damaged: dict[float, str],
    follow: Callable[[list[float]], Iterable[float]] = iter,
) -> Assessment | None:
    """Return an assessment from the hour before a moment, None on hosts so large that it would take
    too long. `damaged`: see readable(). `follow` passes the times on while they are read, to show
    progress."""
    points = JUDGED.points(now.snapshot)
    if points == JUDGED.least:
        return None
    observer = Observer()
    times = follow(past.times(now.time - JUDGED_SECONDS, now.time, points))
    for recorded in readable(past, times, damaged):
        observer.add(recorded.snapshot)
    return observer.assess()


class PolledJudge:
    """A window.Judge that calls `poll` only while `wanted`: at most every ten seconds, less often
    if it takes long."""

    def __init__(self, poll: Callable[[], Assessment | None]) -> None:
        self.wanted = False
        self._poll = poll
        self.forget()

    def forget(self) -> None:
        """Drop the assessment: it belongs to another moment."""
        self._assessment: Assessment | None = None
        self._due = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """See window.Judge."""
        if self.wanted and time.monotonic() >= self._due:
            begin = time.monotonic()
            self._assessment = self._poll()
            now = time.monotonic()
            self._due = now + max(_POLL_SECONDS, (now - begin) / _POLL_SHARE)

    def assess(self) -> Assessment | None:
        """See window.Judge."""
        return self._assessment


def assessment(past: Past, at: float | None) -> Assessment | None:
    """Return the verdicts at a Unix time (None: at present, of a daemon); None if unavailable."""
    try:
        if isinstance(past, DaemonSource):
            return from_dict(past.leaks(SHARE, at))
        return None if at is None else judged(past, past.at(at), {})
    except SlabmonError:
        return None
