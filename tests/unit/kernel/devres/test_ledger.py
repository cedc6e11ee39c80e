# SPDX-License-Identifier: Apache-2.0
"""The device ledger, fed with events and a fake walker."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from slabmon.kernel.devres.ledger import Ledger
from slabmon.kernel.devres.walker import DeviceIdentity, Node, Walker, WalkError
from slabmon.model import Device, Release
from tests.support.records import devres_event

DEVICE, OTHER_DEVICE = 0xD000, 0xE000


def names(device: int = DEVICE) -> DeviceIdentity:
    return DeviceIdentity("platform", f"dev{device:x}", "driver", "module")


def node(size: int = 24, device: int = DEVICE, release: str = "devm_kzalloc_release") -> Node:
    return Node(device, release, size, 64, 0xCA00)


class FakeWalker:
    """What the kernel holds; each walk() takes it in whole, or fails."""

    def __init__(self) -> None:
        self.devices: dict[int, DeviceIdentity] = {
            DEVICE: names(),
            OTHER_DEVICE: names(OTHER_DEVICE),
        }
        self.nodes: dict[int, Node] = {}
        self.broken = False
        self.walks = 0

    def walk(self) -> tuple[dict[int, DeviceIdentity], dict[int, Node]]:
        self.walks += 1
        if self.broken:
            raise WalkError("broken")
        return dict(self.devices), dict(self.nodes)


def quiet() -> int:
    return 0


@pytest.fixture
def walker() -> FakeWalker:
    return FakeWalker()


def open_ledger(walker: FakeWalker, has_events: bool = True) -> Ledger:
    result = Ledger(cast(Walker, walker), has_events)
    result.reconcile(quiet)
    return result


@pytest.fixture
def ledger(walker: FakeWalker) -> Ledger:
    """A ledger after its first walk of an empty machine."""
    return open_ledger(walker)


def rows(ledger: Ledger) -> dict[str, Device]:
    return {row.name: row for row in ledger.devices(lambda key: f"cache-{key:x}")}


def test_what_was_there_before_the_start_is_in_the_ledger(walker: FakeWalker) -> None:
    walker.nodes = {1: node(100), 2: node(28), 3: node(8, OTHER_DEVICE, "pcim_release")}
    found = rows(open_ledger(walker))
    assert found["devd000"] == Device(
        "platform",
        "devd000",
        "driver",
        "module",
        resources=2,
        managed_bytes=128,
        slab_bytes=128,
        added=0,
        removed=0,
        by_release=(Release("devm_kzalloc_release", 2, 128),),
        slab_by_cache={"cache-ca00": 128},
    )
    assert found["deve000"].by_release == (Release("pcim_release", 1, 8),)


def test_a_device_without_resources_is_not_listed(ledger: Ledger) -> None:
    assert rows(ledger) == {}
    assert [device.name for device in ledger.registered()] == ["devd000", "deve000"]


def test_add_and_remove_count_and_move_the_sums(ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1, bytes=100))
    ledger.apply(devres_event(b"ADD", 2, bytes=28))
    ledger.apply(devres_event(b"REM", 1))
    row = rows(ledger)["devd000"]
    assert (row.resources, row.managed_bytes, row.added, row.removed) == (1, 28, 2, 1)
    ledger.apply(devres_event(b"REL", 2))
    row = rows(ledger)["devd000"]
    assert (row.resources, row.managed_bytes, row.added, row.removed) == (0, 0, 2, 2)
    assert row.slab_bytes == 0


def test_names_come_from_the_latest_event(ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1, driver=b"", module=b""))
    assert rows(ledger)["devd000"].driver is None
    ledger.apply(devres_event(b"ADD", 2, driver=b"bound", module=b"mod"))
    row = rows(ledger)["devd000"]
    assert (row.driver, row.module, row.resources) == ("bound", "mod", 2)


def test_unknown_slab_memory_is_none_and_not_zero(ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1, cache=0, node_bytes=0))
    assert rows(ledger)["devd000"].slab_bytes is None


def test_replace_drops_the_old_node_and_asks_for_a_walk(walker: FakeWalker, ledger: Ledger) -> None:
    """devm_krealloc that grows: the new node has no event of its own."""
    ledger.apply(devres_event(b"ADD", 1, bytes=24))
    ledger.apply(devres_event(b"REPLACE", 1))
    walker.nodes = {2: node(200)}
    ledger.refresh(quiet)
    row = rows(ledger)["devd000"]
    assert (row.resources, row.managed_bytes) == (1, 200)
    assert ledger.disagreements == 0
    assert walker.walks == 2


def test_removing_a_node_never_seen_asks_for_a_walk(walker: FakeWalker, ledger: Ledger) -> None:
    ledger.apply(devres_event(b"REM", 77))
    ledger.refresh(quiet)
    assert walker.walks == 2
    assert rows(ledger)["devd000"].removed == 1


@pytest.mark.parametrize("object_bytes", [64, 0], ids=["known object", "object not known"])
def test_the_end_of_a_group_goes_with_its_beginning(ledger: Ledger, object_bytes: int) -> None:
    group, others = 0x1000, (0x1028, 0x1030, 0x1000 + 64 + 0x28, 0xFF0)
    begin: dict[str, Any] = {"release": b"grp<", "bytes": 0, "node_bytes": object_bytes}
    end: dict[str, Any] = {"release": b"grp>", "bytes": 0, "node_bytes": 0}
    ledger.apply(devres_event(b"ADD", group, **begin))
    ledger.apply(devres_event(b"ADD", others[0], **end))
    ledger.apply(devres_event(b"ADD", others[2], **end))  # of the group in the next object
    ledger.apply(devres_event(b"ADD", others[3], **end))
    ledger.apply(devres_event(b"ADD", others[1], bytes=7))
    ledger.apply(devres_event(b"ADD", 0x1029, OTHER_DEVICE, **end))
    ledger.apply(devres_event(b"REL", group))
    row = rows(ledger)["devd000"]
    assert row.by_release == (Release("devm_kzalloc_release", 1, 7), Release("grp>", 2, 0))
    assert row.resources == row.added - row.removed
    assert rows(ledger)["deve000"].resources == 1


def test_a_group_that_was_left_open_has_no_end_to_take_along(ledger: Ledger) -> None:
    begin: dict[str, Any] = {"release": b"grp<", "bytes": 0}
    ledger.apply(devres_event(b"ADD", 0x1000, **begin))
    ledger.apply(devres_event(b"ADD", 0x1040, **begin))
    ledger.apply(devres_event(b"ADD", 0x1068, release=b"grp>", bytes=0))
    ledger.apply(devres_event(b"REL", 0x1000))
    assert rows(ledger)["devd000"].resources == 2


def test_a_walk_that_agrees_changes_nothing(walker: FakeWalker, ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    walker.nodes = {1: node()}
    before = rows(ledger)
    ledger.reconcile(quiet)
    assert rows(ledger) == before
    assert ledger.disagreements == 0


@pytest.mark.parametrize(
    ("there", "differences"),
    [
        ({}, 1),
        ({1: node(25)}, 1),
        ({1: node(release="other_release")}, 1),
        ({1: node(device=OTHER_DEVICE)}, 1),
        ({1: node(), 2: node()}, 1),
        ({2: node(), 3: node()}, 3),
    ],
)
def test_each_node_that_differs_from_the_walk_is_counted(
    walker: FakeWalker, ledger: Ledger, there: dict[int, Node], differences: int
) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    walker.nodes = there
    ledger.reconcile(quiet)
    assert ledger.disagreements == differences
    assert sum(row.resources for row in rows(ledger).values()) == len(there), "the walk holds"


def test_after_lost_events_the_walk_holds_without_a_disagreement(
    walker: FakeWalker, ledger: Ledger
) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    ledger.mark_stale()
    walker.nodes = {2: node(5), 3: node(6)}
    ledger.refresh(quiet)
    assert ledger.disagreements == 0
    assert rows(ledger)["devd000"].managed_bytes == 11


def test_a_node_added_twice_is_a_disagreement(ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    ledger.apply(devres_event(b"ADD", 1))
    assert ledger.disagreements == 1
    assert rows(ledger)["devd000"].resources == 1


def test_a_current_ledger_is_not_walked_again(walker: FakeWalker, ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    ledger.refresh(quiet)
    assert walker.walks == 1


def test_without_events_every_reading_is_a_walk(walker: FakeWalker) -> None:
    ledger = open_ledger(walker, has_events=False)
    walker.nodes = {1: node(10)}
    ledger.refresh(quiet)
    assert rows(ledger)["devd000"].managed_bytes == 10
    assert (walker.walks, ledger.disagreements) == (2, 0)


def test_a_walk_disturbed_by_events_is_done_again(walker: FakeWalker, ledger: Ledger) -> None:
    pending: list[np.void] = []

    def drain() -> int:
        count = len(pending)
        for event in pending:
            ledger.apply(event)
        pending.clear()
        return count

    real = walker.walk

    def walk() -> tuple[dict[int, DeviceIdentity], dict[int, Node]]:
        found = real()
        if walker.walks == 2:  # arrives while the lists are read
            walker.nodes[1] = node()
            pending.append(devres_event(b"ADD", 1))
        return found

    walker.walk = walk  # type: ignore[method-assign]
    ledger.reconcile(drain)
    assert walker.walks == 3
    assert ledger.disagreements == 0
    assert rows(ledger)["devd000"].resources == 1


def test_a_machine_that_never_rests_leaves_the_ledger_to_its_events(
    walker: FakeWalker, ledger: Ledger
) -> None:
    def busy() -> int:
        return 1

    ledger.apply(devres_event(b"ADD", 1))
    ledger.reconcile(busy)
    assert rows(ledger)["devd000"].resources == 1
    assert 1 < walker.walks < 50, "gives up, and tries more than once"


def test_a_failed_walk_is_counted_and_keeps_the_ledger(walker: FakeWalker, ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1))
    ledger.mark_stale()
    walker.broken = True
    ledger.refresh(quiet)
    assert (ledger.failed_walks, ledger.problem) == (1, "broken")
    assert rows(ledger)["devd000"].resources == 1
    walker.broken = False
    ledger.refresh(quiet)
    assert ledger.problem == ""
    assert rows(ledger)["devd000"].resources == 0, "still stale, so the next walk holds"
    assert ledger.disagreements == 0


def test_counts_go_on_over_a_restart(walker: FakeWalker, ledger: Ledger) -> None:
    ledger.apply(devres_event(b"ADD", 1, bytes=100))
    ledger.apply(devres_event(b"ADD", 2, bytes=28))
    ledger.apply(devres_event(b"REM", 1))
    restarted = Ledger(cast(Walker, walker), True)
    restarted.restore(ledger.state())
    restarted.apply(devres_event(b"REM", 2))  # happened while no daemon ran
    walker.nodes = {3: node(8)}
    restarted.reconcile(quiet)
    row = rows(restarted)["devd000"]
    assert (row.resources, row.managed_bytes, row.added, row.removed) == (1, 8, 2, 2)
    assert restarted.disagreements == 0
