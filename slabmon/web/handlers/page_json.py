# SPDX-License-Identifier: Apache-2.0
"""What the live page gets to show, as JSON: rows as people read them, and the header's facts."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import numpy as np

from slabmon import __version__
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES, PER_SECOND, PERCENT
from slabmon.model import Snapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.chart_history import Hour, rates
from slabmon.views.columns import HISTORY, OBSERVABLE, Column
from slabmon.views.summary import summarize
from slabmon.views.view import View
from slabmon.web.feeds.live import Moment
from slabmon.web.handlers.query import Asked

# Points of the small trend in a row.
_TREND_POINTS = 40
NO_PAST = "an hour is kept of whole rows of {views}; not of parts of them, nor of this view"


def encoded(document: dict[str, Any]) -> bytes:
    """As sent."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def views(metrics: str) -> dict[str, Any]:
    """What does not change while the daemon runs; `metrics` is where they are served."""
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
    }


def _thinned(value: Any) -> Any:
    """At most _TREND_POINTS of a history, its last one included."""
    step = -(-len(value) // _TREND_POINTS)
    return value[::-1][::step][::-1]


def table(asked: Asked, moment: Moment, span: tuple[float, float] | None = None) -> dict[str, Any]:
    """The rows asked for, of so many. `texts` are as in every output for people, `values` exact;
    `links[i]` leads on by the view's link i. `history` is the span of the past that can be asked
    for, null for none."""
    found = asked.table(moment.window)
    order = asked.order(found)
    columns = asked.columns(found)
    shown = order[asked.offset : asked.offset + asked.limit]
    view = found.view
    rows = [found.listing.rows[row] for row in shown.tolist()]
    values = found.cells(shown, columns)
    trends = {i for i, column in enumerate(columns) if column.kind == HISTORY}
    seen = np.ones(len(shown), bool)
    if OBSERVABLE.name in (column.name for column in view.columns):
        seen = found.values(OBSERVABLE.name)[shown].astype(bool)
    return {
        "version": __version__,
        "problem": moment.problem,
        "age": round(moment.age, 1),
        "header": header(moment),
        "history": span,
        "view": {
            "name": view.name,
            "title": view.title,
            "sort": asked.sort or view.sort,
            "links": [link.title for link in view.links],
        },
        "columns": [_column(column) for column in columns],
        "total": len(found),
        "matching": len(order),
        "offset": asked.offset,
        "rows": [
            {
                "key": found.key(row),
                "texts": _without(text, trends),
                "values": [
                    _thinned(value) if i in trends else value for i, value in enumerate(exact)
                ],
                "seen": bool(sure),
                "links": [link.values(thing) for link in view.links],
            }
            for row, thing, text, exact, sure in zip(
                shown.tolist(), rows, texts(found, shown, columns), values, seen, strict=True
            )
        ],
    }


def _without(text: list[str], gone: set[int]) -> list[str]:
    return ["" if i in gone else cell for i, cell in enumerate(text)]


def chart(view: View, key: Hashable | None, hour: Hour) -> dict[str, Any]:
    """An hour of a row, or of all rows of its view."""
    standing = VIEWS.get(view.origin or view.name)
    if standing is None or not standing.trail or (key is None and view.origin):
        known = ", ".join(view.name for view in VIEWS.values() if view.trail)
        return {"problem": NO_PAST.format(views=known)}
    points = hour.series(standing, key)
    lines = [standing.column(standing.trail.replace(".", "_")), *rates(standing)]
    return {
        "problem": ""
        if not np.isnan(points).all()
        else "nothing is known of this row: it is new, or neither large nor busy enough",
        "times": [round(hour.since + seconds, 1) for seconds in hour.moments],
        "error": _numbers(points[:, 1]),
        "lines": [
            {**_column(column), "values": _numbers(points[:, i])}
            for column, i in zip(lines, (0, *range(2, points.shape[1])), strict=True)
        ],
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if value != value else round(value, 3) for value in values.tolist()]


def header(moment: Moment) -> dict[str, Any]:
    """How far the figures can be trusted, and what they cost: `facts` with a name, a short text,
    what it means, and whether it needs attention."""
    window = moment.window
    summary, tracking = summarize(window), window.snapshot.tracking
    facts = [
        _fact(
            "mode",
            "exact"
            if tracking.mode == "exact"
            else f"sampled every {human(tracking.sample_bytes, BYTES)}",
            "Counters are exact. Live memory is exact, or estimated from samples with the "
            "error shown.",
        ),
        _fact(
            "tracking",
            duration(tracking.seconds),
            "How long; live memory is what was allocated since then and not freed.",
        ),
        _fact("live", human(summary.live_bytes, BYTES), "Live memory of all caches."),
        _fact(
            "events",
            f"{human(summary.events_per_second, PER_SECOND)}/s",
            f"Allocations and frees; rates are over the last {duration(summary.seconds)}, "
            f"growth over {duration(summary.span)}.",
        ),
        _fact(
            "lost",
            f"{summary.lost:,} ({human(summary.lost_per_second, PER_SECOND)}/s)"
            if summary.lost
            else "0",
            "Events missed since tracking began, and how many per second now.",
            summary.lost,
        ),
        _fact(
            "BPF",
            "not measured yet"
            if summary.event_seconds is None or summary.cpu_ratio is None
            else f"{duration(summary.event_seconds)}/event, "
            f"{human(summary.cpu_ratio, PERCENT)} of a CPU",
            "What slabmon's programs in the kernel take.",
        ),
    ]
    if moment.own_bytes is not None:
        ratio = moment.own_ratio
        facts.append(
            _fact(
                "daemon",
                ("" if ratio is None else f"{human(ratio, PERCENT)} of a CPU, ")
                + human(moment.own_bytes, BYTES),
                "CPU time and memory of slabmon's processes, its BPF maps included.",
            )
        )
    return {
        "host": f"Linux {summary.host.release} {summary.host.machine}, {summary.host.cpus} CPUs",
        "since": tracking.since,
        "at": moment.at,
        "facts": facts,
        "losses": list(summary.losses),
        "limited": _limited(window.snapshot),
    }


def _fact(name: str, text: str, help: str, attention: object = False) -> dict[str, Any]:
    return {"name": name, "text": text, "help": help, "attention": bool(attention)}


def _limited(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    return [
        (name, feature.state, feature.reason)
        for name, feature in snapshot.features.items()
        if feature.state != "on"
    ]
