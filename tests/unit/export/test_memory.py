# SPDX-License-Identifier: Apache-2.0
"""The ledger as JSON, CSV and a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from slabmon.base.errors import UsageError
from slabmon.base.fields import Host
from slabmon.export.memory import from_json, to_csv, to_json, to_table
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.memory.ledger import Growth, account
from tests.support.builders import snapshot
from tests.support.censuses import census
from tests.support.memory import MIB, TOTAL, reading, scan

LEDGER = dataclasses.replace(
    account(reading(), scan()),
    host=Host("6.12.1", "x86_64", 2, "boot"),
    growth=Growth(bytes=12 * MIB, seconds=3600.0),
)


def test_json_adds_up_and_is_what_a_ledger_is_read_from() -> None:
    text = to_json(LEDGER)
    document = json.loads(text)
    assert document["schema"] == 1
    assert document["host"]["release"] == "6.12.1"
    assert document["total_bytes"] == TOTAL
    assert sum(row["bytes"] for row in document["rows"]) + document["unaccounted_bytes"] == TOTAL
    assert {row["kind"] for row in document["rows"]} <= {
        "kernel",
        "user",
        "cache",
        "free",
        "reserved",
    }
    assert document["vmalloc"][0] == {
        "symbol": "load_ring",
        "offset": 0x20,
        "module": "nic",
        "areas": 3,
        "bytes": 30 * MIB,
        "node_bytes": {"0": 10 * MIB, "1": 20 * MIB},
        "stacks": False,
    }
    assert from_json(text.encode(), "here") == LEDGER


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema":2}', '{"schema":1,"rows":3}'])
def test_anything_else_is_no_ledger(text: str) -> None:
    with pytest.raises(UsageError, match="here: "):
        from_json(text.encode(), "here")


def test_csv_has_all_rows_and_adds_up() -> None:
    heading, *rows = csv.reader(io.StringIO(to_csv(LEDGER)))
    assert heading == ["kind", "name", "bytes", "exactness", "source"]
    assert len(rows) == len(LEDGER.rows) + 2
    *parts, total = (int(row[2]) for row in rows)
    assert sum(parts) == total == TOTAL
    assert [row[1] for row in rows[-2:]] == ["unaccounted", "total"]


def test_the_table_reads_from_the_kernel_to_what_is_unaccounted() -> None:
    lines = to_table(LEDGER).splitlines()
    titles = [line[:40].strip() for line in lines]
    order = ["KERNEL", "slab, reclaimable", "slab, unreclaimable", "PAGE CACHE", "PROCESSES"]
    places = [titles.index(title) for title in [*order, "FREE", "UNACCOUNTED"]]
    assert places == sorted(places)
    assert "kernel pages without an account          60.0 MiB    1.5%  ▌" in "\n".join(lines)
    assert "grew by 12.0 MiB in 1h00m" in "\n".join(lines)
    assert max(len(line) for line in lines) <= 100


def test_rows_of_nothing_are_left_out_of_the_table() -> None:
    assert "huge pages" not in to_table(LEDGER)
    assert "SET ASIDE" not in to_table(LEDGER)


def test_series_of_all_rows_add_up_with_and_without_struct_pages() -> None:
    found = dataclasses.replace(snapshot(), memory=reading())
    for taken in (None, census(memory=scan())):
        families = Exporter().families(found, Daemon(), census=taken)
        samples = [sample for family in families.collect() for sample in family.samples]
        parts = {
            sample.labels.get("row", sample.name): sample.value
            for sample in samples
            if sample.name in ("slabmon_memory_bytes", "slabmon_memory_unaccounted_bytes")
        }
        assert sum(parts.values()) == TOTAL
        assert parts.get("kernel_pages") == (60 * MIB if taken else None)
        assert "slabmon_memory_uncounted_bytes" in {sample.name for sample in samples}
