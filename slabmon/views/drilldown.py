# SPDX-License-Identifier: Apache-2.0
"""Views derived from others: grouped by dimensions, narrowed to some rows, reached by a link."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.columns import Column, dimension
from slabmon.views.view import Link, View, Where
from slabmon.views.workloads import workload_columns

if TYPE_CHECKING:  # importing them takes a tenth of a second, too long for the command line
    from slabmon.analysis.grouping import Groups
    from slabmon.model import Snapshot

GROUP_TITLES = {
    ("cache",): "caches",
    ("site",): "sites",
    ("caller",): "callers",
    ("stack",): "stacks",
    ("process", "pid"): "processes",
    ("cgroup",): "cgroups",
}


def _label(position: int) -> Callable[[Any], Hashable]:
    return lambda row: str(row.labels[position])


def group_links(
    *by: str, get: Callable[[Any], Hashable] | None = None, without: tuple[str, ...] = ()
) -> tuple[Link, ...]:
    """Return links from a row to its tracked objects, grouped by each other dimension.

    The row stands for one value of each dimension in `by`; `get` returns that value (default: the
    labels of a group). Groups by the dimensions `without` have a better link.
    """
    targets = [("cache",), ("site",), ("caller",), ("process", "pid"), ("cgroup",), ("stack",)]
    if by == ("site",):
        targets.insert(0, targets.pop())  # the first question about a call site: who called it?
    where = tuple((name, get or _label(position)) for position, name in enumerate(by))
    return tuple(
        Link(title=GROUP_TITLES[target], where=where, by=target)
        for target in targets
        if not set(target) & {*by, *without} and by != ("stack",)
    )


def _dimension(position: int, name: str) -> tuple[Column, ...]:
    column = dimension(position, name)
    if name == "cgroup":
        return (*workload_columns(position), column)
    return (column, c.aliases(position)) if name == "cache" else (column,)


_BESIDE = {"cache": ("cache", c.ALIASES), "cgroup": ("workload", "cgroup")}


def grouped_view(by: tuple[str, ...], where: Where = ()) -> View:
    """Return a view of live estimates grouped by dimensions, of the tracked objects with the
    labels in `where`."""
    fixed = {name for name, _ in where}
    return View(
        name=f"{','.join(by)} where {where}" if where else ",".join(by),
        title=GROUP_TITLES.get(by, " and ".join(by)),
        rows=rows.grouped(by, where),
        key=attrgetter("labels"),
        columns=(
            *chain.from_iterable(_dimension(i, name) for i, name in enumerate(by)),
            *c.LIVE,
            *c.AGES,
            c.OBSERVABLE,
        ),
        brief=(
            *chain.from_iterable(_BESIDE.get(name, (name,)) for name in by),
            "live_bytes",
            "live_high_bytes",
            "live_objects",
            "oldest_seconds",
            "age_p90_seconds",
        ),
        sort="live_bytes",
        details=True,
        where=where,
        links=tuple(link for link in group_links(*by) if not set(link.by) & fixed),
    )


def narrowed(view: View, where: tuple[tuple[str, Hashable], ...]) -> View:
    """Return a view of the rows whose attributes have these values: pairs of path and value."""
    get = attrgetter(*(path for path, _ in where))
    wanted = tuple(value for _, value in where) if len(where) > 1 else where[0][1]

    def select(snapshot: Snapshot) -> Sequence[Any] | Groups:
        unfiltered = view.rows(snapshot)
        listed = unfiltered if isinstance(unfiltered, Sequence) else unfiltered.rows
        positions = [i for i, row in enumerate(listed) if get(row) == wanted]
        selected = [listed[i] for i in positions]
        if isinstance(unfiltered, Sequence):
            return selected
        return unfiltered.only(selected, positions)

    return replace(view, name=f"{view.name} where {where}", rows=select, origin=view.name)


def resolve_link(
    link: Link, view: View, values: Sequence[Hashable], views: Mapping[str, View]
) -> View:
    """Return the view that a link of `view` leads to from a row whose link.values() are `values`.
    `views` are the standing views by name."""
    where = tuple((name, value) for (name, _), value in zip(link.where, values, strict=True))
    if link.view:
        return narrowed(views[link.view], where) if where else views[link.view]
    return grouped_view(link.by, view.where + tuple((name, str(value)) for name, value in where))


def follow_link(link: Link, view: View, row: Any, views: Mapping[str, View]) -> View:
    """Return the view that a link of `view` leads to from a row."""
    return resolve_link(link, view, link.values(row), views)
