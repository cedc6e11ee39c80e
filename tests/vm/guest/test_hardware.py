# SPDX-License-Identifier: Apache-2.0
"""Drivers of real devices: the ledger equals the module's locked walk, in any order of binding."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import run

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Device
from tests.vm.guest import planted as module
from tests.vm.guest.observed import assert_ledger_is_the_modules_walk

# The harness' device and the driver that manages its resources, as sysfs calls it.
PCI_DRIVERS = {
    "ahci": "ahci",
    "xhci": "xhci_hcd",
    "nvme": "nvme",
    "e1000e": "e1000e",
    "sound": "snd_hda_intel",
    "sdhci": "sdhci-pci",
    "watchdog": "i6300ESB timer",
}
GPIO_SIM = Path("/sys/kernel/config/gpio-sim")
QUIET_TRIES = 20


@contextmanager
def gpio_sim() -> Iterator[None]:
    """A simulated GPIO chip of 13 lines, where the kernel has the driver (7.3; not in 6.12)."""
    if run(["modprobe", "-q", "gpio-sim"], check=False).returncode:
        yield
        return
    chip = GPIO_SIM / "planted"
    bank = chip / "bank"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text("13")
    (chip / "live").write_text("1")
    yield
    (chip / "live").write_text("0")
    bank.rmdir()
    chip.rmdir()


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    """Opened when all devices are bound already, and the planted module is there to walk."""
    with ExitStack() as stack:
        stack.enter_context(gpio_sim())
        module.load()
        stack.callback(module.unload)
        yield stack.enter_context(open_tracker(Settings()))


def find(name: str) -> tuple[Path, str]:
    """A driver's directory and a device that it drives; skips where the kernel lacks the driver."""
    if name == "gpio-sim":
        driver, pattern = Path("/sys/bus/platform/drivers/gpio-sim"), "gpio-sim.*"
        if not driver.exists():
            pytest.skip("this kernel is built without gpio-sim")
    else:
        driver, pattern = Path("/sys/bus/pci/drivers") / PCI_DRIVERS[name], "0000:*"
        if os.uname().machine != "x86_64" and not driver.exists():
            pytest.skip(f"this kernel is built without {driver.name}")
    found = sorted(path.name for path in driver.glob(pattern))
    assert found, f"nothing is bound to {driver.name}: start the guest with --devices all"
    return driver, found[0]


def row(tracker: Tracker, bus: str, name: str) -> Device | None:
    return next((d for d in tracker.snapshot().devices if (d.bus, d.name) == (bus, name)), None)


def assert_ledger_is_the_walk(tracker: Tracker) -> int:
    """Compares at a moment when drivers are quiet: they continue to work after a probe.
    Returns how many resources the machine has."""
    for _ in range(QUIET_TRIES):
        walked = module.walk()
        snapshot = tracker.snapshot()
        if Counter(walked) == Counter(module.walk()):
            assert_ledger_is_the_modules_walk(snapshot, walked)
            return len(walked)
    raise AssertionError("the machine's devices never come to rest")


def test_devices_bound_before_tracking_are_complete(
    tracker: Tracker, record_property: Callable[[str, object], None]
) -> None:
    record_property("resources", assert_ledger_is_the_walk(tracker))
    snapshot = tracker.snapshot()
    assert all(device.added == device.removed == 0 for device in snapshot.devices)
    record_property("devices", len(snapshot.devices))


@pytest.mark.parametrize("name", [*PCI_DRIVERS, "gpio-sim"])
def test_unbind_and_rebind(
    tracker: Tracker, name: str, record_property: Callable[[str, object], None]
) -> None:
    """After each step the ledger is the walk, and what came less what went is what is there."""
    driver, device = find(name)
    bus = driver.parent.parent.name
    if not any((node.bus, node.device) == (bus, device) for node in module.walk()):
        pytest.skip(f"{driver.name} has no managed resources in this kernel")
    bound = row(tracker, bus, device)
    assert bound is not None
    assert bound.driver == driver.name
    record_property("resources", bound.resources)
    record_property("managed_bytes", bound.managed_bytes)

    (driver / "unbind").write_text(device)
    assert_ledger_is_the_walk(tracker)
    unbound = row(tracker, bus, device)
    (driver / "bind").write_text(device)
    assert_ledger_is_the_walk(tracker)
    again = row(tracker, bus, device)

    assert again is not None
    assert again.driver == driver.name
    assert again.by_release == bound.by_release
    if tracker.features["devres_log"].state == "on":
        assert unbound is not None
        for then, now in ((bound, unbound), (unbound, again)):
            added, removed = now.added - then.added, now.removed - then.removed
            assert now.resources - then.resources == added - removed
        assert unbound.removed - bound.removed >= bound.resources


def test_events_and_walk_agree_after_all_this(tracker: Tracker) -> None:
    """The ledger was kept by events alone; a new walk finds nothing else."""
    tracker.reconcile_devices()
    losses = tracker.snapshot().losses
    assert losses["device_ledger_disagreement"] == 0
    assert losses["device_walk_failed"] == 0
