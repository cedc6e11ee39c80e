# SPDX-License-Identifier: Apache-2.0
"""The devices that tracked objects were allocated for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slabmon.base.arrays import U8, U32, Records, distinct
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.model import CONTEXTS, Context, KnownBy, ServedDevice

_TASK = CONTEXTS.index(Context.TASK)  # interrupts have higher numbers


def served_devices(
    samples: Records,
    contexts: U8,
    probed: Mapping[int, DeviceIdentity],
    led_to: Mapping[int, DeviceIdentity],
) -> tuple[U32, dict[int, ServedDevice]]:
    """Return the device of each object, 0 where none is known, and the devices by number.

    `probed` are the devices of drivers' probes by number, which objects are of that their tasks
    allocated meanwhile, but not those of interrupts. `led_to` are those that stacks lead to by
    stack id, of the other objects.
    """
    numbers: dict[ServedDevice, int] = {}
    column = np.zeros(len(samples), np.uint32)
    probes, stacks = samples["probe"], samples["stack"]
    for known_by, devices, keys, free in (
        (KnownBy.PROBE, probed, probes, contexts <= _TASK),
        (KnownBy.STACK, led_to, stacks, None),
    ):
        free = column == 0 if free is None else free
        values = distinct(keys[free])
        of_value = np.zeros(len(values), np.uint32)
        for i, key in enumerate(values.tolist()):
            if key in devices:
                device = ServedDevice(**devices[key]._asdict(), known_by=known_by)
                of_value[i] = numbers.setdefault(device, len(numbers) + 1)
        column[free] = of_value[np.searchsorted(values, keys[free])]
    return column, {number: device for device, number in numbers.items()}
