# SPDX-License-Identifier: Apache-2.0
"""Functions that make the rows of views, where they are not simply a part of the snapshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # importing them takes a tenth of a second, too long for the command line
    from slabmon.analysis.grouping import Groups
    from slabmon.leaks.finding import Assessment, Finding
    from slabmon.model import Device, FeatureState, Release, Snapshot


class ResourceRow(NamedTuple):
    """Resources of one device with one release function."""

    device: Device
    release: Release


class HoldingRow(NamedTuple):
    """Bytes that one device's managed resources occupy in one cache."""

    device: Device
    cache: str
    bytes: int


class LossRow(NamedTuple):
    """Lost events by reason."""

    reason: str
    lost: int


class FeatureRow(NamedTuple):
    """One capability of this host."""

    name: str
    feature: FeatureState


def verdicts(assessment: Assessment | None) -> list[Finding]:
    """Return what exhausts memory, then suspected leaks, then dismissed growth."""
    if not assessment:
        return []
    return [*assessment.exhausting, *assessment.verdicts, *assessment.dismissed]


def caches(snapshot: Snapshot) -> Groups:
    """Return all caches and their tracked objects."""
    from slabmon.analysis.grouping import Groups

    return Groups(snapshot.caches, snapshot.tracked.cache)


def families(snapshot: Snapshot) -> Groups:
    """See analysis.families."""
    from slabmon.analysis.families import families

    return families(snapshot)


def sites(snapshot: Snapshot) -> Groups:
    """Return all call sites and their tracked objects."""
    from slabmon.analysis.grouping import Groups

    return Groups(snapshot.sites, snapshot.tracked.site)


def drivers(snapshot: Snapshot) -> Groups:
    """See analysis.drivers."""
    from slabmon.analysis.drivers import drivers

    return drivers(snapshot)


def grouped(
    by: tuple[str, ...], where: tuple[tuple[str, str], ...] = ()
) -> Callable[[Snapshot], Groups]:
    """Return a function for live estimates by dimensions, see analysis.grouping."""

    def rows(snapshot: Snapshot) -> Groups:
        from slabmon.analysis.grouping import groups

        return groups(snapshot, by, where)

    return rows


def resources(snapshot: Snapshot) -> list[ResourceRow]:
    """Return managed resources by device and release function."""
    return [
        ResourceRow(device, release) for device in snapshot.devices for release in device.by_release
    ]


def holdings(snapshot: Snapshot) -> list[HoldingRow]:
    """Return slab memory behind managed resources by device and cache."""
    return [
        HoldingRow(device, *held)
        for device in snapshot.devices
        for held in device.slab_by_cache.items()
    ]


def losses(snapshot: Snapshot) -> list[LossRow]:
    """Return losses by reason."""
    return [LossRow(*item) for item in snapshot.losses.items()]


def features(snapshot: Snapshot) -> list[FeatureRow]:
    """Return features by name."""
    return [FeatureRow(*item) for item in snapshot.features.items()]
