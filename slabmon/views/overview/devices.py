# SPDX-License-Identifier: Apache-2.0
"""Rows of the overview about devices whose managed memory grows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slabmon.views.devices import DEVICES
from slabmon.views.overview.facts import Facts, OverviewRow

_MOST = 2
# Managed memory is small: a driver that leaks it at each interrupt or request loses KiBs a second.
LEAST_BYTES = 64 << 10


def device_rows(facts: Facts) -> Iterator[OverviewRow]:
    """Yield the devices whose managed memory grew most, if it grew steadily: it is freed only when
    the driver is unbound."""
    trail = facts.window.trails.get(DEVICES.name)
    listing = facts.window.now.listing(DEVICES)
    if trail is None or not trail.points or not listing.rows:
        return
    grown = listing.values(DEVICES.figure) - trail.at(0, listing.keys)
    for number in np.argsort(-grown, kind="stable")[:_MOST].tolist():
        rise = facts.rise(DEVICES, [listing.keys[number]], LEAST_BYTES)
        if rise is None or not rise.steady:
            continue
        device = listing.rows[number]
        driver = device.driver or "no driver"
        module = f" [{device.module}]" if device.module else ""
        pace = facts.pace_text(rise)
        yield OverviewRow(
            key=("device", f"{device.bus} {device.name}"),
            what=f"{device.bus}:{device.name}",
            state=facts.pace(rise),
            bytes=device.managed_bytes,
            total_bytes=facts.total or None,
            growth=rise.per_hour,
            finding=f"{pace} of managed memory, {device.resources:,} resources; driver: "
            f"{driver}{module}",
            bus=device.bus,
            device=device.name,
            details=("device", "resources"),
        )
