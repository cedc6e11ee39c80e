# SPDX-License-Identifier: Apache-2.0
"""Views: pure data. catalogue.py holds the standing ones, drilldown.py derives others from them.

One view, field by field::

    View(
        name="devices",                    # in options, URLs and JSON
        title="devices with managed (devres) resources",
        rows=lambda snapshot: snapshot.devices,
        key=attrgetter("bus", "name"),     # finds a row again in the next snapshot
        columns=(                          # all of them, for CSV, JSON and `--view`
            label("name", "Name of the device in sysfs."),
            attribute("managed_bytes", unit=BYTES, kind=Kind.GAUGE, help="...", title="managed"),
            *columns.growth("managed_bytes"),
        ),
        brief=("name", "managed_bytes"),   # what a table for people shows, most important first
        sort="managed_bytes",              # the column that tables are ordered by
        figure="managed_bytes",            # path of the attribute whose history is kept
        links=(                            # where Enter leads to from a row
            Link(
                title="resources",
                view="resources",          # the rows of this view ...
                where=(                    # ... whose attribute equals what the row has
                    ("device.bus", attrgetter("bus")),
                    ("device.name", attrgetter("name")),
                ),
            ),
        ),
    )

For paths such as "device.bus" see columns.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slabmon.views.columns import Column

if TYPE_CHECKING:  # importing it takes a tenth of a second, too long for the command line
    from slabmon.analysis.grouping import Groups

Where = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way from a row to what belongs to it.

    It leads to rows of the view `view` or, if that is "", to the tracked objects grouped by the
    dimensions `by`. `where` narrows either: pairs of an attribute (or dimension) and a function
    that returns the value it must have, given the row; () leads to the whole view. Rows for which
    `applies` returns False have no such link.
    """

    title: str
    where: tuple[tuple[str, Callable[[Any], Hashable]], ...] = ()
    view: str = ""
    by: tuple[str, ...] = ()
    applies: Callable[[Any], bool] = lambda row: True

    def values(self, row: Any) -> tuple[Hashable, ...]:
        """Return the values that the names in `where` must have for this row."""
        return tuple(get(row) for _, get in self.where)


@dataclass(frozen=True, kw_only=True)
class View:
    """A table of rows and columns; the module's docstring has an example.

    name: identifies the view in options, URLs and JSON.
    title: a phrase for people.
    rows: returns the rows of a snapshot; of an Assessment (None if there is none) if `judged`, of
        a Window if `windowed`.
    key: identifies a row from one snapshot to the next.
    columns: all columns.
    brief: names of the columns in tables for people, the most important first.
    sort: the column that tables are ordered by, largest first; "" keeps the rows' order.
    figure: path of the attribute whose history is kept for growth and charts, "" for none.
    figure_error: path of its standard error, "" if the figure is exact.
    links: lead from a row to what belongs to it.
    note: returns what to say above the rows of a table, "" for nothing.
    details: whether its snapshots need cgroup paths and stacks.
    origin: name of the view that this one was narrowed from, "" for a standing view.
    where: labels of the tracked objects that this view was narrowed to.
    judged: whether its rows come from an assessment of leaks instead of a snapshot.
    windowed: whether its rows come from a window: the recent past, and the assessment if there is
        one. It can have no figure.
    past: views that are not shown, whose past figures its rows are computed from.
    census: whether its rows come from the snapshot's census.
    """

    name: str
    title: str
    rows: Callable[[Any], Sequence[Any] | Groups]
    key: Callable[[Any], Hashable]
    columns: tuple[Column, ...]
    brief: tuple[str, ...]
    sort: str = ""
    figure: str = ""
    figure_error: str = ""
    links: tuple[Link, ...] = ()
    note: Callable[[Any], str] = lambda table: ""
    details: bool = False
    origin: str = ""
    where: Where = ()
    judged: bool = False
    windowed: bool = False
    past: tuple[View, ...] = ()
    census: bool = False

    def column(self, name: str) -> Column:
        """Return the column of this name."""
        return next(column for column in self.columns if column.name == name)
