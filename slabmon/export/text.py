"""Snapshots as JSON, CSV and a table for a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from slabmon.analysis.grouping import group_live
from slabmon.model import Live, Snapshot
from slabmon.views import Value, View, by_view, cells

SCHEMA = 1
_TABLE_SKIPS = ("live_stderr_bytes",)


def _live(live: Live) -> dict[str, int]:
    return {
        "live_objects": live.objects, "live_bytes": live.bytes,
        "live_stderr_bytes": live.stderr_bytes, "live_low_bytes": live.low_bytes,
        "live_high_bytes": live.high_bytes,
    }  # fmt: skip


def _row(row: Any) -> dict[str, Any]:
    """A row as a dict, its Live spread out."""
    found: dict[str, Any] = {}
    for name in getattr(row, "_fields", None) or [f.name for f in dataclasses.fields(row)]:
        value = getattr(row, name)
        if isinstance(value, Live):
            found.update(_live(value))
        elif dataclasses.is_dataclass(value):
            found[name] = _row(value)
        elif name == "by_release":
            found[name] = [_row(release) for release in value]
        else:
            found[name] = value
    return found


def to_dict(snapshot: Snapshot, by: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON form of a snapshot, plus `groups` when live estimates are asked for by
    dimensions. Fields are documented in slabmon.model and in docs/snapshot.md."""
    gfp = [_row(row) for row in snapshot.gfp]
    for row in gfp:
        row["class"] = row.pop("name")
    document = {
        "schema": SCHEMA,
        "host": _row(snapshot.host),
        "tracking": _row(snapshot.tracking),
        "caches": [_row(row) for row in snapshot.caches],
        "sites": [_row(row) for row in snapshot.sites],
        "devices": [_row(row) for row in snapshot.devices],
        "gfp": gfp,
        "sizes": [_row(row) for row in snapshot.sizes],
        "nodes": [_row(row) for row in snapshot.nodes],
        "pages": [_row(row) for row in snapshot.pages],
        "programs": [_row(row) for row in snapshot.programs],
        "losses": dict(snapshot.losses),
        "features": {name: _row(state) for name, state in snapshot.features.items()},
    }
    if by:
        document["groups"] = [
            dict(zip(by, group.labels, strict=True)) | _live(group.live)
            for group in group_live(snapshot, by)
        ]
    return document


def to_json(snapshot: Snapshot, by: tuple[str, ...] = ()) -> str:
    """to_dict() as one line of JSON."""
    return json.dumps(to_dict(snapshot, by), separators=(",", ":"), allow_nan=False)


def grouped_view(snapshot: Snapshot, by: tuple[str, ...]) -> View:
    """A view of live estimates by these dimensions."""
    return by_view(by, group_live(snapshot, by))


def to_csv(view: View, snapshot: Snapshot) -> str:
    """One view as CSV (RFC 4180) with a heading row; missing values are empty."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(column.name for column in view.columns)
    for row in cells(view, snapshot):
        writer.writerow("" if value is None else _plain(value) for value in row)
    return output.getvalue()


def _plain(value: Value) -> Value:
    return str(value).lower() if isinstance(value, bool) else value


def human(value: Value, unit: str) -> str:
    """A value for people: binary multiples of bytes, thousands apart, `-` for missing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit == "bytes" and isinstance(value, int | float):
        amount = float(value)
        for suffix in ("B", "KiB", "MiB", "GiB", "TiB"):
            if abs(amount) < 1024 or suffix == "TiB":
                break
            amount /= 1024
        return f"{value} B" if suffix == "B" else f"{amount:.1f} {suffix}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def to_table(view: View, snapshot: Snapshot, limit: int | None = None) -> str:
    """One view as aligned text."""
    columns = [column for column in view.columns if column.name not in _TABLE_SKIPS]
    keep = [view.columns.index(column) for column in columns]
    shown = cells(view, snapshot)[:limit]
    body = [[human(row[i], view.columns[i].unit) for i in keep] for row in shown]
    lines = [[column.name.removesuffix("_bytes") for column in columns], *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "".join(
        "  ".join(
            cell.rjust(width) if column.unit else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )
