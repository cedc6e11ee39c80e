# SPDX-License-Identifier: Apache-2.0
"""The report as one self-contained HTML file that makes no requests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tornado.template import Loader

from slabmon import __version__
from slabmon.analysis import paths
from slabmon.analysis.weights import changed, live
from slabmon.base.format import duration, human
from slabmon.base.parse import show_moment
from slabmon.base.units import BYTES_PER_HOUR, Value
from slabmon.export.leaks import from_dict
from slabmon.model import Snapshot
from slabmon.report import tree
from slabmon.report.charts import line_chart
from slabmon.report.leaks import suspicions
from slabmon.report.selection import GROWING, ReportPeriod
from slabmon.report.summary import Growth, grown, size, summary
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.columns import Column
from slabmon.views.drilldown import grouped_view
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("common.js", "flame.js", "treemap.js", "report.js")
_TABLES = (
    *(
        "memory",
        "caches",
        "sites",
        "page_sites",
        "owners",
        "census",
        "devices",
        "drivers",
        "gfp",
        "modifiers",
        "nodes",
        "sizes",
    ),
    "programs",
)
TOP_ROWS, GROWN_ROWS = 25, 8
MAP_NODES = 3_000  # of a treemap, whose areas become invisible sooner than a flame graph's widths
TOPICS = {
    "memory": "Slab memory",
    "live": "Live memory",
    "devices": "Devices",
    "growth": "Growth",
    "leaks": "Leaks",
    "certainty": "Accuracy",
    "losses": "Lost events",
    "limits": "Limits",
}


@dataclass(frozen=True)
class Cell:
    """A value of a table: formatted, and exact."""

    text: str
    value: Value
    number: bool


@dataclass(frozen=True)
class TableSection:
    """A table of the page, with the first of `total` rows."""

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: int


def to_page(period: ReportPeriod, value: str, by: Sequence[str]) -> str:
    """Return the whole page. `value` (live, stacked or allocated) selects the flame graph shown
    first; live memory by the dimensions in `by` gets a graph and a table too."""
    snapshot = period.now.snapshot
    before = period.before.snapshot if period.before is not None else None
    parts = live(snapshot) if before is None else changed(before, snapshot)
    change = paths.live_paths(parts)
    by_paths = paths.live_paths(parts, by) if by else None
    graphs = _graphs(snapshot, before, change, by_paths, by)
    style = (_ASSETS / "report.css").read_text("utf-8")
    script = "\n".join((_ASSETS / name).read_text("utf-8") for name in _SCRIPTS)
    maps = [
        {"title": title, "tree": tree.to_json(tree.build(rows), MAP_NODES)}
        for title, rows in (
            ("managed bytes", paths.managed_paths(snapshot)),
            ("slab bytes", paths.slab_paths(snapshot)),
        )
    ]
    data = {"graphs": graphs, "maps": maps, "first": value}
    page: bytes = (
        Loader(str(_ASSETS))
        .load("report.html")
        .generate(
            period=period,
            snapshot=snapshot,
            version=__version__,
            show_time=show_moment,
            duration=duration,
            size=size,
            human=human,
            topics=_topics(period, None if before is None else change),
            overview=_overview(period),
            tiles=_tiles(snapshot),
            graphs=graphs,
            maps=maps,
            grown=_grown(period.window),
            tables=_tables(period, by),
            per_hour=lambda rate: human(round(rate), BYTES_PER_HOUR),
            limited=[row for row in snapshot.features.items() if row[1].state != "on"],
            policy=_policy(style, script),
            style=style,
            script=script,
            data=embedded(data),
        )
    )
    return page.decode()


def embedded(data: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows only this style and this script."""
    hashes = [
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for part in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True)
class _Graph:
    """A flame graph: `note` says what it shows and how exactly; `diff` if it shows changes."""

    id: str
    title: str
    note: str
    diff: bool
    paths: paths.Paths

    def to_json(self) -> dict[str, Any]:
        """Return the graph as the page draws it."""
        return {
            "id": self.id,
            "title": self.title,
            "note": self.note,
            "diff": self.diff,
            "tree": tree.to_json(tree.build(self.paths)),
        }


