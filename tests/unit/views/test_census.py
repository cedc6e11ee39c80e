# SPDX-License-Identifier: Apache-2.0
"""The views of a census: rows, ways between them and the caches view, differences, and notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from slabmon.census.model import DeviceObjects
from slabmon.export.text import rows_to_json, to_csv
from slabmon.model import Snapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.census import CENSUS, CONTENTS, NO_CENSUS, ORPHANS, OWNERS, RETAINED
from slabmon.views.drilldown import follow_link
from slabmon.views.filtering import mask
from slabmon.views.table import Table
from slabmon.views.view import View
from slabmon.views.window import Instant, Window
from tests.support.builders import cache, device, snapshot
from tests.support.censuses import census, owned, rich

FOUND = replace(snapshot(caches=(cache("kmalloc-64"), cache("inode"))), census=rich())


def names(view: View, found: Snapshot = FOUND) -> list[object]:
    table = Table.of(view, found)
    return [table.values(view.columns[0].name)[row] for row in table.order()]


def noted(view: View, found: Snapshot) -> str:
    return Table.of(view, found).note


def leads(view: View, row: object, title: str) -> View:
    [link] = [link for link in view.links if link.title == title]
    return follow_link(link, view, row, VIEWS)


def test_rows_are_those_of_the_census() -> None:
    assert names(CENSUS) == ["dentry", "kmalloc-64"]
    assert names(OWNERS) == [
        "struct dentry",
        "pointed to by evil.name",
        "has ops card_ops [card] at +8",
        "unknown",
    ]
    dentry, kmalloc = Table.of(CENSUS, FOUND).cells([0, 1], CENSUS.columns)
    shown = dict(zip((column.name for column in CENSUS.columns), kmalloc, strict=True))
    assert shown["use_ratio"] == round(4100 / 19_200, 3)
    assert shown["aliases"] == "thing_cache evil"
    assert dentry[-1] is None


def test_caches_census_and_owners_lead_to_each_other() -> None:
    [kmalloc, inode] = FOUND.caches
    assert len(names(leads(VIEWS["caches"], kmalloc, "owners"))) == 3
    assert names(leads(VIEWS["caches"], kmalloc, "census")) == ["kmalloc-64"]
    assert names(leads(VIEWS["caches"], inode, "owners")) == []
    assert FOUND.census
    counted = FOUND.census.caches[1]
    assert len(names(leads(CENSUS, counted, "owners"))) == 3
    assert names(leads(CENSUS, counted, "tracked")) == ["kmalloc-64"]
    card = FOUND.census.owners[1]
    assert names(leads(OWNERS, card, "cache")) == ["kmalloc-64"]
    assert names(leads(OWNERS, card, "tracked")) == ["kmalloc-64"]
    assert len(names(leads(OWNERS, card, "same-cache"))) == 3
    assert names(leads(OWNERS, card, "same-module")) == [card.signature]
    assert names(leads(OWNERS, FOUND.census.owners[0], "same-type")) == ["struct dentry"]


def test_rows_are_filtered_and_exported() -> None:
    table = Table.of(OWNERS, FOUND)
    kept = table.order(keep=mask("sure = likely bytes > 100k", table))
    assert [row[0] for row in table.cells(kept, OWNERS.columns)] == ["pointed to by evil.name"]
    assert to_csv(table).splitlines()[1] == "struct dentry,4032000,21000,0,exact,dentry,,dentry"
    assert '"signature": "unknown"' in rows_to_json(table)


def test_a_mark_shows_what_grew_between_two_censuses() -> None:
    later = replace(FOUND, census=rich(100.0))
    table = Table(OWNERS, Window(Instant(later)), Instant(FOUND))
    grown = dict(zip(names(OWNERS), [0, 0, 0, 0], strict=True))
    grown["has ops card_ops [card] at +8"] = 700
    shown = {
        table.values("signature")[row]: int(table.values("objects")[row])
        for row in range(len(table))
    }
    assert shown == grown
    assert " compared with 2023-" in table.note
    bare = Instant(replace(FOUND, census=None))
    assert " compared with none before, 92%" in Table(OWNERS, table.window, bare).note
    assert table.values("objects_stderr").max() == round((2 * 12.5**2) ** 0.5)


def test_a_note_says_which_census_it_is_or_how_to_get_one() -> None:
    assert noted(VIEWS["caches"], FOUND) == ""
    assert noted(OWNERS, FOUND).endswith(", 92% of mixed caches' slabs read")
    assert noted(CENSUS, FOUND).endswith("+00:00"), "all slabs are counted"
    none = snapshot()
    assert noted(CENSUS, none) == NO_CENSUS
    assert noted(CENSUS, none.without_census("it\nhung")) == "no census: it\\nhung"
    failed = replace(FOUND, census=census(owners=(owned(),))).without_census("it hung")
    assert noted(OWNERS, failed).endswith("; a later one failed: it hung")
    narrow = leads(OWNERS, owned(), "cache")
    assert noted(narrow, none) == NO_CENSUS


def test_devices_have_what_they_retain_in_both_views() -> None:
    searched = replace(FOUND, census=rich())
    assert names(RETAINED, searched)[0] == "pci"
    assert noted(RETAINED, searched) == noted(CENSUS, searched)
    assert noted(ORPHANS, searched).endswith(", 3 passes")
    assert names(CONTENTS, searched)[0] == rich().held[0].signature
    assert "what devices hold" in noted(CONTENTS, replace(FOUND, census=census()))
    assert "what devices hold" in noted(RETAINED, replace(FOUND, census=census()))
    spent = replace(FOUND, census=census(limits=("some", "orphans were not found: no time")))
    for view in (CONTENTS, ORPHANS, RETAINED):
        assert noted(view, spent).endswith(": orphans were not found: no time")
    [row] = rich().devices[:1]
    known = device(row.bus, row.name)
    other = device("usb", "1-1")
    table = Table.of(VIEWS["devices"], replace(searched, devices=(known, other)))
    assert str(table.values("retained_bytes").tolist()) == f"[{row.retained_bytes:.1f}, nan]"
    assert "retained_bytes" in [column.name for column in table.brief]
    unknown = Table.of(VIEWS["devices"], replace(FOUND, devices=(known,), census=census()))
    assert "retained_bytes" not in [column.name for column in unknown.brief]


def test_what_devices_retain_is_read_once_for_all_of_them() -> None:
    readings = 0

    class Rows(tuple[DeviceObjects, ...]):
        def __iter__(self) -> Iterator[DeviceObjects]:
            nonlocal readings
            readings += 1
            return super().__iter__()

    found = replace(rich(), devices=Rows(rich().devices))
    many = tuple(device("usb", f"1-{port}") for port in range(50))
    table = Table.of(VIEWS["devices"], replace(FOUND, devices=many, census=found))
    assert table.brief
    assert len(table.values("retained_bytes")) == 50
    assert readings == 1


def test_orphans_are_rows_and_a_census_that_did_not_look_for_them_says_so() -> None:
    searched = replace(FOUND, census=rich())
    assert names(ORPHANS, searched)[0] == "has ops card_ops [card] at +8"
    assert noted(ORPHANS, searched).endswith(", 3 passes")
    assert "orphans = true" in noted(ORPHANS, replace(FOUND, census=census(owners=(owned(),))))
    assert noted(ORPHANS, replace(FOUND, census=None)) == noted(OWNERS, replace(FOUND, census=None))


def test_a_census_without_charged_objects_says_so() -> None:
    charged = Table.of(VIEWS["charged"], replace(FOUND, census=census()))
    assert charged.note.endswith(": no object is charged to a memory cgroup")
    assert "no object" not in Table.of(VIEWS["charged"], FOUND).note
