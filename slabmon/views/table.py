# SPDX-License-Identifier: Apache-2.0
"""One view of one window: values by column, order, and rows as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from slabmon.analysis.delta import is_reset
from slabmon.base.units import Value
from slabmon.views.columns import (
    BOUND,
    COUNTER,
    ERROR,
    ESTIMATE,
    GAUGE,
    HISTORY,
    LIVE_ERROR,
    Column,
)
from slabmon.views.window import Instant, Listing, Trail, Window

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.views.view import View

Order = Sequence[int] | np.ndarray
_HOUR = 3600.0
_DIGITS = 3  # of rates, ratios and ages: the same figures in every output


class Table:
    """Columns are computed when first asked for. With `mark`, an earlier instant, counters,
    gauges and estimates are differences from it; a mark of another tracking session is void."""

    def __init__(self, view: View, window: Window, mark: Instant | None = None) -> None:
        self.view = view
        self.window = window
        void = mark is None or is_reset(mark.snapshot, window.snapshot)
        self.mark = None if void else mark
        self._values: dict[str, np.ndarray] = {}

    @classmethod
    def of(cls, view: View, snapshot: Snapshot) -> Table:
        """A view of one snapshot without a past."""
        return cls(view, Window(Instant(snapshot)))

    def __len__(self) -> int:
        return len(self.listing.rows)

    @cached_property
    def listing(self) -> Listing:
        """The rows now."""
        return self.window.now.listing(self.view)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that have values: growth and history need a past."""
        past = bool(self.window.moments)
        return tuple(column for column in self.view.columns if past or not column.past)

    @property
    def brief(self) -> tuple[Column, ...]:
        """Those of them that people want to see, the most important first. Differences have no
        bounds: the standard error stands for them."""
        there = {column.name: column for column in self.columns}
        names = [
            LIVE_ERROR.name if self.mark and there[name].kind == BOUND else name
            for name in self.view.brief
            if name in there
        ]
        return tuple(there[name] for name in names)

    # What columns are made of

    def now(self, path: str) -> np.ndarray:
        """An attribute of the rows."""
        return self.listing.values(path)

    def label(self, position: int) -> np.ndarray:
        """One of the dimensions that rows of groups are labelled with."""
        return np.array([labels[position] for labels in self.now("labels")], object)

    def rate(self, path: str) -> np.ndarray:
        """Growth of a counter per second of the last interval, else since tracking began."""
        now = self.now(path)
        before = np.zeros(len(self))
        if self.window.before is not None:
            before = _aligned(self.window.before.listing(self.view), path, self.listing.keys)
        if self.window.seconds <= 0:
            return np.full(len(self), np.nan)
        return _rounded((now - before) / self.window.seconds)

    def quotient(self, part: np.ndarray, whole: np.ndarray, digits: int = _DIGITS) -> np.ndarray:
        """part / whole, NaN where there is no whole."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return _rounded(np.where(whole > 0, part / whole, np.nan), digits)

    @property
    def _trail(self) -> Trail | None:
        return self.window.trails.get(self.view.origin or self.view.name)

    def history(self, order: Order) -> list[list[int]]:
        """The view's figure at window.moments and now, for these rows."""
        now = self.now(self.view.trail)[order]
        if self._trail is None:
            return [[value] for value in now.tolist()]
        past = self._trail.values([self.listing.keys[row] for row in order])
        found: list[list[int]] = np.column_stack((*past, now)).astype(np.int64).tolist()
        return found

    def growth(self) -> np.ndarray:
        """Growth of the view's figure over the window, per hour (NaN: no past)."""
        if self._trail is None or self.window.span <= 0:
            return np.full(len(self), np.nan)
        growth = self.now(self.view.trail) - self._trail.first(self.listing.keys)[0]
        return _rounded(growth / self.window.span * _HOUR, 0)

    def growth_error(self) -> np.ndarray:
        """Standard error of growth(), at most: both ends of the window share samples, so that
        their errors partly cancel, which is left out of account."""
        if self._trail is None or self.window.span <= 0:
            return np.full(len(self), np.nan)
        then = self._trail.first(self.listing.keys)[1]
        both = np.hypot(self.now(self.view.trail_error), then)
        return _rounded(both / self.window.span * _HOUR, 0)

    def oldest(self) -> np.ndarray:
        """Age of the oldest tracked object of each row, seconds."""
        return _rounded(self.listing.ages[0])

    def most_ages(self) -> np.ndarray:
        """Age that 90 % of each row's live objects do not exceed, seconds."""
        return _rounded(self.listing.ages[1])

    def observable(self) -> np.ndarray:
        """Whether all frees of what each row holds can be seen."""
        return self.listing.observable

    # What is made of columns

    def values(self, name: str) -> np.ndarray:
        """One column of all rows. Missing numbers are NaN, missing text is None."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = self._computed(self.view.column(name))
        return found

    def _computed(self, column: Column) -> np.ndarray:
        found = np.asarray(column.get(self))
        if self.mark is None or column.kind not in (COUNTER, GAUGE, ESTIMATE, ERROR, BOUND):
            return found
        if column.kind == BOUND:
            return np.full(len(self), np.nan)
        there = Table(self.view, Window(self.mark))
        which, inside = _positions(there.listing, self.listing.keys)
        then = np.zeros(len(self))
        then[inside] = there.values(column.name)[which[inside]]
        if column.kind == ERROR:
            return _rounded(np.hypot(found, then), 0)
        return np.asarray(found - then)

    def order(
        self, sort: str = "", inverted: bool = False, keep: np.ndarray | None = None
    ) -> np.ndarray:
        """Row numbers by a column ("": the view's own): numbers largest first, text from A on,
        missing values last. `inverted` turns it round. `keep` is a mask of rows."""
        rows = np.arange(len(self)) if keep is None else np.flatnonzero(keep)
        name = sort or self.view.sort
        if not name:
            return np.asarray(rows[::-1] if inverted else rows)
        values = self.values(name)[rows]
        if values.dtype == object:
            there = np.array([value is not None for value in values], bool)
            named = sorted(
                np.flatnonzero(there), key=lambda i: str(values[i]).casefold(), reverse=inverted
            )
            return np.asarray(rows[np.array([*named, *np.flatnonzero(~there)], int)])
        numbers = values.astype(float)
        found = np.argsort(numbers if inverted else -numbers, kind="stable")
        return np.asarray(rows[found])

    def cells(self, order: Order, columns: Sequence[Column]) -> list[tuple[Value, ...]]:
        """These rows as plain values: None for what is missing."""
        picked: list[Sequence[Value]] = [
            self.history(order)
            if column.kind == HISTORY
            else _plain(column, self.values(column.name)[order])
            for column in columns
        ]
        return list(zip(*picked, strict=True))

    def key(self, row: int) -> Hashable:
        """What identifies a row from one snapshot to the next."""
        return self.listing.keys[row]


def _rounded(values: np.ndarray, digits: int = _DIGITS) -> np.ndarray:
    return np.asarray(np.round(values, digits))


def _positions(listing: Listing, keys: list[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of these keys, and which of them are there."""
    which = np.array([listing.position.get(key, -1) for key in keys], int)
    return which, which >= 0


def _aligned(listing: Listing, path: str, keys: list[Hashable]) -> np.ndarray:
    """An attribute of an earlier listing's rows for these keys, 0 where there was no such row."""
    which, inside = _positions(listing, keys)
    values = np.zeros(len(keys))
    values[inside] = listing.values(path)[which[inside]]
    return values


def _plain(column: Column, values: np.ndarray) -> list[Value]:
    """Python values; whole units are int again even where a missing value made them float."""
    if values.dtype.kind != "f":
        found: list[Value] = values.tolist()
        return found
    whole = column.whole
    return [None if v != v else int(v) if whole else v for v in values.tolist()]
