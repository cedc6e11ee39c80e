# SPDX-License-Identifier: Apache-2.0
"""From a snapshot to the rows of a view: those that are not simply a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # importing them costs a tenth of a second, which the command line has not
    from slabmon.analysis.grouping import Groups
    from slabmon.leaks.finding import Assessment, Finding
    from slabmon.model import Device, FeatureState, Release, Snapshot


class ResourceRow(NamedTuple):
    """What one release function holds of one device."""

    device: Device
    release: Release


class HoldingRow(NamedTuple):
    """What one device's managed resources occupy in one cache."""

    device: Device
    cache: str
    bytes: int


class LossRow(NamedTuple):
    """Events of one kind that were missed."""

    reason: str
    lost: int


class FeatureRow(NamedTuple):
    """One capability on this host."""

    name: str
    feature: FeatureState


def verdicts(assessment: Assessment | None) -> list[Finding]:
    """Suspected leaks, then growth that is none."""
    return [*assessment.verdicts, *assessment.dismissed] if assessment else []


def caches(snapshot: Snapshot) -> Groups:
    """All caches and their tracked objects."""
    from slabmon.analysis.grouping import Groups

    return Groups(snapshot.caches, snapshot.tracked.cache)


def sites(snapshot: Snapshot) -> Groups:
    """All call sites and their tracked objects."""
    from slabmon.analysis.grouping import Groups

    return Groups(snapshot.sites, snapshot.tracked.site)


def drivers(snapshot: Snapshot) -> Groups:
    """See analysis.owners."""
    from slabmon.analysis.drivers import drivers

    return drivers(snapshot)


def grouped(
    by: tuple[str, ...], where: tuple[tuple[str, str], ...] = ()
) -> Callable[[Snapshot], Groups]:
    """Live estimates by dimensions, see analysis.grouping."""

    def rows(snapshot: Snapshot) -> Groups:
        from slabmon.analysis.grouping import groups

        return groups(snapshot, by, where)

    return rows


def resources(snapshot: Snapshot) -> list[ResourceRow]:
    """Managed resources by device and release function."""
    return [
        ResourceRow(device, release) for device in snapshot.devices for release in device.by_release
    ]


def holdings(snapshot: Snapshot) -> list[HoldingRow]:
    """Slab memory behind managed resources by device and cache."""
    return [
        HoldingRow(device, *held)
        for device in snapshot.devices
        for held in device.slab_by_cache.items()
    ]


def losses(snapshot: Snapshot) -> list[LossRow]:
    """Losses by reason."""
    return [LossRow(*item) for item in snapshot.losses.items()]


def features(snapshot: Snapshot) -> list[FeatureRow]:
    """Features by name."""
    return [FeatureRow(*item) for item in snapshot.features.items()]
