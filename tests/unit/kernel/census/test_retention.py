# SPDX-License-Identifier: Apache-2.0
"""What devices hold, in memory made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.base.arrays import U8, U64
from slabmon.base.errors import UnsupportedHost
from slabmon.census.model import DEVICES_UNSUPPORTED, DeviceObjects
from slabmon.kernel.census import device_rows, devices, held_rows
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reach import Tracer
from tests.support.slab_memory import DIRECT_MAP, LAYOUT, OFFSETS, VMEMMAP, FakeKernel

SIZE = 128
NO_ALIASES: Aliases = {}


class Host:
    """Directories of sysfs, other objects, and one page of the kernel, all of 128 bytes or less."""

    def __init__(self, nodes: str = "kernfs_node_cache") -> None:
        self.kernel = FakeKernel()
        self.caches = {
            name: self.kernel.cache(name, SIZE) for name in (nodes, "kmalloc-128", "kmalloc-cg-128")
        }
        self.kernel.slab(self.caches[nodes], free=[0])  # shows where the direct map is
        self._slabs = {name: self.kernel.slab(cache) for name, cache in self.caches.items()}
        self._made = dict.fromkeys(self.caches, 0)
        self._nodes = nodes
        self.on_stacks: list[int] = []  # that a stack refers to
        roots = self.kernel.add_pages()
        self._root = DIRECT_MAP + roots * PAGE_BYTES
        self.kset = self.record("kset", name=self.text("devices"))

    def text(self, text: str) -> int:
        """Put a text outside the heap; return its address."""
        return self.kernel.place(text.encode() + b"\0" * 64)

    def record(self, kind: str, **words: int) -> int:
        """Put a struct with these members outside the heap; return its address."""
        return self.kernel.record(kind, **words)

    def new(self, *words: int, cache: str = "kmalloc-128") -> int:
        """Allocate an object with these words; return its address."""
        address = self.kernel.object(self.caches[cache], self._slabs[cache], self._made[cache])
        self._made[cache] += 1
        self.kernel.memory.write(address, bytes(SIZE))
        for place, word in enumerate(words):
            self.kernel.memory.write_word(address + 8 * place, word)
        return address

    def point(self, address: int, member: str, to: int) -> None:
        self.kernel.memory.write_word(address + OFFSETS[member], to)

    def hold(self, word: int) -> None:
        """Let the kernel's memory refer to an object."""
        self.kernel.memory.write_word(self._root, word)
        self._root += 8

    def directory(self, kobject: int, back: bool = True) -> None:
        """Add a directory of sysfs for a kobject, which leads back to it."""
        node = self.new(cache=self._nodes)
        self.hold(node)
        self.point(node, "kn.priv", kobject)
        if back:
            self.point(kobject, "kobject.sd", node)

    def device(self, name: str, parent: int = 0, data: int = 0, kset: int | None = None) -> int:
        """Register a device in an object of its own."""
        device = self.new()
        kobject = device + OFFSETS["device.kobj"]
        self.point(kobject, "kobject.name", self.text(name))
        self.point(kobject, "kobject.kset", self.kset if kset is None else kset)
        self.point(device, "device.parent", parent)
        self.point(device, "device.driver_data", data)
        self.directory(kobject)
        return device

    def take(self, aliases: Aliases = NO_ALIASES) -> held_rows.Retained:
        """What devices retain; afterwards nothing that is in use may be unreached."""
        free = {0}  # of the first slab, and what was not allocated
        slab_objects = PAGE_BYTES // SIZE
        free |= set(range(slab_objects))
        for number, name in enumerate(self.caches, 1):
            free |= set(
                range(number * slab_objects + self._made[name], (number + 1) * slab_objects)
            )
        reading = self.kernel.reading(free=free)
        heap = Heap(reading, LAYOUT)
        tracer = Tracer(self.kernel.memory, LAYOUT, reading, heap)
        reached = tracer.from_outside()
        tracer.on_stacks[heap.find(np.array(self.on_stacks, np.uint64))] = True
        result = device_rows.follow(self.kernel.memory, LAYOUT, reading, tracer, reached, aliases)
        self.unreached = set(heap.addresses_of(np.flatnonzero(heap.in_use & ~reached)).tolist())
        return result

    def rows(self) -> dict[str, DeviceObjects]:
        return {row.name: row for row in self.take().rows}

    def objects(self) -> dict[str, tuple[int, int]]:
        """Objects of each device's own, and those it retains."""
        return {name: (row.objects, row.retained_objects) for name, row in self.rows().items()}


