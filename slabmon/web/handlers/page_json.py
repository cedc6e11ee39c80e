# SPDX-License-Identifier: Apache-2.0
"""JSON for the live page: rows as people read them, charts, and the header's facts."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from slabmon import __version__
from slabmon.base.activity import Activity, Stage
from slabmon.base.arrays import F64
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES, PER_SECOND, PERCENT
from slabmon.model import Mode, Snapshot, Tracking
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.chart_history import ChartHistory, rates
from slabmon.views.columns import LIVE_BYTES, OBSERVABLE, Column, Kind
from slabmon.views.summary import SHOWN_SECONDS, Summary, summarize
from slabmon.views.view import View
from slabmon.web.feeds.live import PageMoment
from slabmon.web.handlers.query import TableQuery

# Points of the sparkline in a row.
_TREND_POINTS = 40
NO_CHART = "charts exist for whole rows of {views}, not for parts of a row or for this view"


def encoded(document: dict[str, Any]) -> bytes:
    """Return a document as it is sent."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def views(metrics: str) -> dict[str, Any]:
    """Return what does not change while the daemon runs; `metrics` is the path of metrics."""
    return {
        "version": __version__,
        "metrics": metrics,
        "views": [{"name": view.name, "title": view.title} for view in VIEWS.values()],
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "heading": column.heading,
        "unit": column.unit,
        "kind": column.kind,
        "help": column.help,
        "wide": column.wide,
    }


