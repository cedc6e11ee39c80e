# SPDX-License-Identifier: Apache-2.0
"""What a view is, and how rows of one lead to rows of another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slabmon.views import columns as c
from slabmon.views.columns import Column

if TYPE_CHECKING:  # importing them costs a tenth of a second, which the command line has not
    from slabmon.analysis.grouping import Groups

Where = tuple[tuple[str, str], ...]
GROUP_TITLES = {
    ("cache",): "caches",
    ("site",): "sites",
    ("stack",): "stacks",
    ("process", "pid"): "processes",
    ("cgroup",): "cgroups",
}


class Link(NamedTuple):
    """What belongs to a row: rows of the view `view`, or, where it is "", the tracked objects by
    the dimensions `by`; narrowed to those of which an attribute (or dimension) equals what a
    function gets from the row, for each pair in `where`."""

    title: str
    where: tuple[tuple[str, Callable[[Any], Hashable]], ...]
    view: str = ""
    by: tuple[str, ...] = ()

    def values(self, row: Any) -> tuple[Hashable, ...]:
        """What the names in `where` have to equal for this row."""
        return tuple(ours(row) for _, ours in self.where)


@dataclass(frozen=True)
class View:
    """`sort` is the column a table is ordered by, largest first ("" keeps the rows' order).

    `key` identifies a row from one snapshot to the next. `brief` names the columns that a table
    for people shows, the most important first. `trail` and `trail_error` are the attributes whose
    history is kept, "" for none. `links` lead from a row to what belongs to it. `details`: its
    snapshot needs cgroup paths and stacks. `origin` is the view that a narrowed one was made of;
    `where` what tracked objects were narrowed to. `judged`: its rows are made of an assessment of
    leaks (None: there is none) instead of a snapshot.
    """

    name: str
    title: str
    rows: Callable[[Any], Sequence[Any] | Groups]
    key: Callable[[Any], Hashable]
    columns: tuple[Column, ...]
    brief: tuple[str, ...]
    sort: str = ""
    trail: str = ""
    trail_error: str = ""
    links: tuple[Link, ...] = ()
    details: bool = False
    origin: str = ""
    where: Where = ()
    judged: bool = False

    def column(self, name: str) -> Column:
        """A column by its name."""
        return next(column for column in self.columns if column.name == name)


def _label(position: int) -> Callable[[Any], Hashable]:
    return lambda row: str(row.labels[position])


def group_links(*by: str, of: Callable[[Any], Hashable] | None = None) -> tuple[Link, ...]:
    """Links from a row that stands for one value of each of these dimensions to its tracked
    objects by other dimensions. `of` gets the value (default: the group's labels)."""
    order = [("cache",), ("site",), ("process", "pid"), ("cgroup",), ("stack",)]
    if by == ("site",):
        order.insert(0, order.pop())  # from a call site one wants to see who called it
    where = tuple((name, of or _label(position)) for position, name in enumerate(by))
    return tuple(
        Link(GROUP_TITLES[target], where, by=target)
        for target in order
        if not set(target) & set(by) and by != ("stack",)
    )


def dimension(position: int, name: str, help: str = "", title: str = "") -> Column:
    """A column with one of the labels of grouped rows."""
    return Column(
        name,
        "",
        c.LABEL,
        help or f"Dimension {name} of the tracked objects.",
        lambda table: table.label(position),
        title,
    )