@pytest.fixture
def host() -> Host:
    return Host()


def test_what_only_a_driver_s_data_leads_to_is_the_device_s(host: Host) -> None:
    last = host.new(cache="kmalloc-cg-128")
    for _ in range(5):
        last = host.new(last + 64)
    host.device("eth0", data=host.new(0, last))
    [row] = host.take().rows
    assert (row.objects, row.bytes, row.retained_bytes) == (8, 8 * SIZE, 8 * SIZE)
    assert row.by_cache == {"kmalloc-128": 7 * SIZE, "kmalloc-cg-128": SIZE}
    assert not host.unreached


def test_what_else_is_referred_to_is_not(host: Host) -> None:
    shared, behind = host.new(), host.new()
    host.point(shared, "device.parent", behind)
    host.hold(shared)
    host.device("eth0", data=host.new(shared))
    assert host.objects() == {"eth0": (2, 2)}


def test_what_somebody_has_on_a_stack_is_still_its_holder_s(host: Host) -> None:
    """Whoever called a function with it need not hold it; nor is what only a stack leads to an
    orphan, or a device's."""
    last = host.new()
    member = host.new(last)
    host.device("eth0", data=host.new(member))
    host.on_stacks += [member, host.new(host.new())]
    assert host.objects() == {"eth0": (4, 4)}
    assert not host.unreached


def test_what_a_device_transfers_is_still_what_its_driver_holds(host: Host) -> None:
    """The physical address of a buffer in a ring of descriptors, a struct page in a request."""
    buffer, described = host.new(), host.new()
    page, offset = divmod(described - DIRECT_MAP, PAGE_BYTES)
    host.hold(buffer - DIRECT_MAP)
    host.hold(VMEMMAP + page * 64)
    host.hold(offset << 32 | SIZE)
    host.device("eth0", data=host.new(buffer, described))
    assert host.objects() == {"eth0": (4, 4)}


def test_the_data_of_a_driver_are_its_device_s_wherever_else_they_are_known(host: Host) -> None:
    data = host.new(host.new())
    host.hold(data)
    host.device("eth0", data=data)
    assert host.objects() == {"eth0": (3, 3)}


def test_a_device_retains_what_those_below_it_hold_and_share(host: Host) -> None:
    ring = host.new(host.new())
    parent = host.device("pci0")
    child = host.device("port0", parent, host.new(ring, host.new()))
    host.device("port1", parent, host.new(ring))
    host.device("queue0", child)
    assert host.objects() == {"pci0": (3, 9), "port0": (3, 4), "port1": (2, 2), "queue0": (1, 1)}


def test_what_is_shared_late_moves_up_with_all_behind_it(host: Host) -> None:
    """A long list of one device, whose middle another one refers to."""
    items = [host.new()]
    for _ in range(9):
        items.append(host.new(items[-1]))
    top = host.device("top")
    host.device("one", top, items[-1])
    host.device("two", top, host.new(host.new(host.new(items[4]))))
    assert host.objects() == {"top": (6, 16), "one": (6, 6), "two": (4, 4)}


def test_what_unrelated_devices_share_is_no_device_s_and_no_orphan(host: Host) -> None:
    shared = host.new()
    host.device("one", data=host.new(shared))
    host.device("two", data=host.new(shared))
    assert host.objects() == {"one": (2, 2), "two": (2, 2)}
    assert not host.unreached


