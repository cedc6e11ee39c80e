# SPDX-License-Identifier: Apache-2.0
"""The view of the overview: its columns, its links, and its conclusion in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from slabmon.base.format import human
from slabmon.base.units import BYTES, BYTES_PER_HOUR, PERCENT
from slabmon.views.columns import SHARE, Column, Kind, attribute, label
from slabmon.views.overview.held import FAILURES, HELD
from slabmon.views.view import Link, View

if TYPE_CHECKING:
    from slabmon.views.overview.facts import OverviewRow
    from slabmon.views.table import Table
    from slabmon.views.window import Window

_MOST = 3  # problems in the note


def _rows(window: Window) -> Sequence[OverviewRow]:
    from slabmon.views.overview.rows import rows  # only here: it imports numpy

    return rows(window)


def conclusion(table: Table) -> str:
    """Return what is wrong and who holds it, or that nothing is wrong."""
    from slabmon.views.overview.rows import problems

    rows = cast("Sequence[OverviewRow]", table.listing.rows)
    bad = problems(rows)
    if not bad:
        leaks = next(row for row in rows if row.key[0] == "leaks")
        return f"{rows[0].finding}; leaks: {leaks.finding}"
    texts = [_problem(row) for row in bad[:_MOST]]
    more = f" | {len(bad) - _MOST} more" if len(bad) > _MOST else ""
    return " | ".join(texts) + more


def _problem(row: OverviewRow) -> str:
    state = str(row.state).upper()
    size = f" holds {human(row.bytes, BYTES)}" if row.bytes is not None else ""
    share = ""
    if row.bytes is not None and row.total_bytes:
        share = f", {human(row.bytes / row.total_bytes, PERCENT)} of memory"
    return f"{state} {row.what}{size}{share}: {row.finding}"


def _link(title: str, *where: tuple[str, str], view: str = "", by: tuple[str, ...] = ()) -> Link:
    """Return a link of the rows whose `details` have its title; `where` pairs an attribute there
    with one of the row."""

    def applies(row: Any) -> bool:
        return title in row.details

    pairs = tuple((name, attrgetter(path)) for name, path in where)
    return Link(title=title, where=pairs, view=view, by=by, applies=applies)


_CACHE, _SITE = ("cache", "cache"), ("site", "site")
OVERVIEW = View(
    name="overview",
    title="state of this host's memory: what is wrong, and who holds it",
    rows=_rows,
    key=attrgetter("key"),
    columns=(
        Column(
            name="what",
            kind=Kind.LABEL,
            help="Part of memory, cache, suspect, or part of slabmon.",
            get=lambda t: t.now("what"),
            depth="depth",
        ),
        label("state", "ok, warn, crit; none: not known."),
        attribute("bytes", unit=BYTES, kind=Kind.GAUGE, help="Memory of the row."),
        SHARE,
        attribute(
            "growth_bytes_per_hour",
            unit=BYTES_PER_HOUR,
            kind=Kind.GROWTH,
            help="Growth over the window (30 seconds to 10 minutes), per hour; of caches only if "
            "it is steady, of suspects over the time for which they were watched.",
            path="growth",
            title="growth/h",
        ),
        Column(
            name="finding",
            kind=Kind.LABEL,
            help="Who holds it and why it needs attention; otherwise what it consists of.",
            get=lambda t: t.now("finding"),
            wide=True,
        ),
    ),
    brief=("what", "state", "bytes", "share", "growth_bytes_per_hour", "finding"),
    links=(
        _link("owners", _CACHE, view="owners"),
        _link("verdicts", view="verdicts"),
        _link("stacks of the site", _SITE, by=("stack",)),
        _link("sites", _CACHE, by=("site",)),
        _link("callers", _CACHE, by=("caller",)),
        _link("processes", _CACHE, by=("process", "pid")),
        _link("cgroups", _CACHE, by=("cgroup",)),
        _link("stacks", _CACHE, by=("stack",)),
        _link("cache", ("name", "cache"), view="caches"),
        _link("caches", ("reclaimable", "reclaimable"), view="caches"),
        _link("kernel memory", ("kind", "kind"), view="memory"),
        _link("memory of this kind", ("kind", "kind"), view="memory"),
        _link("all memory", view="memory"),
        _link("orphans", view="orphans"),
        _link("charged", view="charged"),
        _link("device", ("bus", "bus"), ("name", "device"), view="devices"),
        _link("resources", ("device.bus", "bus"), ("device.name", "device"), view="resources"),
        _link("classes", view="gfp"),
        _link("modifiers", view="modifiers"),
        _link("losses", view="losses"),
        _link("programs", view="programs"),
        _link("features", view="features"),
    ),
    note=conclusion,
    windowed=True,
    past=(HELD, FAILURES),
)
