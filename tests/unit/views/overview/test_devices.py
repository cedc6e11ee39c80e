# SPDX-License-Identifier: Apache-2.0
"""Devices in the overview: those whose managed memory grows."""

from __future__ import annotations

from dataclasses import replace

from slabmon.model import Snapshot
from slabmon.views.overview.rows import rows
from tests.support.builders import device
from tests.support.conditions import MIB, healthy
from tests.unit.views.overview.test_rows import named, watched

KIB = 1 << 10


def holding(seconds: float, *sizes: float) -> Snapshot:
    devices = [
        device(name=f"0000:00:0{i}.0", managed_bytes=round(size), resources=round(size) >> 6)
        for i, size in enumerate(sizes)
    ]
    return replace(healthy(seconds), devices=tuple(devices))


def test_steady_growth_of_managed_memory_is_shown_with_its_driver() -> None:
    window = watched(lambda s: holding(s, 4 * MIB, 8 * KIB + KIB * s))
    found = named(window)
    row = found["pci:0000:00:01.0"]
    assert (row.bytes, row.growth) == (8 * KIB + 180 * KIB, 3600 * KIB)
    assert row.finding.startswith("+3.5 MiB/h of managed memory, 3,008 resources; driver: ")
    assert row.state == "ok", "it takes years to use up memory"
    assert (row.bus, row.device) == ("pci", "0000:00:01.0")
    assert row.details == ("device", "resources")
    assert "pci:0000:00:00.0" not in found


def test_growth_that_uses_up_memory_soon_is_a_warning() -> None:
    window = watched(lambda s: holding(s, 4 * MIB * s))
    assert named(window)["pci:0000:00:00.0"].state == "warn"


def test_a_device_that_was_added_or_bound_once_does_not_grow() -> None:
    window = watched(lambda s: holding(s, 8 * MIB * (s > 100)))
    assert not [row for row in rows(window) if row.key[0] == "device"]


def test_those_that_grow_most_are_shown() -> None:
    window = watched(lambda s: holding(s, *(KIB * s * (i + 1) for i in range(5))))
    shown = [row.device for row in rows(window) if row.key[0] == "device"]
    assert shown == ["0000:00:04.0", "0000:00:03.0"]
