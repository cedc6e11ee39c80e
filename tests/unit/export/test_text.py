# SPDX-License-Identifier: Apache-2.0
"""Snapshots as JSON, CSV and tables."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.escape import escape
from slabmon.export.text import rows_to_json, to_csv, to_dict, to_json, to_table
from slabmon.memory.reading import AllocTag
from slabmon.model import Snapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.drilldown import grouped_view
from slabmon.views.table import Table
from tests.support.builders import Object, cache, device, site, snapshot, tracked
from tests.support.censuses import rich
from tests.support.memory import reading

INT, REAL, STR, BOOL = (int,), (int, float), (str,), (bool,)
NONE_OR_STR, NONE_OR_INT = (str, type(None)), (int, type(None))
LIVE = {"live_objects": INT, "live_bytes": INT, "live_stderr_bytes": INT}
# Fields and types that scripts rely on. More may be added.
CONTRACT: dict[str, dict[str, tuple[type, ...]]] = {
    "host": {"release": STR, "machine": STR, "cpus": INT, "boot_id": STR, "memory_bytes": INT},
    "tracking": {
        "since": REAL,
        "seconds": REAL,
        "mode": STR,
        "sample_bytes": INT,
        "suspended": REAL,
    },
    "caches": {
        "name": STR,
        "object_size": INT,
        "allocs": INT,
        "frees": INT,
        "failed": INT,
        "requested_bytes": INT,
        "allocated_bytes": INT,
        "freed_bytes": INT,
        **LIVE,
        "frees_observable": BOOL,
        "reclaimable": BOOL,
        "aliases": (list,),
        "slabinfo": (dict, type(None)),
    },
    "sites": {
        "symbol": STR,
        "offset": INT,
        "module": NONE_OR_STR,
        "allocs": INT,
        "failed": INT,
        "requested_bytes": INT,
        "allocated_bytes": INT,
        **LIVE,
    },
    "devices": {
        "bus": STR,
        "name": STR,
        "driver": NONE_OR_STR,
        "module": NONE_OR_STR,
        "resources": INT,
        "managed_bytes": INT,
        "slab_bytes": NONE_OR_INT,
        "added": INT,
        "removed": INT,
        "by_release": (list,),
    },
    "gfp": {"class": STR, "allocs": INT, "allocated_bytes": INT, "failed": INT},
    "modifiers": {"modifier": STR, "allocs": INT, "allocated_bytes": INT, "failed": INT},
}
Fields = dict[str, tuple[type, ...]]
SLABINFO: Fields = {
    "active_objects": INT,
    "total_objects": INT,
    "object_size": INT,
    "slab_bytes": INT,
}
RELEASE: Fields = {"name": STR, "resources": INT, "bytes": INT}


def check(row: Any, fields: Fields) -> None:
    for name, types in fields.items():
        assert type(row[name]) in types, (name, row[name])


@pytest.fixture
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(to_json(snapshot()))
    return loaded


def test_json_has_every_field_of_the_contract_with_its_type(document: dict[str, Any]) -> None:
    assert document["schema"] == 1
    for part, fields in CONTRACT.items():
        rows = document[part] if isinstance(document[part], list) else [document[part]]
        assert rows, part
        for row in rows:
            check(row, fields)
    check(document["caches"][0]["slabinfo"], SLABINFO)
    check(document["devices"][0]["by_release"][0], RELEASE)
    assert all(type(count) is int for count in document["losses"].values())
    for feature in document["features"].values():
        assert feature["state"] in ("on", "degraded", "off")
        assert type(feature["reason"]) is str


def test_json_carries_the_values(document: dict[str, Any]) -> None:
    first = document["caches"][0]
    assert (first["name"], first["allocs"], first["frees"], first["failed"]) == (
        "kmalloc-64",
        101,
        7,
        3,
    )
    assert (first["live_objects"], first["live_bytes"], first["live_stderr_bytes"]) == (
        94,
        6016,
        500,
    )
    assert (first["live_low_bytes"], first["live_high_bytes"]) == (5000, 7000)
    assert first["aliases"] == ["other-64"]
    assert first["slabinfo"]["slab_bytes"] == 16_384
    assert document["caches"][1]["slabinfo"] is None
    assert (
        document["sites"][1] | {"symbol": "probe_card", "offset": 0x40, "module": "card"}
        == (document["sites"][1])
    )
    assert document["devices"][0]["by_release"] == [
        {"name": "devm_kzalloc_release", "resources": 3, "bytes": 300}
    ]
    assert document["devices"][1]["driver"] is None
    assert document["devices"][1]["slab_bytes"] is None
    assert [row["class"] for row in document["gfp"]] == [
        "kernel",
        "atomic",
        "nowait",
        "noio",
        "nofs",
        "user",
        "highuser",
        "dma",
        "dma32",
        "other",
    ]
    assert document["tracking"] == {
        "since": 1_700_000_000.25,
        "seconds": 12.5,
        "mode": "sampled",
        "sample_bytes": 65536,
        "suspended": 0.0,
        "activity": "awake",
        "stage": "sampled",
        "suspect": "",
        "asleep": 0.0,
        "wakes": 0,
        "reason": "",
    }
    assert document["losses"]["samples_full"] == 2


def test_json_is_one_line_of_ascii() -> None:
    found = to_json(snapshot(caches=(cache("gr\u00fc\u00df\n"),)))
    assert found.isascii()
    assert "\n" not in found


def test_rows_of_one_kind_have_the_same_fields(document: dict[str, Any]) -> None:
    for part in ("caches", "sites", "devices", "gfp", "modifiers"):
        assert len({tuple(row) for row in document[part]}) == 1, part


def test_groups_are_there_when_asked_for() -> None:
    found = snapshot(tracked=tracked([Object(bytes=64), Object(bytes=64, tgid=7)]))
    groups = to_dict(found, ("pid", "cache"))["groups"]
    assert [(row["pid"], row["cache"], row["live_bytes"]) for row in groups] == [
        ("100", "kmalloc-64", 64),
        ("7", "kmalloc-64", 64),
    ]
    assert "groups" not in to_dict(found)


HOSTILE = ['say "hi"', "a,b", "two\nlines", "carriage\rreturn", "", " ", "=1+1", "\x00"]


def named(names: list[str]) -> Snapshot:
    return snapshot(caches=tuple(cache(name, allocs=i) for i, name in enumerate(names)))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE)))
def test_csv_is_read_back_with_any_names(names: list[str]) -> None:
    table = Table.of(VIEWS["caches"], named(names))
    rows = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert rows[0] == [column.name for column in table.columns]
    assert sorted(row[0] for row in rows[1:]) == sorted(names)
    assert all(len(row) == len(table.columns) for row in rows)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_csv_with_a_heading_and_plain_values(name: str) -> None:
    tag = AllocTag(file="ipc/msgutil.c", line=59, function="alloc_msg", bytes=64, calls=1)
    memory = replace(reading(), allocinfo=(tag,))
    found = replace(snapshot(tracked=tracked([Object()])), census=rich(), memory=memory)
    table = Table.of(VIEWS[name], found)
    rows = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    assert len(rows) == len(table)
    assert rows or VIEWS[name].judged  # a verdict needs a past
    for column in table.columns:
        for row in rows:
            value = row[column.name]
            if column.unit in ("count", "bytes"):
                assert value == "" or value.lstrip("-").isdigit(), (column.name, value)
            assert value not in ("None", "True", "False")


def test_csv_values_are_exact_and_missing_ones_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(Table.of(VIEWS["caches"], snapshot())))))
    by_name = {row["name"]: row for row in rows}
    assert by_name["kmalloc-64"]["allocated_bytes"] == "6464"
    assert by_name["kmalloc-64"]["frees_observable"] == "true"
    assert by_name["kmalloc-large"]["slab_bytes"] == ""


def test_views_are_ordered_by_their_sort_column() -> None:
    names = [
        row[0] for row in csv.reader(io.StringIO(to_csv(Table.of(VIEWS["caches"], snapshot()))))
    ]
    assert names == ["name", "kmalloc-64", "kmalloc-large"], "by what they hold"


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5))
def test_a_table_has_one_aligned_line_per_row_whatever_the_names(raw: list[bytes]) -> None:
    names = [escape(name) for name in raw]
    lines = to_table(Table.of(VIEWS["caches"], named(names))).splitlines()
    assert len(lines) == 1 + len(names)
    width = max(len("name"), *map(len, names))
    shown = [line[:width].ljust(width) for line in lines[1:]]
    assert sorted(shown) == sorted(name.ljust(width) for name in names)


def test_a_table_is_aligned_and_in_human_units() -> None:
    devices = (
        device(managed_bytes=300, resources=3, dma_bytes=8192),
        device(
            "",
            "x",
            driver=None,
            module=None,
            managed_bytes=5 << 20,
            resources=1234,
            slab_bytes=None,
        ),
    )
    lines = to_table(Table.of(VIEWS["devices"], snapshot(devices=devices))).splitlines()
    assert lines[0].split() == [
        "bus",
        "name",
        "driver",
        "module",
        "held",
        "managed",
        "DMA",
        "resources",
        "slab",
        "added",
        "removed",
    ]
    mib = ["5.0", "MiB"]
    assert lines[1].split() == ["x", "-", "-", *mib, *mib, "-", "1,234", "-", "0", "0"]
    sizes = ["8.3", "KiB", "300", "B", "8.0", "KiB"]
    assert lines[2].split()[-11:] == [*sizes, "3", "0", "B", "0", "0"]
    end = lines[0].index("resources") + len("resources")
    assert lines[1][:end].endswith("1,234")
    assert lines[2][:end].endswith(" 3")
    assert all(line == line.rstrip() for line in lines)


def test_a_table_can_be_cut_short() -> None:
    table = Table.of(VIEWS["caches"], named(list("abcdef")))
    assert len(to_table(table, table.order()[:2]).splitlines()) == 3


def test_a_table_of_groups_has_their_dimensions_as_columns() -> None:
    found = snapshot(tracked=tracked([Object(bytes=64)]), sites=(site(),))
    lines = to_table(Table.of(grouped_view(("site", "pid")), found)).splitlines()
    assert lines[0].split()[:3] == ["site", "pid", "live"]
    assert lines[1].split()[0].startswith("alloc_thing+0x1c")


def test_rows_as_json_have_every_column_by_name() -> None:
    table = Table.of(VIEWS["caches"], snapshot())
    rows = json.loads(rows_to_json(table))
    assert [list(row) for row in rows] == [[c.name for c in table.columns]] * 2
    assert rows[0]["name"] == "kmalloc-64"
    assert rows[0]["frees_observable"] is True
    assert rows[1]["slab_bytes"] is None
