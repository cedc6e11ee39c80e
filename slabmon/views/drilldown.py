# SPDX-License-Identifier: Apache-2.0
"""Views made of other views: grouped by dimensions, narrowed to rows, reached by a link."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from slabmon.views import columns as c
from slabmon.views import rows
from slabmon.views.view import GROUP_TITLES, Link, View, Where, dimension, group_links

if TYPE_CHECKING:  # importing them costs a tenth of a second, which the command line has not
    from slabmon.analysis.grouping import Groups
    from slabmon.model import Snapshot


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
