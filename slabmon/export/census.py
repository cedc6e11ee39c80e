# SPDX-License-Identifier: Apache-2.0
"""A census as JSON, CSV and a table for a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, NamedTuple, TypedDict

from slabmon.base.errors import UsageError
from slabmon.base.format import duration, human
from slabmon.base.parse import show_moment
from slabmon.base.units import BYTES, COUNT, PERCENT, Value
from slabmon.base.workloads import Workload, named
from slabmon.census.model import (
    Census,
    CensusCache,
    Certainty,
    CgroupObjects,
    DeviceObjects,
    OrphanObjects,
    OwnedObjects,
    RetainedObjects,
)
from slabmon.census.owners import by_module, by_type
from slabmon.export.documents import read_document
from slabmon.model import CORE_KERNEL

SCHEMA = 1
_LARGEST_CACHES = 3
_LONGEST_PATH = 60


class By(StrEnum):
    """What a census is shown by."""

    CACHE = "cache"
    CGROUP = "cgroup"
    SIGNATURE = "signature"
    TYPE = "type"
    MODULE = "module"
    DEVICE = "device"
    RETAINED = "retained"
    ORPHAN = "orphan"


class _Change(Enum):
    """What becomes of a column in the difference of two censuses."""

    SIGNED = "signed"
    SAME = "same"
    ADDED = "added"  # to a table
    DROPPED = "dropped"


@dataclass(frozen=True)
class _Column:
    """A column: name in CSV, heading in a table ("": not shown), unit ("": text), its value."""

    name: str
    heading: str
    unit: str
    value: Callable[[Any], Value]
    change: _Change = _Change.SIGNED
    cut: bool = False  # in a table
    none: Callable[[Any], str] = lambda _: ""  # what a table shows instead of an empty value

    def text(self, row: Any, changes: bool) -> str:
        """Return the value for people, with a sign if it is a change."""
        value = self.value(row)
        if value == "":
            return self.none(row)
        text = human(value, self.unit)
        if not self.unit and self.cut:
            return _shortened(text)
        signed = changes and self.unit and self.change == _Change.SIGNED
        return f"+{text}" if signed and isinstance(value, int) and value > 0 else text


class _Charged(NamedTuple):
    """What is charged to one cgroup, and what runs there."""

    objects: CgroupObjects
    workload: Workload


def _shortened(text: str) -> str:
    """Return a path without its middle, where it would push all else off the screen."""
    if len(text) <= _LONGEST_PATH:
        return text
    return f"{text[: _LONGEST_PATH // 3]}…{text[-(_LONGEST_PATH * 2 // 3 - 1) :]}"


def _share_in_use(row: CensusCache) -> float | None:
    return row.in_use / row.objects if row.objects else None


def _largest(row: CgroupObjects | DeviceObjects | RetainedObjects) -> str:
    largest = list(row.by_cache.items())[:_LARGEST_CACHES]
    return ", ".join(f"{name} {human(size, BYTES)}" for name, size in largest)


def _no_module(row: OwnedObjects) -> str:
    """Return whose objects are of which no module is known. If that is not exact, evidence of the
    core kernel, such as a type of it, does not rule a module out."""
    if row.certainty == Certainty.UNKNOWN:
        return "[unknown]"
    return CORE_KERNEL if row.certainty == Certainty.EXACT else f"{CORE_KERNEL} or not known"


_OWNED = (
    _Column("bytes", "BYTES", BYTES, lambda row: row.bytes),
    _Column("objects", "OBJECTS", COUNT, lambda row: row.objects),
    _Column("certainty", "SURE", "", lambda row: str(row.certainty)),
)
_STDERR = _Column(
    "objects_stderr", "± OBJECTS", COUNT, lambda row: row.objects_stderr, _Change.ADDED
)
_COLUMNS: dict[By, tuple[_Column, ...]] = {
    By.CACHE: (
        _Column("name", "CACHE", "", lambda row: row.name),
        _Column("slab_bytes", "SLAB BYTES", BYTES, lambda row: row.slab_bytes),
        _Column("slabs", "SLABS", COUNT, lambda row: row.slabs),
        _Column("objects", "OBJECTS", COUNT, lambda row: row.objects),
        _Column("in_use", "IN USE", COUNT, lambda row: row.in_use),
        _Column("free", "FREE", COUNT, lambda row: row.free),
        _Column("use", "USE", PERCENT, _share_in_use, _Change.DROPPED),
        _Column("object_size", "OBJECT", BYTES, lambda row: row.object_size, _Change.SAME),
        _Column("size", "", BYTES, lambda row: row.size, _Change.SAME),
        _Column("spare_bytes", "SPARE", BYTES, lambda row: row.spare_bytes),
        _Column("empty_slabs", "", COUNT, lambda row: row.empty_slabs),
        _Column("aliases", "", "", lambda row: " ".join(row.aliases)),
    ),
    By.CGROUP: (
        _Column("cgroup", "CGROUP", "", lambda row: row.objects.cgroup, cut=True),
        _Column("state", "STATE", "", lambda row: str(row.objects.state)),
        _Column("workload", "WORKLOAD", "", lambda row: row.workload.label, cut=True),
        _Column("cgroups", "CGROUPS", COUNT, lambda row: row.objects.cgroups),
        _Column("objects", "OBJECTS", COUNT, lambda row: row.objects.objects),
        _Column("bytes", "BYTES", BYTES, lambda row: row.objects.bytes),
        _Column("largest", "LARGEST CACHES", "", lambda row: _largest(row.objects)),
        _Column("unit", "", "", lambda row: row.workload.unit),
        _Column("container", "", "", lambda row: row.workload.container),
        _Column("container_id", "", "", lambda row: row.workload.container_id),
        _Column("pod", "", "", lambda row: row.workload.pod),
        _Column("pod_uid", "", "", lambda row: row.workload.pod_uid),
        _Column("namespace", "", "", lambda row: row.workload.namespace),
    ),
    By.SIGNATURE: (
        *_OWNED,
        _Column("cache", "CACHE", "", lambda row: row.cache),
        _Column("module", "MODULE", "", lambda row: row.module or ""),
        _Column("type", "", "", lambda row: row.type or ""),
        _STDERR,
        _Column("signature", "WHAT IT IS", "", lambda row: row.signature),
    ),
    By.TYPE: (
        *_OWNED,
        _STDERR,
        _Column("type", "TYPE", "", lambda row: row.type or "", none=lambda _: "[no known struct]"),
        _Column("caches", "CACHES", "", lambda row: row.cache),
    ),
    By.ORPHAN: (
        *_OWNED[:2],
        _Column("cache", "CACHE", "", lambda row: row.cache),
        _Column("module", "MODULE", "", lambda row: row.module or ""),
        _Column("type", "", "", lambda row: row.type or ""),
        _Column("signature", "WHAT IT IS", "", lambda row: row.signature),
    ),
    By.DEVICE: (
        _Column("retained_bytes", "RETAINED", BYTES, lambda row: row.retained_bytes),
        _Column("bytes", "BYTES", BYTES, lambda row: row.bytes),
        _Column("objects", "OBJECTS", COUNT, lambda row: row.objects),
        _Column("bus", "BUS", "", lambda row: row.bus),
        _Column("name", "DEVICE", "", lambda row: row.name),
        _Column("driver", "DRIVER", "", lambda row: row.driver or ""),
        _Column("module", "MODULE", "", lambda row: row.module or ""),
        _Column("largest", "LARGEST CACHES", "", _largest),
    ),
    By.RETAINED: (
        _Column("retained_bytes", "RETAINED", BYTES, lambda row: row.retained_bytes),
        _Column("bytes", "BYTES", BYTES, lambda row: row.bytes),
        _Column("objects", "OBJECTS", COUNT, lambda row: row.objects),
        _Column("kind", "", "", lambda row: row.kind.value),
        _Column("name", "NAME", "", lambda row: row.name, cut=True),
        _Column("largest", "LARGEST CACHES", "", _largest),
    ),
    By.MODULE: (
        *_OWNED,
        _STDERR,
        _Column("module", "MODULE", "", lambda row: row.module or "", none=_no_module),
        _Column("caches", "CACHES", "", lambda row: row.cache),
    ),
}


def _rows(
    census: Census, by: By
) -> (
    Sequence[CensusCache]
    | Sequence[_Charged]
    | Sequence[OwnedObjects]
    | Sequence[OrphanObjects]
    | Sequence[DeviceObjects]
    | Sequence[RetainedObjects]
):
    match by:
        case By.CACHE:
            return census.caches
        case By.CGROUP:
            return [_Charged(row, named(row.cgroup, census.workloads)) for row in census.cgroups]
        case By.SIGNATURE:
            return census.owners
        case By.ORPHAN:
            return census.orphans
        case By.DEVICE:
            return census.devices
        case By.RETAINED:
            return census.retained
        case By.TYPE:
            return by_type(census.owners)
        case By.MODULE:
            return by_module(census.owners)


def to_json(census: Census, since: float | None = None) -> str:
    """Return the census as one line of JSON. Fields are those of slabmon.census.model. `since`: it
    is a difference from the census of this Unix time, and the document says so."""
    head = {"schema": SCHEMA} if since is None else {"schema": SCHEMA, "since": since}
    document = head | dataclasses.asdict(census)
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


class _Difference(TypedDict, total=False):
    since: object


def from_json(data: bytes, origin: str) -> Census:
    """Return the census that to_json() was given. Raises UsageError if it is anything else, or a
    difference; `origin` says where it is from."""
    if "since" in read_document(data, _Difference, SCHEMA, "census", origin):
        raise UsageError(f"{origin}: a difference of two censuses, where a census is expected")
    return read_document(data, Census, SCHEMA, "census", origin)


def to_csv(census: Census, by: By, since: float | None = None) -> str:
    """Return rows as CSV (RFC 4180) with a heading row. `since`: as of to_json()."""
    output = io.StringIO()
    writer = csv.writer(output)
    columns = [
        column for column in _COLUMNS[by] if since is None or column.change != _Change.DROPPED
    ]
    writer.writerow(column.name for column in columns)
    for row in _rows(census, by):
        values = (column.value(row) for column in columns)
        writer.writerow("" if value is None else value for value in values)
    return output.getvalue()


def to_table(census: Census, by: By, since: float | None = None) -> str:
    """Return rows as aligned text, largest first, and below it how the census was taken. `since`:
    as of to_json()."""
    changes = since is not None
    hidden = _Change.DROPPED if changes else _Change.ADDED
    columns = [c for c in _COLUMNS[by] if c.heading and c.change != hidden]
    lines = [[column.heading for column in columns]]
    for row in _rows(census, by):
        lines.append([column.text(row, changes) for column in columns])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    table = "".join(
        "  ".join(
            cell.rjust(width) if column.unit else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )
    summary = _summary(census) if since is None else _summary_of_changes(census, since)
    notes = list(_notes(census)) if by in (By.SIGNATURE, By.TYPE) and since is None else []
    limits = (f"limit: {text}" for text in census.limits)
    return table + "".join(f"{line}\n" for line in (summary, *notes, *limits))


def _notes(census: Census) -> Iterator[str]:
    """Yield how far structs are known."""
    if census.contradictions:
        yield (
            f"contradictions: evidence says several structs of {census.contradictions:,} objects; "
            "each is counted with the one that more evidence says"
        )
    widest = census.widest_unknown
    if widest is not None:
        yield (
            f"struct not known: look first at {widest.objects:,} objects of {widest.cache}, "
            f"{widest.signature}: they lead to {widest.reached_objects:,} others of no known "
            f"struct ({human(widest.reached_bytes, BYTES)})"
        )


def _summary(census: Census) -> str:
    changed = f", {census.changed_slabs} slabs changed meanwhile" if census.changed_slabs else ""
    orphans = ""
    if census.passes > 1:
        count = sum(row.objects for row in census.orphans)
        size = sum(row.bytes for row in census.orphans)
        orphans = f"{count:,} of them orphans ({human(size, BYTES)}, {census.passes} passes), "
    return (
        f"{census.objects:,} objects in use at {show_moment(census.taken)}; {orphans}"
        f"{census.pages_read:,} pages looked at in {census.seconds:.2f} s "
        f"({census.cpu_seconds:.2f} s of CPU time){changed}"
    )


def _summary_of_changes(census: Census, since: float) -> str:
    changed = f"; {census.changed_slabs} slabs changed meanwhile" if census.changed_slabs else ""
    return (
        f"{census.objects:+,} objects in use from {show_moment(since)} to "
        f"{show_moment(census.taken)} ({duration(census.taken - since)}){changed}"
    )