def test_circles_end(host: Host) -> None:
    first = host.new()
    second = host.new(first)
    host.point(first, "device.parent", second)
    one = host.device("one", data=first)
    two = host.device("two", one)
    host.point(one, "device.parent", two)
    assert host.objects() == {"one": (3, 3), "two": (1, 1)}


def test_orphans_stay_unreached(host: Host) -> None:
    lost = host.new()
    host.device("one", data=host.new())
    host.take()
    assert host.unreached == {lost}


def test_the_data_of_a_child_that_are_its_parent_s_too_are_the_parent_s(host: Host) -> None:
    data = host.new(host.new())
    parent = host.device("pci0", data=data)
    host.device("eth0", parent, data)
    assert host.objects() == {"pci0": (3, 4), "eth0": (1, 1)}


def test_data_that_a_device_is_in_are_that_device_s(host: Host) -> None:
    """As a network card's driver has the net_device as its data."""
    parent = host.device("pci0")
    child = host.device("eth0", parent, host.new())
    host.point(parent, "device.driver_data", child)
    assert host.objects() == {"pci0": (1, 3), "eth0": (2, 2)}


def test_names_are_those_of_sysfs(host: Host) -> None:
    on_bus, of_class = host.device("0000:00:03.0"), host.device("eth0")
    host.point(on_bus, "device.bus", host.record("bus", name=host.text("pci")))
    host.point(of_class, "device.class", host.record("class", name=host.text("net")))
    module = host.record("module")
    host.kernel.memory.write(module + OFFSETS["module.name"], b"virtio_pci\0")
    driver = host.record("driver", name=host.text("virtio-pci"), owner=module)
    host.point(on_bus, "device.driver", driver)
    built_in = host.record("driver", name=host.text("serial"))
    host.point(of_class, "device.driver", built_in)
    rows = host.rows()
    assert [(row.bus, row.driver, row.module) for row in rows.values()] == [
        ("net", "serial", None),
        ("pci", "virtio-pci", "virtio_pci"),
    ]


def test_other_directories_are_no_devices(host: Host) -> None:
    host.device("eth0")
    host.device("drivers", kset=host.record("kset", name=host.text("drivers")))
    host.device("lonely", kset=0)
    host.directory(host.new(), back=False)
    assert set(host.rows()) == {"eth0"}


def test_a_device_that_goes_while_it_is_read_is_not_followed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.device("eth0")
    gone = host.device("gone")
    host.point(gone, "device.bus", 1 << 40)  # would lead anywhere
    gather = host.kernel.memory.gather
    read: list[int] = []

    def change(addresses: U64, size: int) -> U8:
        if gone in addresses.tolist():
            host.point(gone + OFFSETS["device.kobj"], "kobject.kset", 0)
        read.extend(addresses.tolist())
        return gather(addresses, size)

    monkeypatch.setattr(host.kernel.memory, "gather", change)
    assert set(host.rows()) == {"eth0"}
    assert (1 << 40) + OFFSETS["bus.name"] not in read


def test_directories_in_a_merged_cache_are_found() -> None:
    host = Host("pid_namespace")
    host.device("eth0")
    assert host.take({"pid_namespace": ("kernfs_node_cache",)}).rows


def test_without_directories_it_says_so_and_all_is_reached(host: Host) -> None:
    host.hold(host.new(host.new()))
    result = host.take()
    assert not result.rows
    assert result.limits == (
        f"{DEVICES_UNSUPPORTED}: no directory of sysfs was found that belongs to a device",
    )
    assert not host.unreached


def test_a_kernel_whose_devices_differ_is_named(host: Host) -> None:
    reading = host.kernel.reading()
    offsets = {name: at for name, at in OFFSETS.items() if name != "device.parent"}
    layout = type(LAYOUT)(**{**vars(LAYOUT), "offsets": offsets})
    with pytest.raises(UnsupportedHost, match=r"devices.*expected in its BTF: device\.parent"):
        devices.find(host.kernel.memory, layout, reading, Heap(reading, layout), {})
