# SPDX-License-Identifier: Apache-2.0
"""DMA memory of devices, counted by the BPF programs run in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.served.dma import DmaTable
from slabmon.model import Device
from tests.support.builders import device as device_row
from tests.support.hosts import facts
from tests.support.native import EACH_OBJECT, Native

RING = 0xFFFF888100000000  # addresses of memory; never read
EVENTS = {  # of allocations and frees, and where their size is
    "coherent": ("on_dma_alloc", "on_dma_free", 3),
    "pages": ("on_dma_alloc_pages", "on_dma_free_pages", 3),
    "scattered": ("on_dma_alloc_sgt", "on_dma_free_sgt", 2),
}
Counts = tuple[int | None, int, int, int]


class Host:
    """Devices of one bus that allocate and free."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.table = DmaTable(native.programs, native.plan)
        self._bus = native.record(OFF_BUS_NAME=self._text(b"pci"))

    def _text(self, text: bytes) -> int:
        return self.native.memory(text + b"\0")

    def driver(self, name: bytes, module: bytes) -> int:
        owner = bytearray(1024)
        start = self.native.plan.defines["OFF_MODULE_NAME"]
        owner[start : start + len(module)] = module
        return self.native.record(
            OFF_DRIVER_NAME=self._text(name), OFF_DRIVER_OWNER=self.native.memory(bytes(owner))
        )

    def device(self, name: bytes, **members: int) -> int:
        """Add a device; return its address."""
        return self.native.memory(self._content(name, members))

    def become(self, address: int, name: bytes, **members: int) -> None:
        """Put another device in the place of one."""
        self.native.rewrite(address, self._content(name, members))

    def _content(self, name: bytes, members: Mapping[str, int]) -> bytes:
        at = self.native.plan.defines
        content = bytearray(1024)
        named = at["OFF_DEVICE_KOBJ"] + at["OFF_KOBJECT_NAME"]
        places = {at[macro]: value for macro, value in members.items()}
        places |= {at["OFF_DEVICE_BUS"]: self._bus, named: self._text(name)}
        for place, value in places.items():
            content[place : place + 8] = value.to_bytes(8, "little")
        return bytes(content)

    def alloc(self, device: int, address: int, size: int, kind: str = "coherent") -> None:
        self._run(EVENTS[kind][0], device, address, size, EVENTS[kind][2])

    def free(self, device: int, address: int, size: int, kind: str = "coherent") -> None:
        self._run(EVENTS[kind][1], device, address, size, EVENTS[kind][2])

    def _run(self, event: str, device: int, address: int, size: int, place: int) -> None:
        arguments = [device, address, 0x1234000, 0, 0, 0]
        arguments[place] = size
        self.native.run(event, *arguments)

    def rows(self, *others: Device) -> dict[str, Device]:
        return {row.name: row for row in self.table.added_to(others)}

    def losses(self) -> tuple[int, int]:
        losses = self.native.reader.losses()
        return losses["dma_lost"], losses["dma_replaced"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    native = Native(make_plan(facts(), EACH_OBJECT), tmp_path, monkeypatch)
    native.start()
    return Host(native)


def counts(row: Device) -> Counts:
    """Live bytes, allocations, frees and allocated bytes."""
    return row.dma_bytes, row.dma_allocs, row.dma_frees, row.dma_allocated_bytes


@pytest.mark.parametrize("kind", EVENTS)
def test_memory_is_counted_until_it_is_freed(host: Host, kind: str) -> None:
    card = host.device(b"0000:01:00.0")
    for i in range(7):
        host.alloc(card, RING + 4096 * i, 1009, kind)
    assert counts(host.rows()["0000:01:00.0"]) == (7 * 1009, 7, 0, 7 * 1009)
    for i in range(3):
        host.free(card, RING + 4096 * i, 1009, kind)
    assert counts(host.rows()["0000:01:00.0"]) == (4 * 1009, 7, 3, 7 * 1009)
    assert host.native.used("dma_blocks") == 4
    assert host.losses() == (0, 0)


def test_devices_are_told_apart(host: Host) -> None:
    one, two = host.device(b"one"), host.device(b"two")
    host.alloc(one, RING, 100)
    host.alloc(two, RING + 4096, 200)
    host.alloc(two, RING + 8192, 300)
    host.free(two, RING + 4096, 200)
    rows = host.rows()
    assert {name: row.dma_bytes for name, row in rows.items()} == {"one": 100, "two": 300}


def test_frees_of_older_memory_are_counted_apart(host: Host) -> None:
    """They neither make live memory negative nor hide what was allocated since."""
    card = host.device(b"card")
    host.free(card, RING, 8192)
    assert counts(host.rows()["card"]) == (0, 0, 0, 0)
    host.alloc(card, RING + 4096, 4096)
    host.free(card, RING + 65536, 12288)
    row = host.rows()["card"]
    assert counts(row) == (4096, 1, 0, 4096)
    assert (row.dma_earlier_frees, row.dma_earlier_bytes) == (2, 20480)


def test_what_was_allocated_is_freed_whatever_the_free_says(host: Host) -> None:
    """Its size is that of the allocation, its device the one that it was allocated for."""
    one, two = host.device(b"one"), host.device(b"two")
    host.alloc(one, RING, 5000)
    host.free(two, RING, 8192)
    assert counts(host.rows()["one"]) == (0, 1, 1, 5000)
    assert "two" not in host.rows()


def test_a_free_of_nothing_is_none(host: Host) -> None:
    host.free(host.device(b"card"), 0, 4096)
    assert not host.rows()


def test_failed_allocations(host: Host) -> None:
    card = host.device(b"card")
    host.alloc(card, 0, 1 << 30)
    host.alloc(card, 0, 1 << 30, "pages")
    host.native.run("on_dma_alloc_sgt_err", card, 0, 0, 1 << 30)
    row = host.rows()["card"]
    assert (row.dma_failed, *counts(row)) == (3, 0, 0, 0, 0)


def test_a_free_that_was_missed_ends_with_the_next_allocation_there(host: Host) -> None:
    card = host.device(b"card")
    host.alloc(card, RING, 4096)
    host.alloc(card, RING, 100)
    assert counts(host.rows()["card"]) == (100, 2, 1, 4196)
    assert host.losses() == (0, 1)


def test_devices_are_named_as_sysfs_names_them(host: Host) -> None:
    host.alloc(
        host.device(b"card", OFF_DEVICE_DRIVER=host.driver(b"nvme", b"nvme_core")), RING, 100
    )
    [row] = host.rows().values()
    assert (row.bus, row.name, row.driver, row.module) == ("pci", "card", "nvme", "nvme_core")


def test_a_device_that_is_gone_keeps_its_name(host: Host) -> None:
    """Its address is another's: what it leaked is not the other's."""
    at = host.device(b"gone", OFF_DEVICE_DRIVER=host.driver(b"leaky", b"leaky"))
    host.alloc(at, RING, 100)
    host.become(at, b"other")
    host.alloc(at, RING + 4096, 200)
    rows = host.rows()
    assert (rows["gone"].dma_bytes, rows["gone"].driver) == (100, "leaky")
    assert (rows["other"].dma_bytes, rows["other"].driver) == (200, None)


def test_the_driver_is_the_last_one_that_was_bound(host: Host) -> None:
    at = host.device(b"card")
    for name in (b"first", b"second"):
        host.become(at, b"card", OFF_DEVICE_DRIVER=host.driver(name, name))
        host.alloc(at, RING + len(name), 100)
        assert host.rows()["card"].driver == name.decode()
    host.become(at, b"card")
    host.alloc(at, RING + 4096, 100)
    row = host.rows()["card"]
    assert (row.driver, row.module, row.dma_bytes) == ("second", "second", 300)


def test_memory_that_the_platform_reserved_is_left_out(host: Host) -> None:
    """Its frees have no event; what does not fit there is memory like any other."""
    pages = host.native.record(OFF_DMA_MEM_BASE=RING, OFF_DMA_MEM_PAGES=4)
    board = host.device(b"board", OFF_DMA_MEM=pages)
    host.alloc(board, RING, 4096)
    host.alloc(board, RING + 4 * 4096 - 1, 1)
    assert not host.rows()
    host.alloc(board, RING + 4 * 4096, 4096)
    host.alloc(board, RING - 4096, 4096)
    assert counts(host.rows()["board"]) == (8192, 2, 0, 8192)


def test_memory_without_room_is_counted_as_lost(host: Host) -> None:
    room = host.native.plan.defines["NR_DMA_BLOCKS"]
    card = host.device(b"card")
    for i in range(room + 3):
        host.alloc(card, RING + 4096 * i, 10)
    assert counts(host.rows()["card"]) == (10 * room, room, 0, 10 * room)
    assert host.losses() == (3, 0)
    for i in range(room + 3):
        host.free(card, RING + 4096 * i, 10)
    row = host.rows()["card"]
    assert counts(row) == (0, room, room, 10 * room)
    assert row.dma_earlier_frees == 3


def test_devices_without_room_are_counted_as_lost(host: Host) -> None:
    room = CONSTANTS["DMA_DEVICES"]
    name = host.native.memory(b"0000\0")
    named = host.native.plan.defines["OFF_DEVICE_KOBJ"]
    named += host.native.plan.defines["OFF_KOBJECT_NAME"]
    at = host.device(b"card")
    host.native.rewrite(at + named, name.to_bytes(8, "little"))
    for i in range(room + 2):
        host.native.rewrite(name, f"{i:04}".encode())
        if i % 2:
            host.alloc(at, RING + 4096 * i, 10)
        else:
            host.free(at, RING + 4096 * i, 10)
    assert len(host.rows()) == room
    assert host.losses() == (2, 0)


def test_rows_are_added_to_those_of_the_ledger(host: Host) -> None:
    host.alloc(host.device(b"managed"), RING, 100)
    host.alloc(host.device(b"plain"), RING + 4096, 200)
    managed = device_row("pci", "managed", driver="of-ledger", resources=3, managed_bytes=50)
    other = device_row("usb", "1-1", resources=1, managed_bytes=7)
    rows = host.table.added_to([managed, other])
    assert [(row.bus, row.name) for row in rows] == [
        ("pci", "managed"),
        ("pci", "plain"),
        ("usb", "1-1"),
    ]
    assert [row.dma_bytes for row in rows] == [100, 200, 0]
    assert [row.held_bytes for row in rows] == [150, 200, 7]
    assert (rows[0].driver, rows[0].resources) == ("of-ledger", 3)
    assert (rows[1].resources, rows[1].managed_bytes, rows[1].slab_bytes) == (0, 0, 0)


def test_without_the_events_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = Native(make_plan(facts("6.1"), EACH_OBJECT), tmp_path, monkeypatch)
    native.start()
    row = device_row(resources=3)
    assert DmaTable(native.programs, native.plan).added_to([row]) == (row,)
    assert row.dma_bytes is None
