# SPDX-License-Identifier: Apache-2.0
"""What a request asks to be shown: a view, the links followed from it, a filter, an order."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np

from slabmon.base.errors import UsageError
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import GROWTH_ERROR, LIVE_BYTES, LIVE_ERROR, Column
from slabmon.views.drilldown import lead
from slabmon.views.filtering import find_column, mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

MAX_STEPS, MAX_ROWS = 8, 1000
# A filter may take so much CPU time, whatever its regular expressions are.
FILTER_SECONDS = 0.5
Step = tuple[str, tuple[Hashable, ...]]
_ERRORS = {LIVE_BYTES.name: LIVE_ERROR.name, "growth_bytes_per_hour": GROWTH_ERROR.name}


@dataclass(frozen=True)
class Asked:
    """`path`: titles of links and Link.values() of the rows they were followed from. `every`:
    all columns instead of the brief ones."""

    view: str
    path: tuple[Step, ...] = ()
    sort: str = ""
    inverted: bool = False
    filter: str = ""
    offset: int = 0
    limit: int = 100
    every: bool = False

    @classmethod
    def parse(cls, get: Callable[[str, str], str]) -> Asked:
        """From a function that gives a query argument or a default. Raises UsageError."""
        try:
            steps = [
                (str(title), _frozen(values)) for title, values in json.loads(get("path", "[]"))
            ]
            offset, limit = int(get("offset", "0")), int(get("limit", "100"))
        except (ValueError, TypeError, RecursionError):
            raise UsageError("path has to be pairs in JSON, offset and limit numbers") from None
        if len(steps) > MAX_STEPS:
            raise UsageError(f"no more than {MAX_STEPS} links can be followed")
        if offset < 0 or not 0 < limit <= MAX_ROWS:
            raise UsageError(f"offset has to be 0 or more, limit 1 to {MAX_ROWS}")
        return cls(
            get("view", "caches"),
            tuple(steps),
            get("sort", ""),
            get("inverted", "") == "1",
            get("filter", ""),
            offset,
            limit,
            get("columns", "") == "all",
        )

    def found(self) -> View:
        """The view at the end of the path."""
        view = VIEWS.get(self.view)
        if view is None:
            raise UsageError(f"there is no view {self.view!r}; there are {', '.join(VIEWS)}")
        for title, values in self.path:
            links = [link for link in view.links if link.title == title]
            if not links or len(links[0].where) != len(values):
                raise UsageError(f"from {view.title} no link {title!r} leads on")
            view = lead(links[0], view, values, VIEWS)
        return view

    def table(self, window: Window) -> Table:
        """The view's table. What was narrowed is not kept with the window, which many share."""
        view = self.found()
        if view.name in VIEWS:
            return Table(view, window)
        before = window.before and Instant(window.before.snapshot)
        return Table(view, Window(Instant(window.snapshot), before, window.moments, window.trails))

    def order(self, table: Table) -> np.ndarray:
        """Numbers of the rows that the filter lets through, as they are to be shown."""
        keep = None
        if self.filter:
            with _time_limit():
                keep = mask(self.filter, table)
        sort = find_column(table.columns, self.sort).name if self.sort else ""
        return table.order(sort, self.inverted, keep)

    def columns(self, table: Table) -> tuple[Column, ...]:
        """The columns to show: beside a sampled figure always its error."""
        if self.every:
            return table.columns
        names = [column.name for column in table.brief]
        there = {column.name: column for column in table.columns}
        for figure, error in _ERRORS.items():
            if figure in names and error in there:
                names.insert(names.index(figure) + 1, error)
        return tuple(there[name] for name in names)


def _frozen(value: object) -> tuple[Hashable, ...]:
    """A JSON array with tuples for the arrays in it."""
    if not isinstance(value, list):
        raise TypeError
    return tuple(_frozen(item) if isinstance(item, list) else _plain(item) for item in value)


def _plain(value: object) -> Hashable:
    if not isinstance(value, str | int | float | None):
        raise TypeError
    return value


def parse_key(text: str) -> Hashable:
    """A row's key from its JSON."""
    try:
        return _frozen([json.loads(text)])[0]
    except (ValueError, TypeError, RecursionError):
        raise UsageError("key has to be a row's key in JSON") from None


@contextmanager
def _time_limit() -> Iterator[None]:
    """Regular expressions can take for ever; the matcher looks at signals as it goes."""

    def give_up(signal_number: int, frame: FrameType | None) -> None:
        raise UsageError("filter: it takes too long; use a simpler regular expression")

    previous = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, FILTER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
