"""What a view is, how rows of one lead to rows of another, and views narrowed on the way."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.columns import Column

if TYPE_CHECKING:  # importing them costs a tenth of a second, which the command line has not
    from slabmon.analysis.grouping import Groups
    from slabmon.model import Snapshot

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


def by_view(by: tuple[str, ...], where: Where = ()) -> View:
    """A view of live estimates grouped by dimensions, of the tracked objects with these labels."""
    fixed = {name for name, _ in where}
    return View(
        f"{','.join(by)} where {where}" if where else ",".join(by),
        GROUP_TITLES.get(by, " and ".join(by)),
        rows.grouped(by, where),
        attrgetter("labels"),
        (*(dimension(i, name) for i, name in enumerate(by)), *c.LIVE, *c.AGES, c.OBSERVABLE),
        (*by, "live_bytes", "live_high_bytes", "live_objects", "oldest_seconds", "age_p90_seconds"),
        "live_bytes",
        details=True,
        where=where,
        links=tuple(link for link in group_links(*by) if not set(link.by) & fixed),
    )


def narrowed(view: View, wanted: tuple[tuple[str, Hashable], ...]) -> View:
    """The rows of a view of which these attributes have these values."""
    value = attrgetter(*(path for path, _ in wanted))
    values = tuple(v for _, v in wanted) if len(wanted) > 1 else wanted[0][1]

    def select(snapshot: Snapshot) -> Sequence[Any] | Groups:
        found = view.rows(snapshot)
        listed = found if isinstance(found, Sequence) else found.rows
        keep = [i for i, row in enumerate(listed) if value(row) == values]
        kept = [listed[i] for i in keep]
        return kept if isinstance(found, Sequence) else found.only(kept, keep)

    return replace(view, name=f"{view.name} where {wanted}", rows=select, origin=view.name)


def lead(link: Link, view: View, values: Sequence[Hashable], standing: dict[str, View]) -> View:
    """The view that a link of a view leads to from a row of which link.values() are these."""
    where = tuple((name, value) for (name, _), value in zip(link.where, values, strict=True))
    if link.view:
        return narrowed(standing[link.view], where)
    return by_view(link.by, view.where + tuple((name, str(value)) for name, value in where))


def follow(link: Link, view: View, row: Any, standing: dict[str, View]) -> View:
    """The view that a link leads to from a row of a view."""
    return lead(link, view, link.values(row), standing)
