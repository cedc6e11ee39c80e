# SPDX-License-Identifier: Apache-2.0
"""A window: the present snapshot and what rates, growth and histories need of earlier ones.

`WindowBuilder.add` takes snapshots as they come and returns a Window after each. A Window never
changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from slabmon.analysis.ages import survivors
from slabmon.analysis.delta import continuity, is_interrupted, is_reset
from slabmon.analysis.grouping import Groups
from slabmon.base.arrays import F64, Bool, Values
from slabmon.leaks.finding import Assessment
from slabmon.leaks.series import PAUSE
from slabmon.model import Snapshot
from slabmon.views.trail import Trail
from slabmon.views.window_past import WindowPast

if TYPE_CHECKING:
    from slabmon.views.view import View

WINDOW_SECONDS = 600.0
POINT_SECONDS = 5.0


class Judge(Protocol):
    """Source of leak assessments: an Observer, or a proxy for a remote one."""

    def add(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        ...

    def assess(self) -> Assessment | None:
        """Return the present assessment, None if there is none."""
        ...


class NoJudge:
    """A Judge that never has an assessment, for windows whose verdicts nobody reads."""

    def add(self, snapshot: Snapshot) -> None:
        """See Judge."""

    def assess(self) -> None:
        """See Judge."""


class Instant:
    """One snapshot and its rows by view, as columns. Everything is computed when first needed.

    `assess` returns the assessment of leaks at this instant.
    """

    def __init__(
        self, snapshot: Snapshot, assess: Callable[[], Assessment | None] = lambda: None
    ) -> None:
        self.snapshot = snapshot
        self._assess = assess
        self._listings: dict[str, tuple[Assessment | None, Listing]] = {}

    @property
    def assessment(self) -> Assessment | None:
        """The assessment of leaks, None if there is none."""
        return self._assess()

    def listing(self, view: View) -> Listing:
        """Return the rows of a view that is not `windowed`. Views of one name must have the same
        rows."""
        assessment = self.assessment if view.judged else None  # may be renewed later
        judged, listing = self._listings.get(view.name, (None, None))
        if listing is None or judged != assessment:
            rows = view.rows(assessment if view.judged else self.snapshot)
            listing = Listing(view, self.snapshot, rows)
            self._listings[view.name] = assessment, listing
        return listing


class Listing:
    """The rows of one view at one instant.

    `members` holds, per tracked object of the snapshot, the number of its row (negative: none), or
    is None if the view has no tracked objects.
    """

    def __init__(self, view: View, snapshot: Snapshot, rows: Sequence[Any] | Groups) -> None:
        self._snapshot = snapshot
        self._key = view.key
        self._attributes: dict[str, Values] = {}
        self.rows: Sequence[object] = rows.rows if isinstance(rows, Groups) else rows
        self.members = rows.members if isinstance(rows, Groups) else None

    @cached_property
    def keys(self) -> list[Hashable]:
        """Keys that identify the rows from one snapshot to the next."""
        return list(map(self._key, self.rows))

    @cached_property
    def position(self) -> dict[Hashable, int]:
        """Row numbers by key."""
        return {key: i for i, key in enumerate(self.keys)}

    def values(self, path: str) -> Values:
        """Return the attribute at `path` (see views.columns) of all rows, as an array.

        Missing numbers are NaN, missing text is None.
        """
        array = self._attributes.get(path)
        if array is None:
            part, _, subpath = path.partition("?")
            values = list(map(attrgetter(part), self.rows))
            if subpath:
                get = attrgetter(subpath)
                values = [None if value is None else get(value) for value in values]
            array = self._attributes[path] = as_array(values)
        return array

    @cached_property
    def ages(self) -> tuple[F64, F64]:
        """Age of the oldest tracked object of each row and 90th percentile, see analysis.ages."""
        assert self.members is not None, "this view has no tracked objects"
        return survivors(self._snapshot.tracked, self.members, len(self.rows))

    @cached_property
    def observable(self) -> Bool:
        """Whether every free of each row's tracked objects is observed."""
        assert self.members is not None, "this view has no tracked objects"
        seen = np.array([cache.frees_observable for cache in self._snapshot.caches] or [True])
        hidden = (self.members >= 0) & ~seen[self._snapshot.tracked.cache]
        return np.asarray(np.bincount(self.members[hidden], minlength=len(self.rows)) == 0)


