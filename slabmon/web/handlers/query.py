# SPDX-License-Identifier: Apache-2.0
"""Parses the page's query: a view, the links followed from it, a filter, an order, a range."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from slabmon.base.arrays import I64
from slabmon.base.errors import UsageError
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import GROWTH_ERROR, LIVE_BYTES, LIVE_ERROR, Column
from slabmon.views.drilldown import resolve_link
from slabmon.views.filtering import find_column, mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

MAX_STEPS, MAX_ROWS = 8, 1000
# Characters of a filter and of a path. The page's own filters have 500 at most.
MAX_FILTER, MAX_PATH = 500, 4096
# CPU time that one filter may take: many terms over many rows.
FILTER_SECONDS = 0.2
# What TableQuery.parse() asks for.
QUERY_PARAMETERS = (
    "view",
    "path",
    "sort",
    "inverted",
    "filter",
    "offset",
    "limit",
    "columns",
)
Step = tuple[str, tuple[Hashable, ...]]
# Sampled figures and their standard errors, which are always shown together.
_ERRORS = {LIVE_BYTES.name: LIVE_ERROR.name, "growth_bytes_per_hour": GROWTH_ERROR.name}


@dataclass(frozen=True, kw_only=True)
class TableQuery:
    """A table to show.

    `path` holds the links followed from `view`: their titles, and Link.values() of the rows they
    were followed from. `sort` is the name of a column, empty for the view's own order. `offset`
    and `limit` select among the rows that `filter` lets through. `all_columns` shows all columns
    instead of the brief ones.
    """

    view: str = "caches"
    path: tuple[Step, ...] = ()
    sort: str = ""
    inverted: bool = False
    filter: str = ""
    offset: int = 0
    limit: int = 100
    all_columns: bool = False

    @classmethod
    def parse(cls, get: Callable[[str, str], str]) -> TableQuery:
        """Parse query arguments. `get` takes an argument's name and default. Raises UsageError."""
        filter_text, path_text = get("filter", ""), get("path", "[]")
        if len(filter_text) > MAX_FILTER or len(path_text) > MAX_PATH:
            raise UsageError(
                f"too long: filter at most {MAX_FILTER} characters, path at most {MAX_PATH}"
            )
        try:
            path = [(str(title), _frozen(values)) for title, values in json.loads(path_text)]
            offset, limit = int(get("offset", "0")), int(get("limit", "100"))
        except (ValueError, TypeError, RecursionError):
            raise UsageError("path must be pairs in JSON, offset and limit integers") from None
        if len(path) > MAX_STEPS:
            raise UsageError(f"path: expected at most {MAX_STEPS} links, got {len(path)}")
        if offset < 0 or not 0 < limit <= MAX_ROWS:
            raise UsageError(f"offset must be 0 or more, limit 1 to {MAX_ROWS}")
        inverted, columns = get("inverted", ""), get("columns", "")
        if inverted not in ("", "0", "1") or columns not in ("", "all"):
            raise UsageError("inverted must be 1 or 0; columns must be all, or left out")
        return cls(
            view=get("view", "caches"),
            path=tuple(path),
            sort=get("sort", ""),
            inverted=inverted == "1",
            filter=filter_text,
            offset=offset,
            limit=limit,
            all_columns=columns == "all",
        )

    def target_view(self) -> View:
        """Return the view at the end of the path. Raises UsageError if a link does not exist."""
        view = VIEWS.get(self.view)
        if view is None:
            raise UsageError(f"unknown view {self.view!r}: expected one of {', '.join(VIEWS)}")
        for title, values in self.path:
            links = [link for link in view.links if link.title == title]
            if not links or len(links[0].where) != len(values):
                raise UsageError(f"{view.title}: no link {title!r} with these values")
            view = resolve_link(links[0], view, values, VIEWS)
        return view

    def table(self, window: Window) -> Table:
        """Return the target view's table. Narrowed views are not cached in `window`, which all
        requests share. Raises UsageError."""
        view = self.target_view()
        if view.name in VIEWS:
            return Table(view, window)
        before = window.before and Instant(window.before.snapshot)
        return Table(view, Window(Instant(window.snapshot), before, window.moments, window.trails))

    def order(self, table: Table) -> I64:
        """Return the indices of the rows that the filter lets through, in the order to show them.
        Raises UsageError."""
        keep = None
        if self.filter:
            with _time_limit():
                keep = mask(self.filter, table)
        sort = find_column(table.columns, self.sort).name if self.sort else ""
        return table.order(sort, self.inverted, keep)

    def columns(self, table: Table) -> tuple[Column, ...]:
        """Return the columns to show; a sampled figure is followed by its standard error."""
        if self.all_columns:
            return table.columns
        names = [column.name for column in table.brief]
        by_name = {column.name: column for column in table.columns}
        for figure, error in _ERRORS.items():
            if figure in names and error in by_name:
                names.insert(names.index(figure) + 1, error)
        return tuple(by_name[name] for name in names)


def _frozen(value: object) -> tuple[Hashable, ...]:
    """Return a JSON array as a tuple, and arrays inside it as tuples. Raises TypeError."""
    if not isinstance(value, list):
        raise TypeError
    return tuple(_frozen(item) if isinstance(item, list) else _plain(item) for item in value)


def _plain(value: object) -> Hashable:
    if not isinstance(value, str | int | float | None):
        raise TypeError
    return value


def parse_key(text: str) -> Hashable:
    """Parse a row's key from JSON. Raises UsageError."""
    try:
        return _frozen([json.loads(text)])[0]
    except (ValueError, TypeError, RecursionError):
        raise UsageError("key must be a row's key in JSON") from None


@contextmanager
def _time_limit() -> Iterator[None]:
    """Bound the CPU time of a filter. Raises UsageError."""

    def give_up(signal_number: int, frame: FrameType | None) -> None:
        raise UsageError("filter: takes too long; use fewer or simpler terms")

    previous = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, FILTER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