def _graphs(
    snapshot: Snapshot,
    before: Snapshot | None,
    live_paths: paths.Paths,
    by_paths: paths.Paths | None,
    by: Sequence[str],
) -> list[dict[str, Any]]:
    """Return live memory by stack, allocations by stack and by call site, and live memory by the
    dimensions in `by` if there are any."""
    sampled = snapshot.tracking.sample_bytes > 0
    accuracy = "Estimated from samples, with one standard error" if sampled else "Exact"
    diff = before is not None
    live_bytes = "Change in live bytes" if diff else "Live bytes"
    since = "between the two moments" if diff else "since tracking began"
    if diff:
        live_note = f"{accuracy}: red grew, blue shrank; the width is how many bytes changed."
    else:
        live_note = f"{accuracy}: what was allocated since tracking began and has not been freed."
    stack_note = (
        f"{accuracy}: bytes of tracked objects allocated {since}, including freed ones. "
        "Exact figures by call site are in the next graph."
    )
    site_note = (
        f"Exact: bytes allocated {since}, including freed ones, counted at the call site. "
        "Callers are not recorded."
    )
    by_stack = paths.allocated_stack_paths(snapshot, before)
    by_site = paths.allocated_paths(snapshot, before)
    allocated = f"Bytes allocated {since}" if diff else "Allocated bytes"
    graphs = [
        _Graph("live", f"{live_bytes} by kernel stack", live_note, diff, live_paths),
        _Graph("stacked", f"{allocated} by kernel stack", stack_note, False, by_stack),
        _Graph("allocated", f"{allocated} by call site", site_note, False, by_site),
    ]
    if by_paths is not None:
        graphs.append(_Graph("by", f"{live_bytes} by {', '.join(by)}", live_note, diff, by_paths))
    return [graph.to_json() for graph in graphs]


def _topics(period: ReportPeriod, change: paths.Paths | None) -> list[tuple[str, list[str]]]:
    """Return the sentences of the summary under the heading of their topic."""
    topics: dict[str, list[str]] = {name: [] for name in TOPICS}
    for sentence in (*summary(period, change), *suspicions(period.leaks)):
        topics[sentence.topic].append(sentence.text)
    return [(TOPICS[name], texts) for name, texts in topics.items() if texts]


def _tiles(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Return heading, figure and remark of each tile."""
    slabs = [cache.slabinfo.slab_bytes for cache in snapshot.caches if cache.slabinfo]
    held = sum(cache.live.bytes for cache in snapshot.caches)
    managed = sum(device.managed_bytes for device in snapshot.devices)
    lost = sum(snapshot.losses.values())
    return [
        ("All slabs", size(sum(slabs)) if slabs else "unknown", "from /proc/slabinfo"),
        ("Live", size(held), "allocated while tracking, not freed"),
        (
            "Allocated",
            size(sum(cache.allocated_bytes for cache in snapshot.caches)),
            "while tracking, counted exactly",
        ),
        ("Managed by devices", size(managed), f"{len(snapshot.devices):,} devices"),
        ("Lost events", f"{lost:,}", "see below" if lost else "no event was missed"),
    ]


def _grown(window: Window) -> list[tuple[str, list[tuple[Growth, str]]]]:
    """Return the rows that grew most, with charts, by title of their view."""
    tables = []
    for name in GROWING:
        rows = [
            (
                row,
                line_chart(
                    row.times,
                    row.values,
                    f"{row.name}: from {size(row.values[0])} to {size(row.values[-1])}",
                ),
            )
            for row in grown(window, name, GROWN_ROWS)
        ]
        if rows:
            tables.append((VIEWS[name].title, rows))
    return tables


def _overview(period: ReportPeriod) -> TableSection:
    """Return the overview at the end of the period."""
    assessment = None if period.leaks is None else from_dict(period.leaks)
    window = replace(period.window, now=Instant(period.now.snapshot, lambda: assessment))
    return _section(Table(VIEWS["overview"], window))


def _tables(period: ReportPeriod, by: Sequence[str]) -> list[TableSection]:
    """Return the largest rows of each view; their changes if the report compares two moments."""
    mark = Instant(period.before.snapshot) if period.before is not None else None
    window = Window(Instant(period.now.snapshot))
    views: list[View] = [grouped_view(tuple(by))] if by else []
    tables = [Table(view, window, mark) for view in (*views, *(VIEWS[name] for name in _TABLES))]
    return [_section(table) for table in tables if len(table)]


def _section(table: Table) -> TableSection:
    columns = table.brief
    order = table.order()[:TOP_ROWS]
    rows = [
        [
            Cell(text, value, bool(column.unit))
            for text, value, column in zip(shown, values, columns, strict=True)
        ]
        for shown, values in zip(
            texts(table, order, columns), table.cells(order, columns), strict=True
        )
    ]
    return TableSection(table.view.title, table.note, columns, rows, len(table))
