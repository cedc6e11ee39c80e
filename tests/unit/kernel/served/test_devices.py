# SPDX-License-Identifier: Apache-2.0
"""The device of each tracked object: of the probe that it was allocated in, else of its stack."""

from __future__ import annotations

import numpy as np

from slabmon.kernel.bpf.layout import SAMPLE
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.served.devices import served_devices
from slabmon.model import CONTEXTS, Context, KnownBy

DISK = DeviceIdentity("block", "vda", None, None)
CARD = DeviceIdentity("pci", "0000:01:00.0", "nvme", "nvme")
TASK, SOFTIRQ, UNKNOWN = (
    CONTEXTS.index(each) for each in (Context.TASK, Context.SOFTIRQ, Context.UNKNOWN)
)


def served(
    rows: list[tuple[int, int, int]],
    probed: dict[int, DeviceIdentity],
    led_to: dict[int, DeviceIdentity],
) -> list[tuple[str, str] | None]:
    """Return name and evidence for objects of these probes, stacks and contexts."""
    samples = np.zeros(len(rows), SAMPLE)
    samples["probe"], samples["stack"] = ([row[i] for row in rows] for i in (0, 1))
    contexts = np.array([row[2] for row in rows], np.uint8)
    column, devices = served_devices(samples, contexts, probed, led_to)
    assert set(devices) == set(column.tolist()) - {0}
    return [
        (devices[number].name, devices[number].known_by) if number else None
        for number in column.tolist()
    ]


def test_probes_come_before_stacks() -> None:
    rows = [(1, 5, TASK), (0, 5, TASK), (0, 6, TASK), (2, 6, UNKNOWN)]
    assert served(rows, {1: CARD, 2: CARD}, {5: DISK}) == [
        (CARD.name, KnownBy.PROBE),
        (DISK.name, KnownBy.STACK),
        None,
        (CARD.name, KnownBy.PROBE),
    ]


def test_an_interrupt_during_a_probe_is_not_of_it() -> None:
    rows = [(1, 5, SOFTIRQ), (1, 6, SOFTIRQ)]
    assert served(rows, {1: CARD}, {6: DISK}) == [None, (DISK.name, KnownBy.STACK)]


def test_two_probes_of_one_device_are_one_device() -> None:
    samples = np.zeros(3, SAMPLE)
    samples["probe"] = (1, 2, 3)
    contexts = np.full(3, TASK, np.uint8)
    column, devices = served_devices(samples, contexts, {1: CARD, 2: CARD}, {})
    assert (column.tolist(), len(devices)) == ([1, 1, 0], 1)
