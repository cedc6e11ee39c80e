# SPDX-License-Identifier: Apache-2.0
"""What a census says of the kernel's objects and devices, beside what the kernel's DWARF says of
them (drgn)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from slabmon.kernel.census import devices, reading
from slabmon.kernel.census.heap import Heap
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from tests.vm.guest import dwarf
from tests.vm.guest import planted as module
from tests.vm.guest.census import NamedObjects, census_reader, named_objects
from tests.vm.guest.dwarf_walk import Walk

if TYPE_CHECKING:
    import drgn

pytestmark = dwarf.needs_debug_info
SAMPLE, SEED = 500, 612
LEAST_AGREEING, LEAST_TYPED = 0.99, 0.93  # of those typed, of all
QUIET_TRIES = 5


@pytest.fixture(scope="module")
def kernel() -> drgn.Program:
    """The running kernel, with the planted module's devices bound."""
    return dwarf.program()


@pytest.fixture(scope="module", autouse=True)
def bound() -> Iterator[None]:
    """Devices with managed resources."""
    module.load()
    module.run("devices_add")
    module.run("drivers_add")
    yield
    module.unload()


def walk(kernel: drgn.Program) -> Walk:
    found = Walk(kernel)
    found.run()
    return found


def structs_by_dwarf(found: NamedObjects, walks: list[Walk]) -> dict[int, str]:
    """The struct of each object in use of kmalloc's caches that all these walks say one of."""
    addresses = sorted(set.intersection(*({*each.known, *each.pointed} for each in walks)))
    result = {}
    for address, size in zip(addresses, found.kmalloc_sizes(addresses), strict=True):
        if size:
            fits, longer = partial(found.fits, size=size), partial(found.begun_by_others, size=size)
            said = {each.struct_of(address, fits, longer) for each in walks}
            [one] = said if len(said) == 1 else [None]
            if one is not None:
                result[address] = one
    return result


class Comparison:
    """How many objects a census says the same struct of as DWARF, and what differs."""

    def __init__(self, found: NamedObjects, said: dict[int, str]) -> None:
        self.all = Counter(said.values())
        self.agreed: Counter[str] = Counter()
        self.differing: Counter[tuple[str, str]] = Counter()
        self.untyped: Counter[str] = Counter()
        for answer, struct in zip(found.at(list(said)), said.values(), strict=True):
            if answer is None or answer.type is None:
                self.untyped[struct] += 1
            elif answer.type == struct:
                self.agreed[struct] += 1
            else:
                self.differing[struct, answer.type] += 1
        self.typed = self.all.total() - self.untyped.total()

    def __str__(self) -> str:
        return (
            f"{self.all.total()} objects of {len(self.all)} structs, {self.typed} typed, "
            f"{self.agreed.total()} agreed; differing {dict(self.differing.most_common(20))}, "
            f"not typed {dict(self.untyped.most_common(20))}"
        )


def test_structs_of_generic_objects(
    kernel: drgn.Program, record_property: Callable[[str, object], None]
) -> None:
    """Objects of kmalloc: what they are by the census, and by a walk of the kernel's lists and
    pointers by DWARF, before and after."""
    before = walk(kernel)
    found = named_objects()
    said = structs_by_dwarf(found, [before, walk(kernel)])
    chosen = random.Random(SEED).sample(sorted(said), SAMPLE)
    sample = Comparison(found, {address: said[address] for address in chosen})
    everything = Comparison(found, said)
    print(f"sample: {sample}\nall: {everything}\nof {everything.all.most_common()}")
    record_property("sample", str(sample))
    record_property("all", str(everything))
    for each in (sample, everything):
        assert each.agreed.total() >= LEAST_AGREEING * each.typed
        assert each.typed >= LEAST_TYPED * each.all.total()


Device = tuple[str, str, str | None, str | None]  # bus, name, driver, module


def devices_by_dwarf(kernel: drgn.Program) -> dict[int, Device]:
    """Every registered device by its address."""
    found = {}
    for device in dwarf.devices(kernel):
        driver = device.driver
        owner = driver.owner if driver else None
        found[device.value_()] = (
            dwarf.subsystem(device),
            dwarf.name(device),
            driver.name.string_().decode() if driver else None,
            owner.name.string_().decode() if owner else None,
        )
    return found


def managed_bytes(kernel: drgn.Program) -> Counter[tuple[str, str]]:
    """Bytes of managed resources by bus and name of the device."""
    from drgn.helpers.linux.list import list_for_each_entry

    held: Counter[tuple[str, str]] = Counter()
    for device in dwarf.devices(kernel):
        nodes = list_for_each_entry("struct devres_node", device.devres_head.address_of_(), "entry")
        size = sum(node.size.value_() for node in nodes)
        if size:
            held[dwarf.subsystem(device), dwarf.name(device)] += size
    return held


def test_all_devices_by_the_walk(kernel: drgn.Program) -> None:
    """By the ledger's walk and by drgn: bus, name, driver and module of each device, and bytes of
    its managed resources."""
    with open_tracker(Settings()) as tracker:
        for _ in range(QUIET_TRIES):
            before, held = devices_by_dwarf(kernel), managed_bytes(kernel)
            tracker.reconcile_devices()
            assert tracker.ledger is not None
            registered = Counter(tuple(each) for each in tracker.ledger.registered())
            managed = +tracker.ledger.managed_bytes()
            if (before, held) == (devices_by_dwarf(kernel), managed_bytes(kernel)):
                break
    assert registered == Counter(before.values())
    assert managed == held
    print(f"{registered.total()} devices, {managed.total()} bytes managed")


def test_all_devices_by_the_census(kernel: drgn.Program) -> None:
    """The census' devices, those of the image, modules and vmalloc memory left out: addresses,
    names, drivers, and the object that each is in."""
    from drgn.helpers.linux.slab import slab_object_info

    with census_reader() as reader:
        for _ in range(QUIET_TRIES):
            before = devices_by_dwarf(kernel)
            read = reading.read(reader.kernel, reader.layout)
            heap = Heap(read, reader.layout)
            found = devices.find(reader.kernel, reader.layout, read, heap, slabinfo.read_aliases())
            if before == devices_by_dwarf(kernel):
                break
    inside = read.in_ram(np.array(list(before), np.uint64)).tolist()
    expected = {
        address: before[address] for address, yes in zip(before, inside, strict=True) if yes
    }
    identities = ((each.bus, each.name, each.driver, each.module) for each in found.identities)
    addresses = found.addresses.tolist()
    assert dict(zip(addresses, identities, strict=True)) == expected
    held = heap.find(found.addresses)
    objects = heap.addresses_of(held).tolist()
    slabs = {
        address: info.address
        for address in addresses
        if (info := slab_object_info(kernel, address)) is not None
    }
    mine = {a: o for a, o in zip(addresses, objects, strict=True) if a in slabs}
    assert mine == slabs
    print(f"{len(expected)} devices, {len(slabs)} of them in slabs, of {len(before)}")
