# SPDX-License-Identifier: Apache-2.0
"""The views of the last census, and the line that says which census that is."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from slabmon.base.parse import show_moment
from slabmon.base.units import BYTES, COUNT
from slabmon.views.columns import (
    DRIVER_MODULE,
    Column,
    Kind,
    attribute,
    device_labels,
    label,
    ratio,
)
from slabmon.views.view import Link, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slabmon.census.model import (
        Census,
        CensusCache,
        DeviceObjects,
        HeldObjects,
        OrphanObjects,
        OwnedObjects,
    )
    from slabmon.model import Snapshot
    from slabmon.views.table import Table


NO_CENSUS = (
    "no census yet: one is requested when this view of the present is opened, and takes seconds; "
    "slabmon census takes one at any time"
)
_CHARGED = "charged"  # whose view imports this module
_NAME = attrgetter("name")
_CACHE = attrgetter("cache")
# Between views that have a row for each device.
OF_DEVICE = (("bus", attrgetter("bus")), ("name", _NAME))
# From a cache of any view to what the census says of it.
OF_CACHE = (
    Link(title="owners", where=(("cache", _NAME),), view="owners"),
    Link(title="census", where=(("name", _NAME),), view="census"),
)


def census_note(table: Table) -> str:
    """Return which census the rows of a table are from, or how to get one."""
    view, snapshot = table.view, table.window.snapshot
    from slabmon.model import CENSUS_FEATURE  # only here: it imports numpy

    census, failed = snapshot.census, snapshot.features.get(CENSUS_FEATURE)
    if census is None:
        return f"no census: {failed.reason}" if failed else NO_CENSUS
    text = f"census of {show_moment(census.taken)}"
    if table.mark is not None:
        before = table.mark.snapshot.census
        text += f" compared with {show_moment(before.taken) if before else 'none before'}"
    if view.name == ORPHANS.name and census.passes > 1:
        return f"{text}, {census.passes} passes"
    if view.name == ORPHANS.name:
        return f"{text}: {_not_found(census, 'orphans', '--orphans')}"
    if view.name in (RETAINED.name, CONTENTS.name) and not census.devices:
        return f"{text}: {_not_found(census, 'what devices hold', '--by device')}"
    if view.name == _CHARGED and not census.cgroups:
        text += ": no object is charged to a memory cgroup"
    if view.name == OWNERS.name and census.sampled is not False:
        text += f", {census.sampled:.0%} of mixed caches' slabs read"
    return f"{text}; a later one failed: {failed.reason}" if failed else text


def _not_found(census: Census, what: str, option: str) -> str:
    """Say why a census did not find what it may look for, or how to make it look."""
    from slabmon.census.model import DEVICES_UNSUPPORTED, NO_ORPHANS, ORPHANS_UNSUPPORTED

    reasons = (DEVICES_UNSUPPORTED, NO_ORPHANS, ORPHANS_UNSUPPORTED)
    for limit in census.limits:
        if limit.startswith(reasons):
            return limit
    return (
        f"it did not look for {what}; slabmon census {option} does, or the daemon with "
        "orphans = true in the [census] table"
    )


def _caches(snapshot: Snapshot) -> Sequence[CensusCache]:
    return snapshot.census.caches if snapshot.census else ()


def _owners(snapshot: Snapshot) -> Sequence[OwnedObjects]:
    return snapshot.census.owners if snapshot.census else ()


def _orphans(snapshot: Snapshot) -> Sequence[OrphanObjects]:
    return snapshot.census.orphans if snapshot.census else ()


def _devices(snapshot: Snapshot) -> Sequence[DeviceObjects]:
    return snapshot.census.devices if snapshot.census else ()


def _held(snapshot: Snapshot) -> Sequence[HeldObjects]:
    return snapshot.census.held if snapshot.census else ()


def _count(name: str, help: str, title: str = "") -> Column:
    return attribute(name, unit=COUNT, kind=Kind.GAUGE, help=help, title=title)


def _size(name: str, help: str, title: str = "", kind: Kind = Kind.GAUGE) -> Column:
    return attribute(name, unit=BYTES, kind=kind, help=help, title=title)


CENSUS = View(
    name="census",
    title="all of slab memory by cache, at the last census",
    rows=_caches,
    key=_NAME,
    columns=(
        label("name", "Name of the cache; kmalloc-large: page-backed kmalloc."),
        _size("slab_bytes", "Memory of all its slabs.", "slab bytes"),
        _size(
            "spare_bytes",
            "What would be given back if its objects lay in as few slabs as they fit in.",
            "spare",
        ),
        ratio("use_ratio", "in_use", "objects", title="use"),
        _count("in_use", "Objects in use, whenever they were allocated.", "in use"),
        _count("free", "Free objects, those in per-CPU slabs and sheaves included."),
        _count("objects", "Objects that its slabs have room for.", "room"),
        _count("slabs", "Slabs."),
        _count("empty_slabs", "Slabs with no object in use.", "empty"),
        _size("object_size", "Bytes of an object that its user may use.", "object", Kind.LABEL),
        _size("size", "Bytes that an object occupies.", kind=Kind.LABEL),
        label(
            "aliases",
            "Other names of the cache: the kernel merges like caches.",
            path="alias_names",
        ),
    ),
    brief=(
        "name",
        "slab_bytes",
        "spare_bytes",
        "use_ratio",
        "in_use",
        "free",
        "slabs",
        "empty_slabs",
        "object_size",
        "aliases",
    ),
    sort="slab_bytes",
    links=(
        OF_CACHE[0],
        Link(title="tracked", where=(("name", _NAME),), view="caches"),
    ),
    note=census_note,
    census=True,
)

OWNERS = View(
    name="owners",
    title="what is in slab memory, and whose it is, at the last census",
    rows=_owners,
    key=attrgetter("cache", "type", "module", "signature"),
    columns=(
        label(
            "signature",
            "What the objects are, by what they hold and what points to them.",
            title="what it is",
        ),
        _size("bytes", "Bytes that they occupy."),
        _count("objects", "Objects in use, whenever they were allocated."),
        attribute(
            "objects_stderr",
            unit=COUNT,
            kind=Kind.ERROR,
            help="Standard error of objects, where slabs were sampled.",
            title="±",
        ),
        label(
            "certainty", "exact, likely or unknown: how sure it is whose they are.", title="sure"
        ),
        label("cache", "Cache that they are in."),
        label("module", "Module they belong to; none: core kernel, or not known."),
        label("type", "Struct that they are; none: not known."),
    ),
    brief=("signature", "bytes", "objects", "cache", "certainty", "module", "type"),
    sort="bytes",
    links=(
        Link(title="cache", where=(("name", _CACHE),), view="census"),
        Link(title="same-cache", where=(("cache", _CACHE),), view="owners"),
        Link(title="tracked", where=(("name", _CACHE),), view="caches"),
        Link(title="same-module", where=(("module", attrgetter("module")),), view="owners"),
        Link(title="same-type", where=(("type", attrgetter("type")),), view="owners"),
    ),
    note=census_note,
    census=True,
)

ORPHANS = View(
    name="orphans",
    title="objects that nothing in the kernel's memory refers to, at the last census",
    rows=_orphans,
    key=attrgetter("cache", "type", "module", "signature"),
    columns=(
        label("signature", "What the objects are, by what they hold.", title="what it is"),
        _size("bytes", "Bytes that they occupy."),
        _count("objects", "Objects in use that nothing refers to, except other orphans."),
        label("cache", "Cache that they are in."),
        label("module", "Module they belong to; none: core kernel, or not known."),
        label("type", "Struct that they are; none: not known."),
    ),
    brief=("signature", "bytes", "objects", "cache", "module", "type"),
    sort="bytes",
    links=(
        Link(title="cache", where=(("name", _CACHE),), view="census"),
        Link(title="owners", where=(("cache", _CACHE),), view="owners"),
        Link(title="tracked", where=(("name", _CACHE),), view="caches"),
    ),
    note=census_note,
    census=True,
)

RETAINED = View(
    name="retained",
    title="slab memory that only a device leads to, at the last census",
    rows=_devices,
    key=attrgetter("bus", "name"),
    columns=(
        *device_labels(),
        DRIVER_MODULE,
        _size(
            "retained_bytes",
            "Bytes of objects that only it and the devices below it lead to, whenever they were "
            "allocated.",
            "retained",
        ),
        _count("retained_objects", "How many objects these are.", "retained objects"),
        _size("bytes", "Bytes of those that no device below it retains."),
        _count("objects", "How many objects these are."),
        label("caches", "Caches that most of its own bytes are in.", title="largest caches"),
    ),
    brief=(
        "bus",
        "name",
        "retained_bytes",
        "bytes",
        "objects",
        "driver",
        "module",
        "caches",
    ),
    sort="retained_bytes",
    links=(
        Link(title="objects", where=OF_DEVICE, view="contents"),
        Link(title="managed", where=OF_DEVICE, view="devices"),
    ),
    note=census_note,
    census=True,
)

CONTENTS = View(
    name="contents",
    title="objects that only a device leads to, by what they are, at the last census",
    rows=_held,
    key=attrgetter("bus", "name", "cache", "type", "module", "signature"),
    columns=(
        label(
            "signature",
            "What the objects are, by what they hold and what points to them.",
            title="what it is",
        ),
        _size("bytes", "Bytes that they occupy."),
        _count("objects", "Objects that only the device leads to, and none below it does."),
        label("cache", "Cache that they are in."),
        label("type", "Struct that they are; none: not known."),
        label("module", "Module they belong to; none: core kernel, or not known."),
        label("certainty", "likely or unknown: how sure it is what they are.", title="sure"),
        *device_labels()[:2],
    ),
    brief=("signature", "bytes", "objects", "cache", "type", "certainty", "bus", "name"),
    sort="bytes",
    links=(
        Link(title="retained", where=OF_DEVICE, view="retained"),
        Link(title="managed", where=OF_DEVICE, view="devices"),
        Link(title="owners", where=(("cache", _CACHE),), view="owners"),
        Link(title="tracked", where=(("name", _CACHE),), view="caches"),
    ),
    note=census_note,
    census=True,
)
