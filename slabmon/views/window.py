# SPDX-License-Identifier: Apache-2.0
"""A window: the present snapshot and what is kept of earlier ones, for rates, growth, history.

`History.add` takes snapshots as they come and gives a Window after each. A Window never changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from slabmon.analysis.ages import survivors
from slabmon.analysis.delta import is_reset
from slabmon.analysis.grouping import Groups
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.views.compressed_rows import Packed

if TYPE_CHECKING:
    from slabmon.views.view import View

WINDOW_SECONDS = 600.0
POINT_SECONDS = 5.0
_WIDTH = 2  # of a trail: a figure and its error
_FORGOTTEN = 512  # so many keys of rows that are gone may wait to be forgotten


class Judge(Protocol):
    """Who says what can be said of leaks: an Observer, or somebody who asks one."""

    def add(self, snapshot: Snapshot) -> None:
        """The next snapshot."""
        ...

    def assess(self) -> Assessment | None:
        """What can be said now, None: nothing is known."""
        ...


class Instant:
    """One snapshot, its rows by view, as columns; everything is computed when first asked for.
    `assess` tells what can be said of leaks, to be asked as long as this is the latest."""

    def __init__(
        self, snapshot: Snapshot, assess: Callable[[], Assessment | None] = lambda: None
    ) -> None:
        self.snapshot = snapshot
        self._assess = assess
        self._listings: dict[str, Listing] = {}

    def listing(self, view: View) -> Listing:
        """The rows of a view. Views of one name and different rows must not be mixed."""
        found = self._listings.get(view.name)
        if found is None:
            assessment = self._assess() if view.judged else None
            found = self._listings[view.name] = Listing(view, self.snapshot, assessment)
        return found


class Listing:
    """The rows of one view at one instant."""

    def __init__(
        self, view: View, snapshot: Snapshot, assessment: Assessment | None = None
    ) -> None:
        found = view.rows(assessment if view.judged else snapshot)
        self._snapshot = snapshot
        self._key = view.key
        self._fields: dict[str, np.ndarray] = {}
        self.rows: Sequence[object] = found.rows if isinstance(found, Groups) else found
        self.members = found.members if isinstance(found, Groups) else None

    @cached_property
    def keys(self) -> list[Hashable]:
        """What identifies each row from one snapshot to the next."""
        return list(map(self._key, self.rows))

    @cached_property
    def position(self) -> dict[Hashable, int]:
        """Row numbers by key."""
        return {key: i for i, key in enumerate(self.keys)}

    def values(self, path: str) -> np.ndarray:
        """One attribute of all rows; `part?attribute` where there may be no such part. Missing
        numbers are NaN, missing text is None."""
        found = self._fields.get(path)
        if found is None:
            part, _, rest = path.partition("?")
            values = list(map(attrgetter(part), self.rows))
            if rest:
                get = attrgetter(rest)
                values = [None if value is None else get(value) for value in values]
            found = self._fields[path] = as_array(values)
        return found

    @cached_property
    def ages(self) -> tuple[np.ndarray, np.ndarray]:
        """analysis.ages.survivors() of the rows."""
        assert self.members is not None, "this view has no tracked objects"
        return survivors(self._snapshot.tracked, self.members, len(self.rows))

    @cached_property
    def observable(self) -> np.ndarray:
        """Whether all frees of what each row holds can be seen."""
        assert self.members is not None, "this view has no tracked objects"
        seen = np.array([cache.frees_observable for cache in self._snapshot.caches] or [True])
        hidden = (self.members >= 0) & ~seen[self._snapshot.tracked.cache]
        return np.asarray(np.bincount(self.members[hidden], minlength=len(self.rows)) == 0)


def as_array(values: list[object]) -> np.ndarray:
    """Numbers as an array of numbers (None: NaN), text as objects."""
    present = next((value for value in values if value is not None), 0)
    if isinstance(present, str | tuple):
        found = np.empty(len(values), object)
        found[:] = values
        return found
    if None in values:
        return np.array([np.nan if value is None else value for value in values], float)
    return np.array(values) if values else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Trail:
    """One figure of a view's rows and its standard error at some moments: `points[i]` holds both
    by the number that `ids` gives to a row's key; rows without either are missing."""

    ids: dict[Hashable, int] = field(default_factory=dict)
    points: tuple[Packed, ...] = ()

    def extended(self, listing: Listing, value: str, error: str, keep: int) -> Trail:
        """With one more point, of the last `keep` ones."""
        old = self.points[len(self.points) - keep :]
        ids = self.ids
        if len(ids) > 2 * len(listing.keys) + _FORGOTTEN:
            # Rows come and go (processes do): forget those that no point holds anything of.
            unpacked = [point.unpacked() for point in old]
            used = {number for rows, _ in unpacked for number in rows.tolist()}
            kept = [(key, i) for key, i in ids.items() if i in used]
            new = np.zeros(len(ids), int)
            new[[i for _, i in kept]] = np.arange(len(kept))
            ids = {key: i for i, (key, _) in enumerate(kept)}
            old = tuple(Packed.of(new[rows], columns, "f8") for rows, columns in unpacked)
        for key in listing.keys:
            ids.setdefault(key, len(ids))
        which = np.array([ids[key] for key in listing.keys], int)
        point = np.zeros((_WIDTH, len(which)))
        point[0] = listing.values(value)
        if error:
            point[1] = listing.values(error)
        there = point.any(axis=0)
        return Trail(ids, (*old, Packed.of(which[there], point[:, there], "f8")))

    def values(self, keys: Sequence[Hashable]) -> list[np.ndarray]:
        """The figure of these rows at each point; 0 where there was no such row."""
        which = self._which(keys)
        return [point.at(which, _WIDTH, 0.0)[0] for point in self.points]

    def first(self, keys: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
        """Figure and standard error of these rows at the first point."""
        value, error = self.points[0].at(self._which(keys), _WIDTH, 0.0)
        return value, error

    def _which(self, keys: Sequence[Hashable]) -> np.ndarray:
        return np.array([self.ids.get(key, -1) for key in keys], int)


@dataclass(frozen=True)
class Window:
    """`before` is the snapshot before the present one (None: counters began at 0 when tracking
    did); `moments` are the tracking seconds of the trails' points, oldest first, `trails` by
    view. Nothing of an earlier tracking session is in it."""

    now: Instant
    before: Instant | None = None
    moments: tuple[float, ...] = ()
    trails: dict[str, Trail] = field(default_factory=dict)

    @classmethod
    def of(cls, *snapshots: Snapshot) -> Window:
        """A window over these snapshots, in order of time."""
        return list(windows(snapshots))[-1]

    @property
    def snapshot(self) -> Snapshot:
        """The present."""
        return self.now.snapshot

    @property
    def seconds(self) -> float:
        """How long counters ran for the rates."""
        start = self.before.snapshot.tracking.seconds if self.before else 0.0
        return self.snapshot.tracking.seconds - start

    @property
    def span(self) -> float:
        """How far back the history goes, in seconds."""
        return self.snapshot.tracking.seconds - self.moments[0] if self.moments else 0.0


class History:
    """Makes windows of snapshots that come one after another; an Observer judges them unless
    another judge is given."""

    def __init__(
        self,
        views: Iterable[View],
        span: float = WINDOW_SECONDS,
        step: float = POINT_SECONDS,
        judge: Judge | None = None,
    ) -> None:
        listed = list(views)
        self._views = [view for view in listed if view.trail]
        self._span, self._step = span, step
        self._judge = judge or Observer()
        self._window: Window | None = None

    def add(self, snapshot: Snapshot) -> Window:
        """The window that ends with this snapshot. One that was seen before changes nothing; one
        of another tracking session, or of an earlier time, begins anew."""
        last = self._window
        self._judge.add(snapshot)
        now = Instant(snapshot, self._judge.assess)
        if last is None or is_reset(last.snapshot, snapshot):
            self._window = Window(now)
        elif snapshot.tracking.seconds > last.snapshot.tracking.seconds:
            moments, trails = self._trails(last)
            self._window = Window(now, last.now, moments, trails)
        assert self._window is not None
        return self._window

    def _trails(self, last: Window) -> tuple[tuple[float, ...], dict[str, Trail]]:
        """Adds the last instant to the trails if it is time for another point."""
        seconds = last.snapshot.tracking.seconds
        if last.moments and seconds - last.moments[-1] < self._step:
            return last.moments, last.trails
        moments = deque((*last.moments, seconds))
        while moments[0] < seconds - self._span:
            moments.popleft()
        trails = {
            view.name: last.trails.get(view.name, Trail()).extended(
                last.now.listing(view), view.trail, view.trail_error, len(moments) - 1
            )
            for view in self._views
        }
        return tuple(moments), trails


def windows(snapshots: Iterable[Snapshot]) -> Iterable[Window]:
    """Windows over snapshots as they come, of all views."""
    from slabmon.views.catalogue import VIEWS

    history = History(VIEWS.values())
    return map(history.add, snapshots)
