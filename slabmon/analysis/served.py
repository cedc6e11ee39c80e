# SPDX-License-Identifier: Apache-2.0
"""The devices that live memory was allocated for, managed (devres) or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slabmon.analysis.callers import represented
from slabmon.analysis.shares import main_parts, with_shares
from slabmon.base.arrays import F64, I64
from slabmon.model import KnownBy, ServedDevice, Snapshot


class Served(NamedTuple):
    """A device, and the share of a row's live memory that was allocated for it."""

    device: ServedDevice
    share: float


def main_devices(snapshot: Snapshot, members: I64, rows: int) -> list[Served | None]:
    """Return the device that most of each row's live memory is for, of that of which a device is
    known; None where none is. `members` is the row of each object (negative: none)."""
    main, size, total = _main(snapshot, members, rows)
    devices = snapshot.tracked.devices
    shares = np.divide(size, total, out=np.zeros(rows), where=total > 0)
    return [
        None if number < 0 else Served(devices[number], share)
        for number, share in zip(main.tolist(), shares.tolist(), strict=True)
    ]


def device_texts(snapshot: Snapshot, members: I64, rows: int) -> list[str | None]:
    """Return main_devices() as text: bus and name, whether that is only likely, and the share if it
    is not all."""
    labels = {
        number: device.label + (", likely" if device.known_by == KnownBy.STACK else "")
        for number, device in snapshot.tracked.devices.items()
    }
    return with_shares(labels, *_main(snapshot, members, rows))


def _main(snapshot: Snapshot, members: I64, rows: int) -> tuple[I64, F64, F64]:
    """Return the number of each row's device, -1 for none, its live memory, and the row's."""
    tracked = snapshot.tracked
    inside = members >= 0
    known = inside & (tracked.device != 0)
    weight = represented(tracked)
    main, size = main_parts(members[known], tracked.device[known], weight[known], rows)
    return main, size, np.asarray(np.bincount(members[inside], weight[inside], rows), float)
