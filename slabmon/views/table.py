# SPDX-License-Identifier: Apache-2.0
"""One view of one window: values by column, order, and rows as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slabmon.analysis.callers import main_callers
from slabmon.analysis.contexts import main_contexts
from slabmon.analysis.delta import is_reset
from slabmon.analysis.served import device_texts
from slabmon.base.arrays import F64, I64, Bool, Values
from slabmon.base.units import Value
from slabmon.base.workloads import Workload
from slabmon.views.columns import ALIASES, LIVE_ERROR, RETAINED, SERVED, Column, Kind
from slabmon.views.trail import Trail
from slabmon.views.window import Instant, Listing, Window

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.views.view import View

Order = Sequence[int] | NDArray[np.integer[Any]]
_HOUR = 3600.0
# Intervals of a pause that a history shows at most.
_MAX_GAP = 240
_DIGITS = 3  # of rates, ratios and ages: the same figures in every output
_SUBTRACTED = (Kind.COUNTER, Kind.GAUGE, Kind.ESTIMATE, Kind.ERROR, Kind.BOUND)


class Table:
    """The values of a view's columns, computed when first needed.

    With `mark`, an earlier instant, counters, gauges and estimates are differences from it; a mark
    of another tracking session is ignored.
    """

    def __init__(self, view: View, window: Window, mark: Instant | None = None) -> None:
        self.view = view
        self.window = window
        void = mark is None or is_reset(mark.snapshot, window.snapshot)
        self.mark = None if void else mark
        self._values: dict[str, Values] = {}
        self._workloads: list[Workload] | None = None

    @classmethod
    def of(cls, view: View, snapshot: Snapshot) -> Table:
        """Return a view of one snapshot without a past."""
        return cls(view, Window(Instant(snapshot)))

    @property
    def note(self) -> str:
        """What to say above the rows, "" for nothing."""
        return self.view.note(self)

    def __len__(self) -> int:
        return len(self.listing.rows)

    @cached_property
    def listing(self) -> Listing:
        """The present rows."""
        return self.window.listing(self.view)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that have values: growth and history need a past."""
        past = bool(self.window.moments)
        return tuple(column for column in self.view.columns if past or not column.past)

    @property
    def brief(self) -> tuple[Column, ...]:
        """The columns of tables for people, the most important first. Differences have no bounds;
        the standard error takes their place. Hosts without merged caches have no other names,
        without a census that looked for it nobody knows what devices retain, and where no device of
        an allocation is known there is none to show."""
        columns = {column.name: column for column in self.columns}
        if not any(cache.aliases for cache in self.window.snapshot.caches):
            columns.pop(ALIASES, None)
        if not self._retained:
            columns.pop(RETAINED.name, None)
        if not self.window.snapshot.tracked.device.any():
            columns.pop(SERVED.name, None)
        names = [
            LIVE_ERROR.name if self.mark and columns[name].kind == Kind.BOUND else name
            for name in self.view.brief
            if name in columns
        ]
        return tuple(columns[name] for name in names)

    @cached_property
    def _retained(self) -> dict[Hashable, float]:
        census = self.window.snapshot.census
        rows = census.devices if census else ()
        return {(row.bus, row.name): row.retained_bytes for row in rows}

    # What columns are computed from, see columns.TableFigures.

    def now(self, path: str) -> Values:
        """Return the attribute at `path` (see views.columns) of the rows."""
        return self.listing.values(path)

    def label(self, position: int) -> Values:
        """Return one of the dimensions that grouped rows are labelled with."""
        return np.array([labels[position] for labels in self.now("labels")], object)

    def aliases(self, names: Values) -> Values:
        """Return the other names of caches as text, None for those without."""
        known = {cache.name: cache.aliases for cache in self.window.snapshot.caches}
        texts = [", ".join(known.get(name, ())) or None for name in names.tolist()]
        return np.array(texts, object)

    def workloads(self, cgroups: Values, attribute: str) -> Values:
        """Return an attribute of what runs in these cgroups, None where it is not known."""
        if self._workloads is None:  # all columns of a table are of the same cgroups
            self._workloads = list(map(self.window.snapshot.workload, cgroups.tolist()))
        values = [value or None for value in map(attrgetter(attribute), self._workloads)]
        return np.array(values, object)

    def retained(self) -> F64:
        """Return the bytes that each device retained at the last census, NaN where not known."""
        return np.array([self._retained.get(key, np.nan) for key in self.listing.keys])

    def callers(self) -> Values:
        """Return the caller that holds most of each row, None where none is known."""
        members = self.listing.members
        if members is None:
            return np.full(len(self), None, object)
        return np.array(main_callers(self.window.snapshot, members, len(self)), object)

    def contexts(self) -> Values:
        """Return the context that allocated most of each row, None where none is known."""
        members = self.listing.members
        if members is None:
            return np.full(len(self), None, object)
        return np.array(main_contexts(self.window.snapshot, members, len(self)), object)

    def served(self) -> Values:
        """Return the device that most of each row is for, None where none is known."""
        members = self.listing.members
        if members is None:
            return np.full(len(self), None, object)
        return np.array(device_texts(self.window.snapshot, members, len(self)), object)

    def rate(self, path: str) -> F64:
        """Return a counter's increase per second of the last interval, else since tracking
        began."""
        now = self.now(path)
        before = np.zeros(len(self))
        if self.window.before is not None:
            before = _aligned(self.window.before.listing(self.view), path, self.listing.keys)
        if self.window.seconds <= 0:
            return np.full(len(self), np.nan)
        return _rounded((now - before) / self.window.seconds)

    def quotient(self, part: Values, whole: Values, digits: int = _DIGITS) -> F64:
        """Return part / whole, NaN where whole is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return _rounded(np.where(whole > 0, part / whole, np.nan), digits)

    @property
    def _trail(self) -> Trail | None:
        return self.window.trails.get(self.view.origin or self.view.name)

    @cached_property
    def _first(self) -> tuple[F64, F64]:
        """Figure and standard error of all rows at the first point."""
        assert self._trail is not None
        return self._trail.first(self.listing.keys)

    def figures(self, order: Order, points: Sequence[int] | None = None) -> list[list[int]]:
        """Return the view's figure, for each of these rows, at window.moments (or those with these
        numbers) and now."""
        now = self.now(self.view.figure)[order]
        if self._trail is None:
            return [[value] for value in now.tolist()]
        past = self._trail.values([self.listing.keys[row] for row in order], points)
        figures: list[list[int]] = np.column_stack((*past, now)).astype(np.int64).tolist()
        return figures

    def history(self, order: Order, most: int = 0) -> list[list[int | None]]:
        """Return figures() at equal intervals: None for each in which nothing was read. With
        `most`, at most so many, evenly chosen, the last one included."""
        count = len(self._trail.points) + 1 if self._trail else 1
        # For each interval the number of its point, None in a gap.
        intervals: list[int | None] = []
        for point, gap in enumerate(self.window.gaps[-count:]):
            intervals += [None] * min(round(gap), _MAX_GAP)
            intervals.append(point)
        step = -(-len(intervals) // most) if most else 1
        intervals = intervals[::-1][::step][::-1]
        points = [point for point in intervals if point is not None]
        place = {point: i for i, point in enumerate(points)}
        return [
            [None if point is None else figures[place[point]] for point in intervals]
            for figures in self.figures(order, points[:-1])
        ]

    def growth(self) -> F64:
        """Return the growth of the view's figure over the window, per hour; NaN without a past."""
        if self._trail is None or self.window.span <= 0:
            return np.full(len(self), np.nan)
        growth = self.now(self.view.figure) - self._first[0]
        return _rounded(growth / self.window.span * _HOUR, 0)

    def growth_error(self) -> F64:
        """Return an upper bound of the standard error of growth().

        Both ends of the window share samples, so that their errors partly cancel; this is ignored.
        """
        if self._trail is None or self.window.span <= 0:
            return np.full(len(self), np.nan)
        combined = np.hypot(self.now(self.view.figure_error), self._first[1])
        return _rounded(combined / self.window.span * _HOUR, 0)

    def oldest(self) -> F64:
        """Return the age of each row's oldest tracked object, seconds."""
        return _rounded(self.listing.ages[0])

    def p90_age(self) -> F64:
        """Return the 90th percentile of the ages of each row's live objects, seconds."""
        return _rounded(self.listing.ages[1])

    def observable(self) -> Bool:
        """Return whether every free of what each row holds is observed."""
        return self.listing.observable

    # What is made of columns.

    def values(self, name: str) -> Values:
        """Return one column of all rows. Missing numbers are NaN, missing text is None."""
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = self._compute(self.view.column(name))
        return values

    def _compute(self, column: Column) -> Values:
        now = np.asarray(column.get(self))
        if self.mark is None or column.kind not in _SUBTRACTED:
            return now
        if column.kind == Kind.BOUND:
            return np.full(len(self), np.nan)
        marked = Table(self.view, Window(self.mark))
        positions, mask = _positions(marked.listing, self.listing.keys)
        then = np.zeros(len(self))
        then[mask] = marked.values(column.name)[positions[mask]]
        if column.kind == Kind.ERROR:
            return _rounded(np.hypot(now, then), 0)
        return np.asarray(now - then)

    def order(self, sort: str = "", inverted: bool = False, keep: Bool | None = None) -> I64:
        """Return row numbers, ordered by the column `sort` ("": the view's own).

        Numbers are in descending order, text in ascending order, missing values last; `inverted`
        reverses this. `keep` is a mask of the rows to return.
        """
        rows = np.arange(len(self)) if keep is None else np.flatnonzero(keep)
        name = sort or self.view.sort
        if not name:
            return np.asarray(rows[::-1] if inverted else rows)
        values = self.values(name)[rows]
        if values.dtype == object:
            mask = np.array([value is not None for value in values], bool)
            present = sorted(
                np.flatnonzero(mask), key=lambda i: str(values[i]).casefold(), reverse=inverted
            )
            return np.asarray(rows[np.array([*present, *np.flatnonzero(~mask)], int)])
        numbers = values.astype(float)
        return np.asarray(rows[np.argsort(numbers if inverted else -numbers, kind="stable")])

    def cells(
        self, order: Order, columns: Sequence[Column], most: int = 0
    ) -> list[tuple[Value, ...]]:
        """Return these rows as plain values, None for missing ones; of histories `most` points, see
        history()."""
        by_column: list[Sequence[Value]] = [
            self.history(order, most)
            if column.kind == Kind.HISTORY
            else _plain(column, self.values(column.name)[order])
            for column in columns
        ]
        return list(zip(*by_column, strict=True))

    def key(self, row: int) -> Hashable:
        """Return what identifies a row from one snapshot to the next."""
        return self.listing.keys[row]


def _rounded(values: Values, digits: int = _DIGITS) -> F64:
    return np.asarray(np.round(values, digits))


def _positions(listing: Listing, keys: list[Hashable]) -> tuple[I64, Bool]:
    """Return the row numbers of these keys, and a mask of those that exist."""
    positions = np.array([listing.position.get(key, -1) for key in keys], np.int64)
    return positions, positions >= 0


def _aligned(listing: Listing, path: str, keys: list[Hashable]) -> F64:
    """Return an attribute of a listing's rows for these keys, 0 where there is no such row."""
    positions, mask = _positions(listing, keys)
    values = np.zeros(len(keys))
    values[mask] = listing.values(path)[positions[mask]]
    return values


def _plain(column: Column, values: Values) -> list[Value]:
    """Return Python values. Whole units stay int where a missing value made the array float."""
    if values.dtype.kind != "f":
        plain: list[Value] = values.tolist()
        return plain
    whole = column.whole
    return [None if v != v else int(v) if whole else v for v in values.tolist()]
