# SPDX-License-Identifier: Apache-2.0
"""DMA memory, counted by the programs in the running kernel: they are run with events of real
devices, at addresses that nobody has. Drivers allocate in tests/vm/guest/test_dma.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slabmon.kernel.bpf import syscall
from slabmon.kernel.devres.walker import Placed
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.tracker import Tracker
from slabmon.model import Device, State

pytestmark = pytest.mark.live

UNUSED = 0xFFFF_0000_0000_0000  # not canonical: no memory is there
CALLS = {"coherent": ("", 3), "pages": ("_pages", 3), "scattered": ("_sgt", 2)}
SIZES = {"coherent": 5003, "pages": 9001, "scattered": 70001}


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with open_tracker(Settings(samples=4096, when=When.OFF)) as tracker:
        if tracker.features["dma_pages"].state != State.ON:
            pytest.skip(tracker.features["dma_pages"].reason)
        yield tracker


def placed(tracker: Tracker) -> list[Placed]:
    """Registered devices of this host, with and without a driver."""
    assert tracker.ledger is not None
    devices = sorted(tracker.ledger.placed(), key=lambda device: device.identity.driver is None)
    keys = [device.identity.key for device in devices]
    unique = [device for device in devices if keys.count(device.identity.key) == 1]
    assert unique[0].identity.driver
    return [unique[0], unique[-1]]


def event(tracker: Tracker, kind: str, name: str, device: Placed, number: int) -> None:
    """Run the program of one allocation or free; `number` says which piece of memory it is."""
    suffix, place = CALLS[kind]
    arguments = [device.address, UNUSED + (number << 12), 0, 0, 0, 0]
    arguments[place] = SIZES[kind]
    syscall.run(tracker.programs.programs[f"on_dma_{name}{suffix}"], *arguments)


def rows(tracker: Tracker) -> dict[tuple[str, str], Device]:
    snapshot = tracker.snapshot()
    assert not [name for name, lost in snapshot.losses.items() if lost and "dma" in name]
    return {(device.bus, device.name): device for device in snapshot.devices}


def test_events_of_real_devices_are_counted(tracker: Tracker) -> None:
    one, two = placed(tracker)
    number = 0
    expected = {one.identity.key: 0, two.identity.key: 0}
    for kind in CALLS:
        for device, allocs, frees in ((one, 101, 31), (two, 13, 7)):
            for i in range(allocs):
                event(tracker, kind, "alloc", device, number + i)
            for i in range(frees):
                event(tracker, kind, "free", device, number + i)
            number += allocs
            expected[device.identity.key] += (allocs - frees) * SIZES[kind]
    found = rows(tracker)
    for device, allocs, frees in ((one, 303, 93), (two, 39, 21)):
        row = found[device.identity.key]
        assert row.dma_bytes == expected[device.identity.key]
        assert (row.dma_allocs, row.dma_frees, row.dma_earlier_frees) == (allocs, frees, 0)
        assert (row.driver, row.module) == (device.identity.driver, device.identity.module)


def test_memory_from_before_is_counted_apart(tracker: Tracker) -> None:
    device, _ = placed(tracker)
    event(tracker, "coherent", "alloc", device, 1)
    for number in range(2, 9):
        event(tracker, "coherent", "free", device, number)
    row = rows(tracker)[device.identity.key]
    assert (row.dma_bytes, row.dma_allocs, row.dma_frees) == (5003, 1, 0)
    assert (row.dma_earlier_frees, row.dma_earlier_bytes) == (7, 7 * 5003)
