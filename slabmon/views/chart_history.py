# SPDX-License-Identifier: Apache-2.0
"""The last hour of the rows of views that keep a history, for charts: bounded in rows and points.

Each point holds, of the largest and the busiest rows of a view and of all its rows together: the
view's figure, its standard error, and the rates since the point before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from slabmon.analysis.delta import is_reset
from slabmon.base.units import PER_SECOND
from slabmon.views.columns import RATE, Column
from slabmon.views.compressed_rows import Moments, picked
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window

if TYPE_CHECKING:
    from slabmon.views.view import View

SPAN_SECONDS = 3600.0
STEP_SECONDS = 10.0
# Rows kept per point: so many of the largest and so many of the busiest.
MOST_ROWS = 256
_KIND = "f4"


def rates(view: View) -> tuple[Column, ...]:
    """The columns of a view that are charted besides its figure: events per second."""
    return tuple(c for c in view.columns if c.kind == RATE and c.unit == PER_SECOND)


@dataclass
class _Course:
    """The points of one view, as many as there are moments; `totals` belong to all rows."""

    ids: dict[Hashable, int] = field(default_factory=dict)
    points: Moments = field(default_factory=lambda: Moments(_KIND))
    totals: deque[np.ndarray] = field(default_factory=deque)
    enough: int = 1024  # when so many keys are known, those that no point holds are forgotten

    def add(self, keys: list[Hashable], values: np.ndarray, total: np.ndarray) -> None:
        numbers = np.array([self.ids.setdefault(key, len(self.ids)) for key in keys], np.int32)
        self.points.append(numbers, values.T)
        self.totals.append(total)

    def drop_oldest(self) -> None:
        self.points.drop_oldest()
        self.totals.popleft()

    def forget(self) -> None:
        """Drops keys that no point holds any more, if it is time."""
        if len(self.ids) < self.enough:
            return
        points = list(self.points.backwards())[::-1]
        held = set(np.concatenate([rows for rows, _ in points]).tolist())
        keys = {number: key for key, number in self.ids.items() if number in held}
        new = np.zeros(len(self.ids), np.int32)
        new[list(keys)] = np.arange(len(keys))
        self.ids = {key: i for i, key in enumerate(keys.values())}
        self.points = Moments(_KIND)
        for rows, columns in points:
            self.points.append(new[rows], columns)
        self.enough = max(self.enough, 2 * len(self.ids))

    def values(self, key: Hashable | None, width: int) -> np.ndarray:
        """points x width; NaN where the row was not held. None stands for all rows."""
        if key is None:
            return np.array(self.totals).reshape(-1, width)
        number = np.array([self.ids.get(key, -1)])
        found = [picked(*point, number, width, np.nan)[:, 0] for point in self.points.backwards()]
        return np.array(found[::-1]).reshape(-1, width)


class Hour:
    """Takes instants as they come; keeps one per STEP_SECONDS of one tracking session."""

    def __init__(
        self,
        views: Iterable[View],
        span: float = SPAN_SECONDS,
        step: float = STEP_SECONDS,
        most: int = MOST_ROWS,
    ) -> None:
        self._views = [view for view in views if view.trail]
        self._span, self._step, self._most = span, step, most
        self._last: Instant | None = None
        self.moments: deque[float] = deque()
        self._courses = {view.name: _Course() for view in self._views}

    @property
    def since(self) -> float:
        """Unix time from which the moments' seconds count; 0 if there are none."""
        return self._last.snapshot.tracking.since if self._last else 0.0

    def add(self, now: Instant) -> None:
        """Adds a point if it is time for one. Another session begins anew."""
        seconds = now.snapshot.tracking.seconds
        if self._last is not None and is_reset(self._last.snapshot, now.snapshot):
            self._last = None
            self.moments.clear()
            self._courses = {view.name: _Course() for view in self._views}
        if self.moments and seconds - self.moments[-1] < self._step:
            return
        window = Window(now, self._last)
        for view in self._views:
            self._extend(view, window)
        self.moments.append(seconds)
        while self.moments[0] < seconds - self._span:
            self.moments.popleft()
            for course in self._courses.values():
                course.drop_oldest()
        self._last = now

    def _extend(self, view: View, window: Window) -> None:
        table = Table(view, window)
        values = np.column_stack(
            [
                table.now(view.trail),
                table.now(view.trail_error) if view.trail_error else np.zeros(len(table)),
                *(table.values(column.name) for column in rates(view)),
            ]
        ).astype(float)
        total = values.sum(axis=0)
        total[1] = np.sqrt((values[:, 1] ** 2).sum())  # errors of independent samples
        kept = np.arange(len(values))
        if len(values) > self._most:
            largest = [
                np.argpartition(-values[:, i], self._most)[: self._most]
                for i in (0, 2)
                if i < values.shape[1]
            ]
            kept = np.unique(np.concatenate(largest))
        course = self._courses[view.name]
        course.add([table.key(row) for row in kept.tolist()], values[kept], total)
        course.forget()

    def series(self, view: View, key: Hashable | None) -> np.ndarray:
        """moments x (figure, standard error, *rates()) of a row, or of all rows of the view."""
        return self._courses[view.name].values(key, 2 + len(rates(view)))
