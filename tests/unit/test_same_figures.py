"""Every output shows the same figures for one snapshot: JSON, CSV, tables, batch top and top."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from slabmon.analysis.table import Table
from slabmon.analysis.window import Window
from slabmon.columns import HISTORY
from slabmon.export.human import human
from slabmon.export.text import rows_to_json, to_csv, to_json, to_table
from slabmon.top.batch import page
from slabmon.top.browser import Browser
from slabmon.top.layout import choices, lay_out
from slabmon.views import VIEWS
from tests.unit.terminal import Terminal, host, on_terminal, start

FOUND = host(10)
# Where the JSON document has the rows of a view, and what it calls the columns there.
DOCUMENT: dict[str, dict[str, str]] = {
    "caches": {}, "sites": {}, "devices": {}, "gfp": {}, "sizes": {}, "nodes": {}, "pages": {},
    "programs": {"program": "name"},
}  # fmt: skip
# Columns that the document has inside other fields, or does not have because they are derived.
INSIDE = {"active_objects": "slabinfo", "total_objects": "slabinfo", "slab_bytes": "slabinfo"}


def browser(name: str) -> Browser:
    found = Browser(Window.of(FOUND))
    found.show(name)
    return found


@pytest.mark.parametrize("name", VIEWS)
def test_csv_and_json_rows_are_the_table(name: str) -> None:
    table = Table.of(VIEWS[name], FOUND)
    columns = [column for column in table.columns if column.kind != HISTORY]
    cells = table.cells(table.order(), columns)
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows[0] == [column.name for column in columns]
    for shown, row in zip(rows[1:], cells, strict=True):
        for text, value in zip(shown, row, strict=True):
            assert text == ("" if value is None else str(value).lower()
                            if isinstance(value, bool) else str(value))  # fmt: skip
    assert [tuple(row.values()) for row in json.loads(rows_to_json(table))] == cells


@pytest.mark.parametrize("name", DOCUMENT)
def test_the_json_document_agrees(name: str) -> None:
    document = json.loads(to_json(FOUND))[name]
    table = Table.of(VIEWS[name], FOUND)
    compared = 0
    for column in table.columns:
        field = DOCUMENT[name].get(column.name, column.name)
        outer = INSIDE.get(column.name) if name == "caches" else None
        found: list[Any] = [
            (row[outer] and row[outer].get(field)) if outer else row.get(field, ...)
            for row in document
        ]
        if ... in found or (name == "sites" and field == "frees_observable"):
            continue  # derived, or called otherwise
        compared += 1
        assert [row[0] for row in table.cells(range(len(table)), [column])] == found, column.name
    assert compared >= 2


def test_losses_and_features_in_the_document_agree() -> None:
    document = json.loads(to_json(FOUND))
    losses = Table.of(VIEWS["losses"], FOUND)
    columns = [VIEWS["losses"].column(name) for name in ("reason", "count")]
    assert dict(losses.cells(losses.order(), columns)) == document["losses"]  # type: ignore[arg-type]
    features = Table.of(VIEWS["features"], FOUND)
    rows = features.cells(features.order(), features.columns)
    assert {name: {"state": s, "reason": reason} for name, s, reason in rows} == document[
        "features"
    ]


@pytest.mark.parametrize("name", VIEWS)
def test_tables_batch_and_screen_show_the_same_text(name: str) -> None:
    looked = browser(name)
    table = looked.table
    text = to_table(table)
    assert page(looked).endswith(f"\n\n{text}\n")
    brief = [column for column in table.brief if column.kind != HISTORY]
    layout = lay_out(table, table.order().tolist(), 400)
    assert layout.columns[: len(table.brief)] == choices(table)[: len(table.brief)]
    for line, shown, row in zip(text.splitlines()[1:], layout.rows,
                                table.cells(table.order(), brief), strict=True):  # fmt: skip
        for column, value in zip(brief, row, strict=True):
            figure = human(value, column.unit)
            assert figure in line
            assert figure in shown
        assert line.split() == shown.split()[: len(line.split())]


@pytest.mark.parametrize("name", VIEWS)
def test_the_running_top_shows_the_same_text(name: str) -> None:
    async def work(terminal: Terminal) -> None:
        table = Table.of(VIEWS[name], FOUND)
        screen = [line.split() for line in terminal.lines]
        for line in to_table(table).splitlines()[1:]:
            assert any(shown[: len(line.split())] == line.split() for shown in screen), line

    on_terminal(work, size=(400, 40), begin=start(view=name))
