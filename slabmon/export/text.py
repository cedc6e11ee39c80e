# SPDX-License-Identifier: Apache-2.0
"""Snapshots as JSON, CSV and a table for a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from slabmon.analysis.callers import main_callers
from slabmon.analysis.contexts import live_by_context, main_contexts
from slabmon.analysis.grouping import group_live
from slabmon.analysis.served import Served, main_devices
from slabmon.base.units import Value
from slabmon.model import Live, Snapshot
from slabmon.views.cells import texts
from slabmon.views.columns import Kind
from slabmon.views.table import Order, Table

SCHEMA = 1


def _live(live: Live) -> dict[str, int]:
    return {
        "live_objects": live.objects,
        "live_bytes": live.bytes,
        "live_stderr_bytes": live.stderr_bytes,
        "live_low_bytes": live.low_bytes,
        "live_high_bytes": live.high_bytes,
    }


def _row(row: Any) -> dict[str, Any]:
    """Return a row as a dict, the fields of its Live inlined."""
    fields: dict[str, Any] = {}
    for name in getattr(row, "_fields", None) or [f.name for f in dataclasses.fields(row)]:
        value = getattr(row, name)
        if isinstance(value, Live):
            fields.update(_live(value))
        elif dataclasses.is_dataclass(value):
            fields[name] = _row(value)
        elif name == "by_release":
            fields[name] = [_row(release) for release in value]
        else:
            fields[name] = value
    return fields


def _served(served: Served | None) -> dict[str, Any] | None:
    return None if served is None else _row(served.device) | {"share": round(served.share, 3)}


def _sites(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return call sites with their main contexts and devices, and their main callers, which are
    null where no stacks were read."""
    rows = [_row(row) | {"traced": row.traced_label} for row in snapshot.sites]
    contexts = main_contexts(snapshot, snapshot.tracked.site, len(rows))
    devices = main_devices(snapshot, snapshot.tracked.site, len(rows))
    callers: list[str | None] = [None] * len(rows)
    if snapshot.tracked.stacks:
        callers = main_callers(snapshot, snapshot.tracked.site, len(rows))
    return [
        row | {"caller": caller, "context": context, "device": _served(device)}
        for row, caller, context, device in zip(rows, callers, contexts, devices, strict=True)
    ]


def to_dict(snapshot: Snapshot, by: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON form of a snapshot, plus `groups` with live estimates by the dimensions `by`.
    Fields are documented in slabmon.model and in docs/snapshot.md."""
    gfp = [_row(row) for row in snapshot.gfp]
    for row in gfp:
        row["class"] = row.pop("name")
    modifiers = [_row(row) for row in snapshot.modifiers]
    for row in modifiers:
        row["modifier"] = row.pop("name")
    document = {
        "schema": SCHEMA,
        "host": _row(snapshot.host),
        "tracking": _row(snapshot.tracking),
        "caches": [_row(row) for row in snapshot.caches],
        "sites": _sites(snapshot),
        "devices": [_row(row) for row in snapshot.devices],
        "gfp": gfp,
        "modifiers": modifiers,
        "contexts": [
            {"context": context} | _live(live)
            for context, live in live_by_context(snapshot).items()
        ],
        "sizes": [_row(row) for row in snapshot.sizes],
        "nodes": [_row(row) for row in snapshot.nodes],
        "pages": [_row(row) for row in snapshot.pages],
        "page_sites": [_row(row) for row in snapshot.page_sites],
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
    """Return to_dict() as one line of JSON."""
    return json.dumps(to_dict(snapshot, by), separators=(",", ":"), allow_nan=False)


def to_csv(table: Table, order: Order | None = None) -> str:
    """Return a table as CSV (RFC 4180) with a heading row. Missing values are empty; histories,
    which are not single values, are omitted."""
    columns = [column for column in table.columns if column.kind != Kind.HISTORY]
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(column.name for column in columns)
    for row in table.cells(table.order() if order is None else order, columns):
        writer.writerow("" if value is None else _plain(value) for value in row)
    return output.getvalue()


def _plain(value: Value) -> Value:
    return str(value).lower() if isinstance(value, bool) else value


def rows_to_json(table: Table, order: Order | None = None) -> str:
    """Return a table as a JSON array of objects."""
    rows = table.cells(table.order() if order is None else order, table.columns)
    names = [column.name for column in table.columns]
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], allow_nan=False)


def to_table(table: Table, order: Order | None = None) -> str:
    """Return the brief columns of a table as aligned text, without histories."""
    columns = [column for column in table.brief if column.kind != Kind.HISTORY]
    body = texts(table, table.order() if order is None else order, columns)
    lines = [[column.heading for column in columns], *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "".join(
        "  ".join(
            cell.rjust(width) if column.unit else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )
