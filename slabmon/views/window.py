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
from slabmon.analysis.delta import is_interrupted, is_reset
from slabmon.analysis.grouping import Groups
from slabmon.base.arrays import F64, I64, Bool, Values
from slabmon.leaks.finding import Assessment
from slabmon.leaks.series import PAUSE
from slabmon.model import Snapshot
from slabmon.views.compressed_rows import CompressedRows

if TYPE_CHECKING:
    from slabmon.views.view import View

WINDOW_SECONDS = 600.0
POINT_SECONDS = 5.0
_WIDTH = 2  # columns of a trail's points: a figure and its standard error
_MAX_STALE_KEYS = 512  # keys of vanished rows that a trail may hold before it drops them


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
        self._listings: dict[str, Listing] = {}

    @property
    def assessment(self) -> Assessment | None:
        """The assessment of leaks, None if there is none."""
        return self._assess()

    def listing(self, view: View) -> Listing:
        """Return the rows of a view that is not `windowed`. Views of one name must have the same
        rows."""
        listing = self._listings.get(view.name)
        if listing is None:
            rows = view.rows(self.assessment if view.judged else self.snapshot)
            listing = self._listings[view.name] = Listing(view, self.snapshot, rows)
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
class Trail:
    """Past values of a view's figure.

    `ids` numbers the rows by their key. Each point holds the figure and its standard error by row
    number; rows where both are 0 are left out.
    """

    ids: dict[Hashable, int] = field(default_factory=dict)
    points: tuple[CompressedRows, ...] = ()

    def extended(self, listing: Listing, figure: str, error: str, keep: int) -> Trail:
        """Return a trail of the last `keep` points and one from this listing."""
        points = self.points[len(self.points) - keep :]
        ids = self.ids
        if len(ids) > 2 * len(listing.keys) + _MAX_STALE_KEYS:
            ids, points = _without_stale_keys(ids, points)
        for key in listing.keys:
            ids.setdefault(key, len(ids))
        numbers = np.array([ids[key] for key in listing.keys], np.int64)
        columns = np.zeros((_WIDTH, len(numbers)))
        columns[0] = listing.values(figure)
        if error:
            columns[1] = listing.values(error)
        mask = columns.any(axis=0)
        return Trail(ids, (*points, CompressedRows.of(numbers[mask], columns[:, mask], "f8")))

    def values(self, keys: Sequence[Hashable]) -> list[F64]:
        """Return the figure of these rows at each point, 0 where there was no such row."""
        numbers = self._numbers(keys)
        return [point.at(numbers, _WIDTH, 0.0)[0] for point in self.points]

    def at(self, point: int, keys: Sequence[Hashable]) -> F64:
        """Return the figure of these rows at one point, 0 where there was no such row."""
        figure: F64 = self.points[point].at(self._numbers(keys), _WIDTH, 0.0)[0]
        return figure

    def first(self, keys: Sequence[Hashable]) -> tuple[F64, F64]:
        """Return figure and standard error of these rows at the first point."""
        figure, error = self.points[0].at(self._numbers(keys), _WIDTH, 0.0)
        return figure, error

    def _numbers(self, keys: Sequence[Hashable]) -> I64:
        return np.array([self.ids.get(key, -1) for key in keys], np.int64)


def _without_stale_keys(
    ids: dict[Hashable, int], points: tuple[CompressedRows, ...]
) -> tuple[dict[Hashable, int], tuple[CompressedRows, ...]]:
    """Drop the keys that no point refers to, and renumber the others."""
    unpacked = [point.unpacked() for point in points]
    used = {number for numbers, _ in unpacked for number in numbers.tolist()}
    live = [(key, number) for key, number in ids.items() if number in used]
    renumbered = np.zeros(len(ids), np.int64)
    renumbered[[number for _, number in live]] = np.arange(len(live))
    return (
        {key: number for number, (key, _) in enumerate(live)},
        tuple(
            CompressedRows.of(renumbered[numbers], columns, "f8") for numbers, columns in unpacked
        ),
    )


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

    def add(self, snapshot: Snapshot) -> Window:
        """Return the window that ends with this snapshot.

        A snapshot that was added before changes nothing; one of another tracking session, or of an
        earlier time, starts a new window.
        """
        last = self._window
        self._judge.add(snapshot)
        now = Instant(snapshot, self._judge.assess)
        if last is None or is_reset(last.snapshot, snapshot):
            self._window = Window(now)
        elif is_interrupted(last.snapshot, snapshot):
            self._window = Window(now, last.now)
        elif snapshot.tracking.seconds > last.snapshot.tracking.seconds:
            moments, trails = self._trails(last)
            self._window = Window(now, last.now, moments, trails)
        assert self._window is not None
        return self._window

    def _trails(self, last: Window) -> tuple[tuple[float, ...], dict[str, Trail]]:
        """Add the last instant to the trails if another point is due."""
        seconds = last.snapshot.tracking.seconds
        if last.moments and seconds - last.moments[-1] < self._step:
            return last.moments, last.trails
        moments = deque((*last.moments, seconds))
        while moments[0] < seconds - self._span:
            moments.popleft()
        trails = {
            view.name: last.trails.get(view.name, Trail()).extended(
                last.now.listing(view), view.figure, view.figure_error, len(moments) - 1
            )
            for view in self._views
        }
        return tuple(moments), trails