def as_array(values: list[Any]) -> Values:
    """Return numbers as an array of numbers (None becomes NaN), text as an array of objects."""
    sample = next((value for value in values if value is not None), 0)
    if isinstance(sample, str | tuple):
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if None in values:
        return np.array([np.nan if value is None else value for value in values], float)
    return np.array(values) if values else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Window:
    """The present and the recent past of one tracking session.

    now: the present instant.
    before: the one before it, for rates; None: counters began at 0 when tracking did.
    moments: tracking seconds of the trails' points, oldest first.
    trails: past figures by name of the view.
    """

    now: Instant
    before: Instant | None = None
    moments: tuple[float, ...] = ()
    trails: dict[str, Trail] = field(default_factory=dict)
    _listings: dict[str, tuple[Assessment | None, Listing]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def listing(self, view: View) -> Listing:
        """Return the present rows of any view."""
        if not view.windowed:
            return self.now.listing(view)
        assessment = self.now.assessment  # may be renewed when there is no newer snapshot
        judged, listing = self._listings.get(view.name, (None, None))
        if listing is None or judged != assessment:
            listing = Listing(view, self.snapshot, view.rows(self))
            self._listings[view.name] = assessment, listing
        return listing

    @property
    def snapshot(self) -> Snapshot:
        """The present snapshot."""
        return self.now.snapshot

    @property
    def seconds(self) -> float:
        """The interval that rates are over: only time in which events were counted."""
        start = self.before.snapshot.tracking.counted if self.before else 0.0
        return self.snapshot.tracking.counted - start

    @property
    def span(self) -> float:
        """How far back the trails go, in seconds."""
        return self.snapshot.tracking.seconds - self.moments[0] if self.moments else 0.0

    @cached_property
    def gaps(self) -> tuple[float, ...]:
        """Before each point of the trails and the present, how many more intervals have passed
        than one; 0 except after a pause, in which nothing was read: an interval PAUSE times as long
        as those beside it."""
        steps = np.diff((*self.moments, self.snapshot.tracking.seconds))
        earlier, later = np.zeros((2, len(steps)))
        earlier[1:] = steps[:-1]
        later[:-2] = steps[1:-1]  # the present may be any time after the last point
        usual = np.maximum(earlier, later)
        pauses = (usual > 0) & (steps > PAUSE * usual)
        missed = np.divide(steps, usual, out=np.ones(len(steps)), where=pauses) - 1
        return (0.0, *missed.tolist())

    @property
    def past(self) -> WindowPast:
        """What another window can begin with, see WindowBuilder.resume()."""
        return WindowPast(continuity(self.snapshot), self.moments, self.trails)

    @property
    def unread(self) -> float:
        """Seconds of `span` in which nothing was read."""
        steps = np.diff((*self.moments, self.snapshot.tracking.seconds))
        gaps = np.array(self.gaps[1:])
        return float((steps * gaps / (gaps + 1)).sum())


class WindowBuilder:
    """Makes windows from successive snapshots.

    `views` are those whose trails are kept, over `span` seconds with a point every `step` seconds.
    `judge` takes every snapshot as well and assesses leaks.
    """

    def __init__(
        self,
        views: Iterable[View],
        judge: Judge,
        *,
        span: float = WINDOW_SECONDS,
        step: float = POINT_SECONDS,
    ) -> None:
        every = [each for view in views for each in (view, *view.past)]
        self._views = [view for view in every if view.figure]
        self._span, self._step = span, step
        self._judge = judge
        self._window: Window | None = None
        self._resumed: WindowPast | None = None

    def resume(self, past: WindowPast) -> None:
        """Begin the window with this past, if the first snapshot continues it and all trails are
        known."""
        if all(view.name in past.trails for view in self._views):
            self._resumed = past

    def add(self, snapshot: Snapshot) -> Window:
        """Return the window that ends with this snapshot.

        A snapshot that was added before changes nothing; one of another tracking session, or of an
        earlier time, starts a new window.
        """
        last = self._window
        self._judge.add(snapshot)
        now = Instant(snapshot, self._judge.assess)
        if last is None:
            self._window = self._first(now)
        elif is_reset(last.snapshot, snapshot):
            self._window = Window(now)
        elif is_interrupted(last.snapshot, snapshot):
            self._window = Window(now, last.now)
        elif snapshot.tracking.seconds > last.snapshot.tracking.seconds:
            moments, trails = self._trails(last)
            self._window = Window(now, last.now, moments, trails)
        assert self._window is not None
        return self._window

    def _first(self, now: Instant) -> Window:
        past = self._resumed
        if past is None or past.continuity != continuity(now.snapshot):
            return Window(now)
        if past.moments[-1:] >= (now.snapshot.tracking.seconds,):
            return Window(now)
        trails = {view.name: past.trails[view.name] for view in self._views}
        return Window(now, None, past.moments, trails)

    def _trails(self, last: Window) -> tuple[tuple[float, ...], dict[str, Trail]]:
        """Add the last instant to the trails if another point is due."""
        seconds = last.snapshot.tracking.seconds
        if last.moments and seconds - last.moments[-1] < self._step:
            return last.moments, last.trails
        moments = deque((*last.moments, seconds))
        while moments[0] < seconds - self._span:
            moments.popleft()
        trails = {}
        for view in self._views:
            listing, trail = last.now.listing(view), last.trails.get(view.name, Trail())
            error = listing.values(view.figure_error) if view.figure_error else 0.0
            figure, keep = listing.values(view.figure), len(moments) - 1
            trails[view.name] = trail.extended(listing.keys, figure, error, keep)
        return tuple(moments), trails
