# SPDX-License-Identifier: Apache-2.0
"""A census as JSON, CSV and table, and narrowed to one cache."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from slabmon.base.errors import UsageError
from slabmon.base.fields import Host
from slabmon.census.model import (
    Census,
    CensusCache,
    Certainty,
    CgroupObjects,
    CgroupState,
    DeviceObjects,
    OrphanObjects,
    OwnedObjects,
    PageBlocks,
)
from slabmon.cli.census import only_cache
from slabmon.export import census as export

CENSUS = Census(
    host=Host("6.18.0", "x86_64", 2, "boot", 1 << 30),
    seconds=0.25,
    cpu_seconds=0.5,
    peak_bytes=80 << 20,
    passes=1,
    pages_read=262144,
    objects=130,
    changed_slabs=2,
    caches=(
        CensusCache(
            name="dentry",
            slabs=7,
            objects=147,
            in_use=100,
            free=47,
            object_size=192,
            size=192,
            slab_bytes=28672,
            spare_bytes=8192,
        ),
        CensusCache(
            name="filp",
            aliases=("files",),
            slabs=2,
            objects=42,
            in_use=30,
            free=12,
            object_size=184,
            size=192,
            slab_bytes=8192,
        ),
    ),
    cgroups=(
        CgroupObjects(
            cgroup="/web",
            state=CgroupState.ALIVE,
            objects=60,
            bytes=11520,
            by_cache={"dentry": 9600, "filp": 1920},
            objects_by_cache={"dentry": 50, "filp": 10},
        ),
        CgroupObjects(
            cgroup="/[removed]",
            state=CgroupState.DYING,
            cgroups=3,
            objects=20,
            bytes=3840,
            by_cache={"filp": 3840},
            objects_by_cache={"filp": 20},
        ),
    ),
    limits=("something is missing",),
)
ORPHANS = (
    OrphanObjects(
        cache="filp",
        module="gizmo",
        signature="holds gizmo_fires at +8",
        objects=4001,
        bytes=768192,
    ),
    OrphanObjects(cache="dentry", signature="struct dentry", objects=1, bytes=192),
)
WITH_ORPHANS = dataclasses.replace(CENSUS, passes=3, orphans=ORPHANS)


def test_json_has_the_fields_of_the_contract() -> None:
    document = json.loads(export.to_json(CENSUS))
    assert document.keys() >= {
        "schema",
        "host",
        "seconds",
        "passes",
        "pages_read",
        "objects",
        "sampled",
        "caches",
        "cgroups",
        "orphans",
        "limits",
    }
    cache = document["caches"][0]
    assert cache.keys() >= {
        "name",
        "aliases",
        "slabs",
        "objects",
        "in_use",
        "free",
        "object_size",
        "slab_bytes",
    }
    assert document["cgroups"][1]["state"] == "dying"
    assert document["cgroups"][0]["by_cache"] == {"dentry": 9600, "filp": 1920}
    assert document["sampled"] is False


@pytest.mark.parametrize(
    ("by", "names"), [("cache", ["dentry", "filp"]), ("cgroup", ["/web", "/[removed]"])]
)
def test_csv_has_a_heading_and_a_row_each(by: str, names: list[str]) -> None:
    heading, *rows = csv.reader(io.StringIO(export.to_csv(CENSUS, export.By(by))))
    assert [row[0] for row in rows] == names
    assert all(len(row) == len(heading) for row in rows)


def test_the_table_ends_with_how_it_was_taken_and_what_is_missing() -> None:
    lines = export.to_table(CENSUS, export.By.CACHE).splitlines()
    assert lines[0].split() == [
        "CACHE",
        "SLAB",
        "BYTES",
        "SLABS",
        "OBJECTS",
        "IN",
        "USE",
        "FREE",
        "USE",
        "OBJECT",
        "SPARE",
    ]
    assert lines[1].startswith("dentry")
    assert lines[-2].endswith("2 slabs changed meanwhile")
    assert lines[-1] == "limit: something is missing"


def test_one_cache_by_its_alias() -> None:
    found = only_cache(CENSUS, "files")
    assert [row.name for row in found.caches] == ["filp"]
    assert found.objects == 30
    assert [(row.cgroup, row.objects, row.bytes) for row in found.cgroups] == [
        ("/[removed]", 20, 3840),
        ("/web", 10, 1920),
    ]


def test_an_unknown_cache_is_an_error_with_near_names() -> None:
    with pytest.raises(UsageError, match="near names: dentry"):
        only_cache(CENSUS, "dentri")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("kmalloc-64", "kmalloc-64"),
        ("kmalloc-cg-64", "kmalloc-64"),
        ("dma-kmalloc-4k", "kmalloc-4k"),
        ("kmalloc-rnd-11-96", "kmalloc-96"),
        ("kmalloc-rcl-8k", "kmalloc-8k"),
        ("kmalloc-large", "kmalloc-large"),
        ("dentry", "dentry"),
    ],
)
def test_a_family_is_all_kinds_of_a_cache(name: str, family: str) -> None:
    others = tuple(dataclasses.replace(row, name=f"other-{row.name}") for row in CENSUS.caches)
    census = dataclasses.replace(
        CENSUS, caches=(dataclasses.replace(CENSUS.caches[0], name=name), *others)
    )
    for wanted in (name, family, f"family={family}"):
        assert [row.name for row in only_cache(census, wanted).caches] == [name]
    with pytest.raises(UsageError, match="called 'kmalloc-65'"):
        only_cache(census, "family=kmalloc-65")


def test_owners_and_page_blocks_of_other_caches_are_left_out() -> None:
    owner = OwnedObjects(
        cache="dentry", signature="fs/dcache.c:1", certainty=Certainty.EXACT, objects=1, bytes=192
    )
    census = dataclasses.replace(
        CENSUS,
        owners=(owner, dataclasses.replace(owner, cache="filp")),
        page_blocks=(PageBlocks(order=2, objects=1, bytes=16384),),
    )
    narrowed = only_cache(census, "dentry")
    assert narrowed.owners == (owner,)
    assert narrowed.page_blocks == ()


def test_owners_are_shown_with_what_they_are_and_how_sure() -> None:
    owned = OwnedObjects(
        cache="kmalloc-96",
        type="vm_struct",
        module="ext4",
        signature="struct vm_struct, pointed to by vmap_area.vm",
        certainty=Certainty.LIKELY,
        objects=3,
        bytes=288,
    )
    taken = dataclasses.replace(CENSUS, owners=(owned,))
    heading, line, *_ = export.to_table(taken, export.By.SIGNATURE).splitlines()
    assert heading.split()[:4] == ["BYTES", "OBJECTS", "SURE", "CACHE"]
    assert line.split(maxsplit=6)[2:] == ["3", "likely", "kmalloc-96", "ext4", owned.signature]
    [row] = csv.DictReader(io.StringIO(export.to_csv(taken, export.By.TYPE)))
    assert (row["type"], row["bytes"], row["caches"]) == ("vm_struct", "288", "kmalloc-96")
    [row] = csv.DictReader(io.StringIO(export.to_csv(taken, export.By.MODULE)))
    assert (row["module"], row["certainty"]) == ("ext4", "likely")


def test_what_has_no_module_or_struct_is_named_in_tables() -> None:
    owned = OwnedObjects(cache="x", signature="-", certainty=Certainty.EXACT, objects=1, bytes=300)
    owners = tuple(
        dataclasses.replace(owned, certainty=certainty, bytes=300 - i)
        for i, certainty in enumerate(Certainty)
    )
    taken = dataclasses.replace(CENSUS, owners=owners)
    for by, texts in (
        (export.By.MODULE, ["[core kernel]", "[core kernel] or not known", "[unknown]"]),
        (export.By.TYPE, ["[no known struct]"] * 3),
    ):
        lines = export.to_table(taken, by).splitlines()[1:4]
        assert [line.split(maxsplit=4)[4].removesuffix("x").strip() for line in lines] == texts
        rows = csv.DictReader(io.StringIO(export.to_csv(taken, by)))
        assert {row[by.value] for row in rows} == {""}


def test_orphans_are_shown_with_what_they_are() -> None:
    heading, first, _, summary, _ = export.to_table(WITH_ORPHANS, export.By.ORPHAN).splitlines()
    assert heading.split()[:4] == ["BYTES", "OBJECTS", "CACHE", "MODULE"]
    assert first.split(maxsplit=5)[2:] == ["4,001", "filp", "gizmo", ORPHANS[0].signature]
    assert "4,002 of them orphans (750.4 KiB, 3 passes)" in summary
    rows = list(csv.DictReader(io.StringIO(export.to_csv(WITH_ORPHANS, export.By.ORPHAN))))
    assert [(row["objects"], row["signature"]) for row in rows] == [
        ("4001", ORPHANS[0].signature),
        ("1", "struct dentry"),
    ]
    assert only_cache(WITH_ORPHANS, "dentry").orphans == ORPHANS[1:]
    document = json.loads(export.to_json(WITH_ORPHANS))
    assert document["passes"] == 3
    assert document["orphans"][1].keys() == {
        "cache",
        "type",
        "module",
        "signature",
        "objects",
        "bytes",
    }


def test_devices_are_shown_with_what_they_retain() -> None:
    device = DeviceObjects(
        bus="pci",
        name="0000:00:03.0",
        driver="gizmo",
        objects=61,
        bytes=61 * 2048,
        retained_objects=70,
        retained_bytes=1 << 20,
        by_cache={"kmalloc-2k": 61 * 2048},
    )
    found = dataclasses.replace(CENSUS, devices=(device,))
    heading, line, *_ = export.to_table(found, export.By.DEVICE).splitlines()
    assert heading.split()[:5] == ["RETAINED", "BYTES", "OBJECTS", "BUS", "DEVICE"]
    assert line.split()[4:8] == ["61", "pci", "0000:00:03.0", "gizmo"]
    assert line.endswith("kmalloc-2k 122.0 KiB")
    [row] = csv.DictReader(io.StringIO(export.to_csv(found, export.By.DEVICE)))
    assert (row["retained_bytes"], row["module"]) == ("1048576", "")
    [shown] = json.loads(export.to_json(found))["devices"]
    assert shown.keys() >= {"bus", "name", "driver", "module", "objects", "bytes", "retained_bytes"}


def test_a_table_without_a_search_for_orphans_does_not_say_that_there_are_none() -> None:
    assert "orphans" not in export.to_table(CENSUS, export.By.CACHE)
    assert "0 of them orphans" in export.to_table(
        dataclasses.replace(CENSUS, passes=2), export.By.CACHE
    )


def test_long_paths_of_cgroups_are_cut_in_tables_only() -> None:
    path = "/" + "/".join(f"level-{i}" for i in range(100))
    census = dataclasses.replace(
        CENSUS, cgroups=(dataclasses.replace(CENSUS.cgroups[0], cgroup=path),)
    )
    line = export.to_table(census, export.By.CGROUP).splitlines()[1]
    assert line.startswith("/level-0/level-1/lev…")
    assert "/level-99  alive" in line
    assert path in export.to_csv(census, export.By.CGROUP)


def test_json_is_read_back() -> None:
    assert export.from_json(export.to_json(CENSUS).encode(), "here") == CENSUS
    with pytest.raises(UsageError, match=r"^here: a difference of two censuses"):
        export.from_json(export.to_json(CENSUS, since=5.0).encode(), "here")


def test_changes_have_signs_and_an_error() -> None:
    owned = OwnedObjects(
        cache="kmalloc-96",
        signature="struct thing",
        certainty=Certainty.LIKELY,
        objects=3,
        bytes=288,
        objects_stderr=1.25,
    )
    shrunk = dataclasses.replace(owned, signature="x", objects=-2, bytes=-192)
    table = export.to_table(
        dataclasses.replace(CENSUS, taken=200.0, owners=(owned, shrunk)), export.By.SIGNATURE, 80.0
    )
    heading, first, second, summary, _ = table.splitlines()
    assert "± OBJECTS" in heading
    assert first.split()[:5] == ["+288", "B", "+3", "likely", "kmalloc-96"]
    assert second.split()[:3] == ["-192", "B", "-2"]
    assert summary.startswith("+130 objects in use from 1970-01-01T")
    assert "(2m00s)" in summary