def table(
    query: TableQuery, moment: PageMoment, span: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return the rows that a query selects, with the counts of all and of matching rows.

    `texts` are formatted as in every output for people, `values` are exact. `links[i]` holds the
    values that follow the view's link i, null if the row has no such link. `history` is `span`,
    the first and last time of the history, null without one. Raises UsageError.
    """
    table = query.table(moment.window)
    order = query.order(table)
    columns = query.columns(table)
    row_ids = order[query.offset : query.offset + query.limit]
    view = table.view
    rows = [table.listing.rows[row] for row in row_ids.tolist()]
    values = table.cells(row_ids, columns, _TREND_POINTS)
    trends = [i for i, column in enumerate(columns) if column.kind == Kind.HISTORY]
    written = [column for column in columns if column.kind != Kind.HISTORY]
    seen = np.ones(len(row_ids), bool)
    if OBSERVABLE.name in (column.name for column in view.columns):
        seen = table.values(OBSERVABLE.name)[row_ids].astype(bool)
    return {
        "version": __version__,
        "problem": moment.problem,
        "age": round(moment.age, 1),
        "header": header(moment),
        "history": span,
        "view": {
            "name": view.name,
            "title": view.title,
            "note": table.note,
            "sort": query.sort or view.sort,
            "links": [link.title for link in view.links],
        },
        "columns": [_column(column) for column in columns],
        "total": len(table),
        "matching": len(order),
        "offset": query.offset,
        "rows": [
            {
                "key": table.key(row),
                "texts": _with_gaps(text, trends),
                "values": exact,
                "seen": bool(sure),
                "links": [link.values(item) if link.applies(item) else None for link in view.links],
            }
            for row, item, text, exact, sure in zip(
                row_ids.tolist(), rows, texts(table, row_ids, written), values, seen, strict=True
            )
        ],
    }


def _with_gaps(cells: list[str], places: Sequence[int]) -> list[str]:
    """Return the cells with an empty one at each of these places, in ascending order."""
    for place in places:
        cells.insert(place, "")
    return cells


def chart(view: View, key: Hashable | None, hour: ChartHistory) -> dict[str, Any]:
    """Return an hour of the row with this key, or of the sum of all rows of its view; NaN is null.
    `problem` says why there is no chart."""
    standing = VIEWS.get(view.origin or view.name)
    if standing is None or not standing.figure or (key is None and view.origin):
        known = ", ".join(view.name for view in VIEWS.values() if view.figure)
        return {"problem": NO_CHART.format(views=known)}
    points = hour.series(standing, key)
    lines = [standing.column(standing.figure.replace(".", "_")), *rates(standing)]
    return {
        "problem": ""
        if not np.isnan(points).all()
        else "no history for this row: it is new, or too small to be charted",
        "times": [round(time, 1) for time in hour.times],
        "error": _numbers(points[:, 1]),
        "lines": [
            {**_column(column), "heading": _legend(column), "values": _numbers(points[:, i])}
            for column, i in zip(lines, (0, *range(2, points.shape[1])), strict=True)
        ],
    }


def _legend(column: Column) -> str:
    """Return what a line is called: without a word on it, live memory looks like all of it."""
    since = ", allocated since tracking began" if column.name == LIVE_BYTES.name else ""
    return f"{column.heading}{since}"


def _numbers(values: F64) -> list[float | None]:
    return [None if value != value else round(value, 3) for value in values.tolist()]


def header(moment: PageMoment) -> dict[str, Any]:
    """Return how accurate the figures are and what they cost: `facts` with a name, a short text,
    an explanation, and whether it needs attention."""
    snapshot = moment.window.snapshot
    summary = summarize(moment.window)
    return {
        "host": f"Linux {summary.host.release} {summary.host.machine}, {summary.host.cpus} CPUs",
        "since": snapshot.tracking.since,
        "at": moment.at,
        "facts": _facts(moment, summary),
        "losses": list(summary.losses),
        "limited": _limited(snapshot),
    }


def _facts(moment: PageMoment, summary: Summary) -> list[dict[str, Any]]:
    tracking = moment.window.snapshot.tracking
    facts = [
        _fact(
            "mode",
            "exact"
            if tracking.mode == Mode.EXACT
            else ("light, " if _is_light(tracking) else "")
            + f"sampled every {human(tracking.sample_bytes, BYTES)}",
            "Counters are exact. Live memory is exact, or estimated from samples with the "
            "standard error shown.",
        ),
        _fact(
            "tracking",
            duration(tracking.seconds),
            "How long slabmon has been tracking. Live memory was allocated in this time and has "
            "not been freed.",
        ),
        *_held(summary),
        _live(tracking, summary),
        _fact(
            "events",
            f"{human(summary.events_per_second, PER_SECOND)}/s"
            if tracking.activity == Activity.AWAKE
            else f"not counted: tracking is {tracking.activity}",
            f"Allocations and frees. Rates are over the last {duration(summary.seconds)}, "
            f"growth over {duration(summary.span)}. While tracking is not awake, counters stand "
            "still.",
            tracking.activity != Activity.AWAKE,
        ),
        _fact(
            "lost",
            f"{summary.lost:,} ({human(summary.lost_per_second, PER_SECOND)}/s)"
            if summary.lost
            else "0",
            "Events missed since tracking began, and per second now.",
            summary.lost,
        ),
        _fact(
            "BPF",
            "not measured yet"
            if summary.event_seconds is None or summary.cpu_ratio is None
            else f"{duration(summary.event_seconds)}/event, "
            f"{human(summary.cpu_ratio, PERCENT)} of a CPU",
            "CPU time of slabmon's BPF programs in the kernel.",
        ),
    ]
    facts += _interruptions(summary)
    if moment.own_bytes is not None:
        ratio = moment.own_ratio
        facts.append(
            _fact(
                "daemon",
                ("" if ratio is None else f"{human(ratio, PERCENT)} of a CPU, ")
                + human(moment.own_bytes, BYTES),
                "CPU time and memory of slabmon's processes, BPF maps included.",
            )
        )
    return facts


def _interruptions(summary: Summary) -> list[dict[str, Any]]:
    """Return the facts about times without figures; none if there were none."""
    facts = []
    if summary.tracking.suspended >= SHOWN_SECONDS:
        facts.append(
            _fact(
                "suspended",
                duration(summary.tracking.suspended),
                "For how long the host was suspended since tracking began. Rates, growth, ages and "
                "the time of tracking leave this out.",
                True,
            )
        )
    if summary.unread >= SHOWN_SECONDS:
        facts.append(
            _fact(
                "not read",
                f"{duration(summary.unread)} of {duration(summary.span)}",
                "For how long slabmon read nothing in the window of growth, because it was stopped "
                "or the host was too busy. The kernel went on counting: rates and growth include "
                "this time, and trends have a gap.",
                True,
            )
        )
    return facts


def _is_light(tracking: Tracking) -> bool:
    return tracking.activity == Activity.AWAKE and tracking.stage == Stage.LIGHT


def _held(summary: Summary) -> list[dict[str, Any]]:
    if summary.held_bytes is None:
        return []
    text = human(summary.held_bytes, BYTES)
    return [_fact("slabs", text, "What all slabs hold, whenever it was allocated.")]


def _live(tracking: Tracking, summary: Summary) -> dict[str, Any]:
    if tracking.activity == Activity.AWAKE:
        return _fact(
            "live",
            human(summary.live_bytes, BYTES),
            "What all caches hold of what was allocated since tracking began.",
        )
    return _fact(
        "live",
        f"not known: tracking is {tracking.activity}",
        "Allocation events are not counted now. "
        + (
            "Tracking wakes within a minute when memory grows."
            if tracking.activity == Activity.ASLEEP
            else "The configuration says tracking.when = off."
        ),
        attention=True,
    )


def _fact(name: str, text: str, help: str, attention: object = False) -> dict[str, Any]:
    return {"name": name, "text": text, "help": help, "attention": bool(attention)}


def _limited(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    return [
        (name, feature.state, feature.reason)
        for name, feature in snapshot.features.items()
        if feature.state != "on"
    ]
