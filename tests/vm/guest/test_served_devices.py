# SPDX-License-Identifier: Apache-2.0
"""What a driver allocates by plain kmalloc is shown by the device that it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import KnownBy, Snapshot, State
from tests.vm.guest import planted as module
from tests.vm.guest.observed import missed

SETTINGS = Settings(exact=Filter.parse(f"module={module.NAME}"))
DRIVER = Path("/sys/bus/platform/drivers/slabmon_good")
GOOD = ("slabmon_good.0", "slabmon_good.1", "slabmon_good.2")
PROBE_OBJECTS, USED_OBJECTS = 7, 31  # of each device (tests/kmod/platform.c)

Found = Counter[tuple[str, str, str]]


@pytest.fixture(autouse=True)
def loaded() -> Iterator[None]:
    module.load()
    yield
    module.unload()


def served(snapshot: Snapshot) -> Found:
    """Live objects of the module's functions, by function, device and how that is known."""
    tracked, found = snapshot.tracked, Found()
    for site, number in zip(tracked.site.tolist(), tracked.device.tolist(), strict=True):
        device = tracked.devices.get(number)
        symbol = snapshot.sites[site].symbol
        if device is None:
            found[symbol, "", ""] += 1
            continue
        assert (device.bus, device.driver, device.module) == (
            "platform",
            "slabmon_good",
            module.NAME,
        )
        found[symbol, device.name, device.known_by] += 1
    return found


def test_what_a_probe_allocates_is_of_its_device() -> None:
    """All of it: plain memory and managed memory, of the first probe and of a later one."""
    with open_tracker(SETTINGS) as tracker:
        assert tracker.features["driver_probes"].state == State.ON
        before = missed(tracker.snapshot())
        module.run("devices_add")
        module.run("drivers_add")
        (DRIVER / "unbind").write_text(GOOD[1])
        (DRIVER / "bind").write_text(GOOD[1])
        snapshot = tracker.snapshot()
        found = served(snapshot)
        print(f"served: {dict(found)}")
        assert missed(snapshot) == before
        for name in GOOD:
            assert found["planted_probe_kmalloc", name, KnownBy.PROBE] == PROBE_OBJECTS
        assert {symbol for symbol, name, _ in found if not name} == set()
        assert snapshot.losses["driver_probes_lost"] == 0
        module.run("drivers_remove")
        assert not served(tracker.snapshot())


def test_stacks_lead_to_the_one_device_that_is_used() -> None:
    with open_tracker(SETTINGS) as tracker:
        assert tracker.features["stack_devices"].state == State.ON
        before = missed(tracker.snapshot())
        module.run("devices_add")
        module.run("drivers_add")
        tracker.reconcile_devices()
        module.run("device_use")
        assert tracker.snapshot().features["stack_devices"].state == State.ON
        snapshot = tracker.snapshot()
        found = served(snapshot)
        print(f"served: {dict(found)}")
        assert missed(snapshot) == before
        used = {key: count for key, count in found.items() if key[0] == "planted_used_kmalloc"}
        assert used == {("planted_used_kmalloc", GOOD[1], KnownBy.STACK): USED_OBJECTS}
        module.run("devices_remove")
        tracker.reconcile_devices()
        left = {name for symbol, name, _ in served(tracker.snapshot()) if name}
        assert left == set(), "their memory may be something else"


def test_stacks_that_lead_to_several_devices_name_none() -> None:
    with open_tracker(SETTINGS) as tracker:
        module.run("devices_add")
        module.run("drivers_add")
        tracker.reconcile_devices()
        module.run("devices_use")
        tracker.reconcile_devices()
        found = served(tracker.snapshot())
        assert found["planted_used_kmalloc", "", ""] == 3 * USED_OBJECTS
