# SPDX-License-Identifier: Apache-2.0
"""Which memory leads to which device."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.kernel.devres.walker import DeviceIdentity, Placed
from slabmon.kernel.served.containers import NONE, Containers

BASE = 0xFFFF888100000000
SIZES = {"device": 744, "net_device": 2048, "block_device": 976}
OFFSETS = {"OFF_NET_DEVICE_DEV": 1216, "OFF_BLOCK_DEVICE_DEV": 48}


def device(
    name: str,
    address: int,
    size: int = 0,
    *,
    bus: str = "pci",
    parent: int = 0,
    data: int = 0,
    data_size: int = 0,
) -> Placed:
    identity = DeviceIdentity(bus, name, None, None)
    return Placed(identity, address, parent, size, data, data_size)


def owner(found: Containers, address: int) -> str:
    number = int(found.find(np.array([address], "<u8"))[0])
    return "" if number == NONE else found.placed[number].identity.name


def containers(*placed: Placed) -> Containers:
    return Containers(placed, SIZES, OFFSETS)


def test_an_object_of_kmalloc_leads_to_the_device_in_it() -> None:
    found = containers(device("nvme", BASE + 4096 + 200, 2048))
    inside = {at: owner(found, BASE + 4096 + at) for at in (-1, 0, 200, 2047, 2048)}
    assert inside == {-1: "", 0: "nvme", 200: "nvme", 2047: "nvme", 2048: ""}


@pytest.mark.parametrize(
    ("bus", "size", "before", "bytes_"),
    [("pci", 1600, 0, 744), ("block", 1600, 48, 976), ("net", 0, 1216, 2048)],
)
def test_of_other_objects_only_the_struct_is_known(
    bus: str, size: int, before: int, bytes_: int
) -> None:
    found = containers(device("it", BASE + 5000, size, bus=bus))
    start = BASE + 5000 - before
    assert [owner(found, start + at) for at in (-1, 0, bytes_ - 1, bytes_)] == ["", "it", "it", ""]


def test_a_drivers_data_leads_to_its_device() -> None:
    found = containers(device("nvme", BASE, 1024, data=BASE + 8192 + 64, data_size=4096))
    assert [owner(found, BASE + 8192 + at) for at in (-1, 0, 4095, 4096)] == ["", *["nvme"] * 2, ""]


def test_data_of_several_devices_are_those_of_the_topmost() -> None:
    data = BASE + 8192
    child = device("child", BASE + 1024, 1024, parent=BASE, data=data, data_size=1024)
    found = containers(child, device("parent", BASE, 1024, data=data, data_size=1024))
    assert owner(found, BASE + 8192) == "parent"
    assert owner(found, BASE + 1024) == "child"


def test_data_within_a_device_are_its_own() -> None:
    other = device("other", BASE + 1024, 1024, data=BASE + 8, data_size=1024)
    found = containers(other, device("it", BASE + 16, 1024))
    assert owner(found, BASE + 8) == "it"


def test_data_that_are_no_object_of_kmalloc_lead_nowhere() -> None:
    found = containers(device("it", BASE, 1024, data=5), device("x", BASE + 1024, 1024, data=BASE))
    assert owner(found, 5) == ""


def test_what_stands_for_another_device_is_left_out() -> None:
    assert owner(containers(device("254:0", BASE, 1024, bus="bdi")), BASE) == ""


def test_without_devices_nothing_leads_to_one() -> None:
    assert owner(containers(), BASE) == ""


def test_of_devices_on_one_path_the_lowest_is_named() -> None:
    pci, virtio = device("pci", BASE, 1024), device("virtio", BASE + 1024, 1024, parent=BASE)
    disk = device("vda", BASE + 2048, 1024, parent=virtio.address)
    other = device("vdb", BASE + 4096, 1024, parent=virtio.address)
    found = containers(pci, virtio, disk, other)
    addresses = [each.address for each in (pci, virtio, disk, other)]
    assert found.lowest_at(addresses[:3]) == 2
    assert found.lowest_at(addresses[:1]) == 0
    assert found.lowest_at(addresses[2:]) == NONE
    assert found.lowest_at(addresses) == NONE


def test_devices_in_a_circle_end() -> None:
    """A torn reading."""
    one = device("one", BASE, 1024, parent=BASE + 1024)
    found = containers(one, device("two", BASE + 1024, 1024, parent=BASE))
    assert found.chain(0) == (0, 1)
