# SPDX-License-Identifier: Apache-2.0
"""Memory by module or built-in driver: its call sites and its devices together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slabmon.analysis.grouping import Groups
from slabmon.analysis.sampling import Grouped, bounded
from slabmon.model import Live, Snapshot

_COUNTERS = ("allocs", "failed", "requested_bytes", "allocated_bytes")


@dataclass
class Driver:
    """One module or built-in driver: the allocations of its call sites and the holdings of its
    devices.

    Built-in drivers, file systems and subsystems have no module: their call sites are those of
    functions with their prefix (Site.component). The rest of the kernel has a row of its own.
    `slab_bytes` is None unless it is known for every device, `dma_bytes` if it is for none.
    """

    built_in: bool
    name: str
    drivers: list[str] = field(default_factory=list)
    devices: int = 0
    resources: int = 0
    managed_bytes: int = 0
    slab_bytes: int | None = 0
    dma_bytes: int | None = None
    sites: int = 0
    allocs: int = 0
    failed: int = 0
    requested_bytes: int = 0
    allocated_bytes: int = 0
    live: Live = field(default_factory=Live)

    @property
    def key(self) -> tuple[bool, str]:
        """Identifies the row: a module and a built-in driver can have the same name."""
        return self.built_in, self.name

    @property
    def driver(self) -> str:
        """Names of its device drivers, comma-separated."""
        return ", ".join(sorted(self.drivers))


def drivers(snapshot: Snapshot) -> Groups:
    """Return one row per module and built-in component, and those for the rest of the core kernel
    and for devices without a driver."""
    rows: dict[tuple[bool, str], Driver] = {}
    for device in snapshot.devices:
        owner = rows.setdefault(device.owner, Driver(*device.owner))
        if device.driver and device.driver not in owner.drivers:
            owner.drivers.append(device.driver)
        owner.devices += 1
        owner.resources += device.resources
        owner.managed_bytes += device.managed_bytes
        if device.dma_bytes is not None:
            owner.dma_bytes = (owner.dma_bytes or 0) + device.dma_bytes
        if device.slab_bytes is None or owner.slab_bytes is None:
            owner.slab_bytes = None
        else:
            owner.slab_bytes += device.slab_bytes
    owners = [site.owner for site in snapshot.sites]
    for key in set(owners):
        rows.setdefault(key, Driver(*key))
    number = {key: i for i, key in enumerate(rows)}
    row_of_site = np.array([number[key] for key in owners], int)
    for name in ("sites", *_COUNTERS):
        counts = [getattr(s, name) for s in snapshot.sites] if name in _COUNTERS else None
        for owner, total in zip(
            rows.values(), np.bincount(row_of_site, counts, len(rows)).tolist(), strict=True
        ):
            setattr(owner, name, int(total))
    tracked, interval = snapshot.tracked, snapshot.tracking.sample_bytes
    members = row_of_site[tracked.site]
    live = Grouped(tracked.bytes, tracked.interval, interval).by(members, len(rows))
    for owner, estimate in zip(rows.values(), live, strict=True):
        sampled = estimate if estimate.objects else None
        owner.live = bounded(sampled, interval, owner.allocated_bytes)
    return Groups(list(rows.values()), members)
