# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs nothing else and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.template import Loader

from slabmon import __version__
from slabmon.base.format import duration, human
from slabmon.base.parse import show_moment
from slabmon.base.units import BYTES_PER_HOUR, Value
from slabmon.model import Snapshot
from slabmon.report import paths, tree
from slabmon.report.charts import line_chart
from slabmon.report.leaks import suspicions
from slabmon.report.selection import GROWING, ReportPeriod
from slabmon.report.summary import Growth, grown, size, summary
from slabmon.report.weights import changed, live
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.columns import Column
from slabmon.views.drilldown import grouped_view
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("common.js", "flame.js", "treemap.js", "report.js")
_TABLES = ("caches", "sites", "devices", "drivers", "gfp", "nodes", "sizes", "programs")
TOP_ROWS, GROWN_ROWS = 25, 8
MAP_NODES = 3_000  # of a treemap: areas get too small sooner than widths
TOPICS = {
    "memory": "Slab memory",
    "live": "Held since tracking began",
    "devices": "Devices",
    "growth": "What grew",
    "leaks": "Leaks",
    "certainty": "How sure this is",
    "losses": "What was lost",
    "limits": "What cannot be seen",
}


@dataclass(frozen=True)
class Cell:
    """One value as shown, and exactly."""

    text: str
    value: Value
    number: bool


@dataclass(frozen=True)
class Shown:
    """A table of the page; `total` rows there are, of which the first are here."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: int


def to_page(period: ReportPeriod, value: str, by: Sequence[str]) -> str:
    """The whole page. `value` (live or allocated) is the flame graph shown first; `by`
    dimensions of live memory get a graph and a table of their own."""
    snapshot = period.now.snapshot
    before = period.before.snapshot if period.before is not None else None
    parts = live(snapshot) if before is None else changed(before, snapshot)
    change = paths.live_paths(parts)
    graphs = _graphs(snapshot, before, change, by and paths.live_paths(parts, by), by)
    style = (_ASSETS / "report.css").read_text()
    script = "\n".join((_ASSETS / name).read_text() for name in _SCRIPTS)
    maps = [
        {"title": title, "tree": tree.to_json(tree.build(found), MAP_NODES)}
        for title, found in (
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
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style and this script and nothing else."""
    hashes = [
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for part in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _graphs(
    snapshot: Snapshot,
    before: Snapshot | None,
    live_found: paths.Paths,
    by_found: Any,
    by: Sequence[str],
) -> list[dict[str, Any]]:
    sampled = snapshot.tracking.sample_bytes > 0
    estimated = "Estimated from samples, with one standard error" if sampled else "Exact"
    if before is None:
        titles = (
            "Live bytes by kernel stack",
            "Allocated bytes by kernel stack",
            "Allocated bytes by call site",
        )
        live_note = f"{estimated}: what was allocated since tracking began and is still held."
        since = "since tracking began"
    else:
        titles = (
            "Change of live bytes by kernel stack",
            "Bytes allocated in between by kernel stack",
            "Bytes allocated in between by call site",
        )
        live_note = (
            f"{estimated}: red is held now and was not then, blue was freed; width is how "
            "much changed."
        )
        since = "between the two moments"
    site_note = (
        f"Exact: bytes allocated {since}, counted at the call site, freed ones included. "
        "Callers are not in it."
    )
    stack_note = (
        f"{estimated}, of the objects that were tracked: bytes allocated {since}, freed "
        "ones included. Exact by call site: the next graph."
    )
    found = [
        ("live", titles[0], live_note, live_found),
        ("stacked", titles[1], stack_note, paths.allocated_stack_paths(snapshot, before)),
        ("allocated", titles[2], site_note, paths.allocated_paths(snapshot, before)),
    ]
    if by:
        what = "Live bytes" if before is None else "Change of live bytes"
        found.append(("by", f"{what} by {', '.join(by)}", live_note, by_found))
    return [
        {
            "id": name,
            "title": title,
            "note": note,
            "diff": before is not None and name not in ("stacked", "allocated"),
            "tree": tree.to_json(tree.build(rows)),
        }
        for name, title, note, rows in found
    ]


def _topics(period: ReportPeriod, change: paths.Paths | None) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {name: [] for name in TOPICS}
    for sentence in (*summary(period, change), *suspicions(period.leaks)):
        found[sentence.topic].append(sentence.text)
    return [(TOPICS[name], texts) for name, texts in found.items() if texts]


def _tiles(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Heading, figure, remark."""
    slabs = [cache.slabinfo.slab_bytes for cache in snapshot.caches if cache.slabinfo]
    held = sum(cache.live.bytes for cache in snapshot.caches)
    managed = sum(device.managed_bytes for device in snapshot.devices)
    lost = sum(snapshot.losses.values())
    return [
        ("All slabs", size(sum(slabs)) if slabs else "not known", "from /proc/slabinfo"),
        ("Live", size(held), "allocated while tracked, still held"),
        (
            "Allocated",
            size(sum(cache.allocated_bytes for cache in snapshot.caches)),
            "while tracked, counted exactly",
        ),
        ("Managed by devices", size(managed), f"{len(snapshot.devices):,} devices"),
        ("Losses", f"{lost:,}", "see below" if lost else "nothing was missed"),
    ]


def _grown(window: Window) -> list[tuple[str, list[tuple[Growth, str]]]]:
    """What grew most over the known history, by view, with charts."""
    found = []
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
            found.append((VIEWS[name].title, rows))
    return found


def _tables(period: ReportPeriod, by: Sequence[str]) -> list[Shown]:
    """The largest rows of the views; differences if the report is about two moments."""
    mark = Instant(period.before.snapshot) if period.before is not None else None
    window = Window(Instant(period.now.snapshot))
    views: list[View] = [grouped_view(tuple(by))] if by else []
    return [
        _shown(Table(view, window, mark))
        for view in (*views, *(VIEWS[name] for name in _TABLES))
        if view.rows(window.snapshot)
    ]


def _shown(table: Table) -> Shown:
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
    return Shown(table.view.title, columns, rows, len(table))
