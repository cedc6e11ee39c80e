# SPDX-License-Identifier: Apache-2.0
"""What drivers allocate by plain kmalloc() and only they know is their devices'."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from slabmon.kernel.census import device_rows, devices, reading
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.probe import slabinfo
from slabmon.model import LARGE_CACHE
from tests.vm.guest import planted as module
from tests.vm.guest.census import Reader, census_reader

HUB, PORTS = "slabmon_hub.0", ("slabmon_port.0", "slabmon_port.1")
# tests/kmod/held.c: how many, and the sizes asked for.
BUFFERS, ITEMS, MORE, KNOWN, LARGE = 61, 97, 53, 23, 3
COUNTS = {"ring": 1, "buffers": BUFFERS, "items": ITEMS, "shared": 41, "known": KNOWN}
OWN = ("ring", "buffers", "items")
LARGE_BYTES = 32768
# Of a device: the struct that it is in, its driver's data, what the driver core adds, names.
OTHERS = 8
TRIES = 3
# Kinds of one port's objects that a stale word may clear: a request that is done keeps the address
# of its last bio (biotail), where a list's object may lie by now, and in a list one leads to all.
CLEARED = 1

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with census_reader() as result:
        yield result


def run(scenario: str) -> None:
    """Let another process run it, as drivers are bound by others."""
    subprocess.run(["sh", "-c", f"echo {scenario} >{module.DEBUGFS}/run"], check=True)


@dataclass(frozen=True)
class Planted:
    """The addresses of what a port's driver holds, by kind, as its own pointers say."""

    objects: dict[str, list[int]]

    @classmethod
    def of(cls, reader: Reader, data: int) -> Planted:
        """Follow struct held_private (tests/kmod/held.c) at this address."""
        word = reader.kernel.word
        ring, shared = word(data + 16), word(data + 24)
        items, at = [], word(data)
        while at != data:
            items.append(at)
            at = word(at)
        chain = []
        while shared and shared != (1 << 64) - 1:
            chain.append(shared)
            shared = word(shared)
        return cls(
            {
                "ring": [ring],
                "buffers": [word(ring + 8 * n) for n in range(BUFFERS)],
                "items": items,
                "shared": chain,
                "known": [word(data + 32 + 8 * n) for n in range(KNOWN)],
            }
        )


class Search:
    """One search: the addresses of the objects that each planted device holds, those that several
    share included, and what the drivers know."""

    def __init__(self, reader: Reader) -> None:
        kernel, layout = reader.kernel, reader.layout
        read = reading.read(kernel, layout)
        heap = Heap(read, layout)
        tracer = Tracer(kernel, layout, read, heap)
        aliases = slabinfo.read_aliases()
        found = devices.find(kernel, layout, read, heap, aliases)
        retained = device_rows.follow(kernel, layout, read, tracer, tracer.from_outside(), aliases)
        assert retained.limits == ()
        assert retained.held is not None
        self.rows = {row.name: row for row in retained.rows}
        self.held: dict[str, set[int]] = {}
        self.planted: dict[str, Planted] = {}
        for number, identity in enumerate(found.identities):
            if identity.name in (HUB, *PORTS):
                objects = retained.held.objects[retained.held.holder == number]
                self.held[identity.name] = set(heap.addresses_of(objects).tolist())
            if identity.name in PORTS:
                device = int(found.addresses[number])
                data = kernel.word(device + layout["device.driver_data"])
                self.planted[identity.name] = Planted.of(reader, data)
        for row in map(self.rows.get, (HUB, *PORTS)):
            print(row)

    def missing(self) -> dict[str, int]:
        """How many planted objects were not found to be their device's, by device and kind."""
        return {
            f"{port} {kind}": count
            for port, planted in self.planted.items()
            for kind, objects in planted.objects.items()
            if kind != "known"
            and (count := len(set(objects) - self.held[HUB if kind == "shared" else port]))
        }

    def check(self, more: int = 0) -> None:
        """Check what the devices hold: nothing of each other, nor what the module knows, and little
        beside what was planted."""
        assert set(self.held) == {HUB, *PORTS}
        for port, planted in self.planted.items():
            counts = {kind: len(set(objects)) for kind, objects in planted.objects.items()}
            items = ITEMS + (more if port == PORTS[0] else 0)
            assert counts == {**COUNTS, "items": items}
            own = {each for kind in OWN for each in planted.objects[kind]}
            for name, held in self.held.items():
                assert not held & set(planted.objects["known"])
                assert name == HUB or not held & set(planted.objects["shared"])
                assert name == port or not held & own
            assert len(self.held[port] - own) <= OTHERS
        shared = set(self.planted[PORTS[0]].objects["shared"])
        assert len(self.held[HUB] - shared) <= OTHERS
        hub, ports = self.rows[HUB], [self.rows[port] for port in PORTS]
        assert hub.retained_bytes == hub.bytes + sum(port.bytes for port in ports)
        assert hub.retained_objects == hub.objects + sum(port.objects for port in ports)
        for row in ports:
            assert (row.bus, row.driver) == ("platform", "slabmon_port")
            assert row.module == module.NAME


def search(reader: Reader, more: int = 0) -> Search:
    """The best of several searches: memory changes while it is read."""
    found = []
    for _ in range(TRIES):
        found.append(Search(reader))
        found[-1].check(more)
        print("missing:", found[-1].missing())
        if not found[-1].missing():
            break
    return min(found, key=lambda search: sum(search.missing().values()))


def test_old_and_new_objects_of_drivers_are_their_devices(
    reader: Reader, record_property: Callable[[str, object], None]
) -> None:
    run("held_add")
    try:
        found = search(reader)
        record_property("missing", sum(found.missing().values()))
        assert len(found.missing()) <= CLEARED, found.missing()
        if reader.layout.large_page is not None:
            for port in PORTS:
                assert found.rows[port].by_cache[LARGE_CACHE] == LARGE * LARGE_BYTES
        run("held_more")
        found = search(reader, MORE)
        assert len(found.missing()) <= CLEARED, found.missing()
    finally:
        run("held_remove")
    assert not {HUB, *PORTS} & set(Search(reader).rows)
