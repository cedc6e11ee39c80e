# SPDX-License-Identifier: Apache-2.0
"""What changed between two censuses of one boot, with nothing attached in between."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from math import hypot
from typing import Any, TypeVar

from slabmon.base.errors import UsageError
from slabmon.base.parse import show_moment
from slabmon.census.model import (
    Census,
    CensusCache,
    CgroupObjects,
    DeviceObjects,
    HeldObjects,
    OrphanObjects,
    OwnedObjects,
    PageBlocks,
    RetainedObjects,
)

_Row = TypeVar(
    "_Row",
    CensusCache,
    PageBlocks,
    CgroupObjects,
    OwnedObjects,
    OrphanObjects,
    DeviceObjects,
    HeldObjects,
    RetainedObjects,
)
_AMOUNT = ("objects", "bytes")
_RETAINED = ("retained_objects", "retained_bytes")
# The figures of a row that are subtracted.
_COUNTS: Mapping[type, tuple[str, ...]] = {
    CensusCache: (
        *("slabs", "objects", "in_use", "free"),
        *("slab_bytes", "spare_bytes", "empty_slabs"),
    ),
    PageBlocks: _AMOUNT,
    CgroupObjects: ("cgroups", *_AMOUNT),
    OwnedObjects: _AMOUNT,
    OrphanObjects: _AMOUNT,
    HeldObjects: _AMOUNT,
    DeviceObjects: (*_AMOUNT, *_RETAINED),
    RetainedObjects: (*_AMOUNT, *_RETAINED),
}


def diff(before: Census, now: Census) -> Census:
    """Return the later census with differences from the earlier one in place of all counts of
    objects, slabs and bytes, what grew most first. Raises UsageError if the two are not of one
    boot, or not in this order.

    `objects_stderr` is that of the difference; a group that only one of two samples holds counts
    with its error twice. Owners are compared where they were found both times, orphans and what
    devices hold if they were looked for both times: `limits` says if some are left out.
    """
    _check(before, now)
    comparable, incomparable = _caches_with_owners(before, now)
    limits = [*before.limits, *now.limits]
    if incomparable:
        limits.append(
            f"the owners of {len(incomparable)} caches were found in one of two censuses only"
        )
    searched = before.passes > 1 and now.passes > 1
    devices = bool(before.devices and now.devices)
    kinds = [{row.kind for row in census.retained} for census in (before, now)]
    retained = bool(kinds[0]) and kinds[0] == kinds[1]
    if kinds[0] != kinds[1]:
        limits.append("what is retained is not compared: take both censuses with one --retained")
    shares = [census.sampled for census in (before, now) if census.sampled is not False]
    return replace(
        now,
        objects=now.objects - before.objects,
        changed_slabs=before.changed_slabs + now.changed_slabs,
        sampled=min(shares, default=False),
        caches=_changes(before.caches, now.caches, lambda row: row.name, "slab_bytes"),
        page_blocks=_changes(before.page_blocks, now.page_blocks, lambda row: row.order),
        cgroups=_changes(before.cgroups, now.cgroups, lambda row: (row.cgroup, row.state)),
        owners=_changes(
            [row for row in before.owners if row.cache in comparable],
            [row for row in now.owners if row.cache in comparable],
            _owner,
        ),
        orphans=_changes(before.orphans, now.orphans, _owner) if searched else (),
        devices=_changes(
            before.devices, now.devices, lambda row: (row.bus, row.name), "retained_bytes"
        )
        if devices
        else (),
        retained=_changes(
            before.retained, now.retained, lambda row: (row.kind, row.name), "retained_bytes"
        )
        if retained
        else (),
        held=_changes(before.held, now.held, lambda row: (row.bus, row.name, *_owner(row)))
        if devices or retained
        else (),
        limits=tuple(dict.fromkeys(limits)),
    )


def only_changed(change: Census) -> Census:
    """Return a diff() without the rows that are the same."""
    return replace(
        change,
        caches=tuple(filter(_differs, change.caches)),
        page_blocks=tuple(filter(_differs, change.page_blocks)),
        cgroups=tuple(filter(_differs, change.cgroups)),
        owners=tuple(filter(_differs, change.owners)),
        orphans=tuple(filter(_differs, change.orphans)),
        devices=tuple(filter(_differs, change.devices)),
        retained=tuple(filter(_differs, change.retained)),
        held=tuple(filter(_differs, change.held)),
    )


def _check(before: Census, now: Census) -> None:
    if before.host.boot_id != now.host.boot_id:
        raise UsageError(
            f"the census of {show_moment(before.taken)} is of another boot "
            f"({before.host.boot_id}, Linux {before.host.release}) than that of "
            f"{show_moment(now.taken)} ({now.host.boot_id}, Linux {now.host.release}); compare "
            "two of one boot"
        )
    if before.taken >= now.taken:
        raise UsageError(
            f"the census of {show_moment(before.taken)} is not older than that of "
            f"{show_moment(now.taken)}, with which it is compared; take another one"
        )


def _caches_with_owners(before: Census, now: Census) -> tuple[set[str], set[str]]:
    """Return the caches whose owners were found both times, and those of which only once. Of a
    cache without objects there is nothing to find."""
    owned = [{row.cache for row in census.owners} for census in (before, now)]
    filled = [{row.name for row in census.caches if row.in_use} for census in (before, now)]
    missing = (filled[0] - owned[0]) | (filled[1] - owned[1])
    names = owned[0] | owned[1]
    return names - missing, names & missing


def _owner(row: OwnedObjects | OrphanObjects | HeldObjects) -> tuple[Hashable, ...]:
    return row.cache, row.type, row.module, row.signature


def _changes(
    before: Iterable[_Row],
    now: Iterable[_Row],
    key: Callable[[_Row], Hashable],
    order: str = "bytes",
) -> tuple[_Row, ...]:
    """Return the difference of each row, the largest of this field first."""
    earlier = {key(row): row for row in before}
    rows = [_less(row, earlier.pop(key(row), None)) for row in now]
    rows += [_less(row, None, -1) for row in earlier.values()]
    return tuple(sorted(rows, key=lambda row: (-getattr(row, order), str(key(row)))))


def _less(row: _Row, other: _Row | None, sign: int = 1) -> _Row:
    """Return the difference of two rows of one key; None: there is no other, its counts are 0."""
    changes: dict[str, Any] = {
        name: sign * getattr(row, name) - (getattr(other, name) if other else 0)
        for name in _COUNTS[type(row)]
    }
    if isinstance(row, OwnedObjects):
        assert other is None or isinstance(other, OwnedObjects)
        changes["objects_stderr"] = hypot(row.objects_stderr, (other or row).objects_stderr)
    elif isinstance(row, CgroupObjects):
        assert other is None or isinstance(other, CgroupObjects)
        changes["retained_bytes"] = None
        for name in ("by_cache", "objects_by_cache"):
            then = getattr(other, name) if other else {}
            changes[name] = _difference(getattr(row, name), then, sign)
    elif isinstance(row, DeviceObjects | RetainedObjects):
        assert other is None or isinstance(other, DeviceObjects | RetainedObjects)
        then = other.by_cache if other else {}
        changes["by_cache"] = _difference(row.by_cache, then, sign)
    elif isinstance(row, CensusCache):
        assert other is None or isinstance(other, CensusCache)
        then = other.fill if other else (0,) * len(row.fill)
        changes["fill"] = tuple(sign * n - m for n, m in zip(row.fill, then, strict=True))
        changes["nodes"] = ()
    return replace(row, **changes)


def _difference(now: Mapping[str, int], then: Mapping[str, int], sign: int) -> dict[str, int]:
    """Return what changed by name, the largest growth first."""
    sizes = {name: sign * now.get(name, 0) - then.get(name, 0) for name in {*now, *then}}
    changed = ((name, size) for name, size in sizes.items() if size)
    return dict(sorted(changed, key=lambda item: (-item[1], item[0])))


def _differs(row: _Row) -> bool:
    return any(getattr(row, name) for name in _COUNTS[type(row)])
