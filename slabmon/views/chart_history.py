# SPDX-License-Identifier: Apache-2.0
"""The last hour of each view's rows, for charts. Rows and points are bounded.

Of the largest and the busiest rows of a view, and of all its rows together, each point holds the
view's figure, its standard error, and the rates since the previous point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from slabmon.analysis.delta import is_reset
from slabmon.base.arrays import F64, distinct
from slabmon.base.units import PER_SECOND
from slabmon.views.columns import Column, Kind
from slabmon.views.compressed_rows import CompressedTimeline, Format, lookup
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window

if TYPE_CHECKING:
    from slabmon.views.view import View

SPAN_SECONDS = 3600.0
STEP_SECONDS = 10.0
# Rows kept per point: this many of the largest, and this many of the busiest.
MAX_ROWS = 256
_FORMAT: Format = "f4"


def rates(view: View) -> tuple[Column, ...]:
    """Return the columns of a view that are charted besides its figure: events per second."""
    return tuple(c for c in view.columns if c.kind == Kind.RATE and c.unit == PER_SECOND)


@dataclass
class _ViewSeries:
    """The points of one view; `totals` are the figures of all its rows together."""

    ids: dict[Hashable, int] = field(default_factory=dict)
    points: CompressedTimeline = field(default_factory=lambda: CompressedTimeline(_FORMAT))
    totals: deque[F64] = field(default_factory=deque)
    max_keys: int = 1024  # beyond this, keys that no point refers to are dropped

    def add(self, keys: list[Hashable], values: F64, total: F64) -> None:
        """Add a point: `values` of shape (rows, width)."""
        numbers = np.array([self.ids.setdefault(key, len(self.ids)) for key in keys], np.int32)
        self.points.append(numbers, values.T)
        self.totals.append(total)

    def drop_oldest(self) -> None:
        """Remove the oldest point."""
        self.points.drop_oldest()
        self.totals.popleft()

    def drop_stale_keys(self) -> None:
        """Drop the keys that no point refers to, once there are too many."""
        if len(self.ids) < self.max_keys:
            return
        points = list(self.points.backwards())[::-1]
        used = set(np.concatenate([numbers for numbers, _ in points]).tolist())
        keys = {number: key for key, number in self.ids.items() if number in used}
        renumbered = np.zeros(len(self.ids), np.int32)
        renumbered[list(keys)] = np.arange(len(keys))
        self.ids = {key: number for number, key in enumerate(keys.values())}
        self.points = CompressedTimeline(_FORMAT)
        for numbers, columns in points:
            self.points.append(renumbered[numbers], columns)
        self.max_keys = max(self.max_keys, 2 * len(self.ids))

    def values(self, key: Hashable | None, width: int) -> F64:
        """Return an array of shape (points, width), NaN where the row was not kept. The key None
        stands for all rows together."""
        if key is None:
            return np.array(self.totals).reshape(-1, width)
        number = np.array([self.ids.get(key, -1)])
        points = [lookup(*point, number, width, np.nan)[:, 0] for point in self.points.backwards()]
        return np.array(points[::-1]).reshape(-1, width)


class ChartHistory:
    """Keeps a point per `step` seconds of one tracking session, over `span` seconds."""

    def __init__(
        self,
        views: Iterable[View],
        span: float = SPAN_SECONDS,
        step: float = STEP_SECONDS,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._views = [view for view in views if view.figure]
        self._span, self._step, self._max_rows = span, step, max_rows
        self._last: Instant | None = None
        self.moments: deque[float] = deque()
        self.times: deque[float] = deque()  # Unix times of the moments
        self._series = {view.name: _ViewSeries() for view in self._views}

    def add(self, now: Instant) -> None:
        """Add a point if one is due. Another tracking session starts over."""
        seconds = now.snapshot.tracking.seconds
        if self._last is not None and is_reset(self._last.snapshot, now.snapshot):
            self._last = None
            self.moments.clear()
            self.times.clear()
            self._series = {view.name: _ViewSeries() for view in self._views}
        if self.moments and seconds - self.moments[-1] < self._step:
            return
        window = Window(now, self._last)
        for view in self._views:
            self._extend(view, window)
        self.moments.append(seconds)
        self.times.append(now.snapshot.taken)
        while self.moments[0] < seconds - self._span:
            self.moments.popleft()
            self.times.popleft()
            for series in self._series.values():
                series.drop_oldest()
        self._last = now

    def _extend(self, view: View, window: Window) -> None:
        table = Table(view, window)
        values = np.column_stack(
            [
                table.now(view.figure),
                table.now(view.figure_error) if view.figure_error else np.zeros(len(table)),
                *(table.values(column.name) for column in rates(view)),
            ]
        ).astype(float)
        total = values.sum(axis=0)
        total[1] = np.sqrt((values[:, 1] ** 2).sum())  # errors of independent samples
        rows = np.arange(len(values))
        if len(values) > self._max_rows:
            largest = [
                np.argpartition(-values[:, i], self._max_rows)[: self._max_rows]
                for i in (0, 2)
                if i < values.shape[1]
            ]
            rows = distinct(np.concatenate(largest))
        series = self._series[view.name]
        series.add([table.key(row) for row in rows.tolist()], values[rows], total)
        series.drop_stale_keys()

    def series(self, view: View, key: Hashable | None) -> F64:
        """Return figure, standard error and rates() of a row (None: of all rows together), shape
        (moments, 2 + rates)."""
        return self._series[view.name].values(key, 2 + len(rates(view)))
