# SPDX-License-Identifier: Apache-2.0
"""Memory that devices have for DMA: the kernel's table of it, and the rows of devices with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from slabmon.base.arrays import Records
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import CONSTANTS, DMA_DEVICE
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.loading.loader import DMA_DEVICES, Programs
from slabmon.kernel.planning.plan import Plan
from slabmon.model import Device


class DmaTable:
    """DMA memory of each device since one session began."""

    def __init__(self, programs: Programs, plan: Plan) -> None:
        self._programs = programs
        self._used = bool(plan.defines["HAVE_DMA"])

    def added_to(self, devices: Iterable[Device]) -> tuple[Device, ...]:
        """Return these devices with their DMA memory, and those that have no other: all by bus and
        name. A device that is gone keeps the names that it had."""
        if not self._used:
            return tuple(devices)
        rows = {(device.bus, device.name): replace(device, dma_bytes=0) for device in devices}
        for record in self._read():
            identity = DeviceIdentity.of(record)
            row = rows.get(identity.key) or _without_resources(identity)
            rows[identity.key] = _with_counts(row, record)
        return tuple(rows[key] for key in sorted(rows))

    def _read(self) -> Records:
        hashes = np.zeros(CONSTANTS["DMA_DEVICES"], "<u8")
        records = np.zeros(len(hashes), DMA_DEVICE)
        return records[: maps.read_hash(self._programs.maps[DMA_DEVICES], hashes, records)]


def _with_counts(device: Device, record: np.void) -> Device:
    """Return a device with what a record of DMA_DEVICE says of it."""
    allocated = int(record["bytes"])
    return replace(
        device,
        dma_bytes=max(0, allocated - int(record["freed_bytes"])),
        dma_allocs=int(record["allocs"]),
        dma_frees=int(record["frees"]),
        dma_failed=int(record["failed"]),
        dma_allocated_bytes=allocated,
        dma_earlier_frees=int(record["earlier_frees"]),
        dma_earlier_bytes=int(record["earlier_bytes"]),
    )


def _without_resources(identity: DeviceIdentity) -> Device:
    return Device(
        **identity._asdict(),
        resources=0,
        managed_bytes=0,
        slab_bytes=0,
        added=0,
        removed=0,
        by_release=(),
    )
