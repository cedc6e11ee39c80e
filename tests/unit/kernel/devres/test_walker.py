# SPDX-License-Identifier: Apache-2.0
"""The walk over all devices, step by step, with the kernel's side in Python (bpf/devices.h)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.devres.walker import Node, Walker, WalkError
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.programs import SEED, WALK

TORN, GONE = CONSTANTS["WALK_TORN"], CONSTANTS["WALK_GONE"]
STEP = CONSTANTS["WALK_NODES"]
KSET = 0xE0
WALK_FD = 99


@dataclass
class Kernel:
    """Devices in a ring, each with its nodes. `disturb` runs before each step."""

    devices: dict[int, list[tuple[int, int]]]
    step: np.ndarray = field(default_factory=lambda: np.zeros(0))
    torn: int = 0
    seeds: list[int] = field(default_factory=list)
    steps: int = 0
    disturb: Callable[[], None] = lambda: None

    def map_array(self, fd: int, dtype: np.dtype, count: int, writable: bool) -> np.ndarray:
        self.step = np.zeros(count, dtype)
        return self.step

    @contextmanager
    def attached(self, event: str, function: str) -> Iterator[None]:
        assert (event, function) == ("net_dev_queue", SEED)
        if self.seeds:
            self.step[0]["device"]["next"] = self.seeds.pop(0)
        yield

    def run(self, program: int, device: int, cursor: int) -> None:
        """One step, as walk_step() does it."""
        assert program == WALK_FD
        self.steps += 1
        self.disturb()
        out = self.step[0]["device"]
        for name in ("status", "count", "next", "cursor"):
            out[name] = 0
        if device not in self.devices:
            out["status"] = GONE
            return
        ring = list(self.devices)
        out["kset"] = KSET
        out["next"] = ring[(ring.index(device) + 1) % len(ring)]
        out["name"], out["bus"] = f"dev{device:x}".encode(), b"pci"
        if self.torn:
            self.torn -= 1
            out["status"] = TORN
            return
        nodes = self.devices[device]
        start = cursor - 1 if cursor else 0
        for slot, (address, size) in enumerate(nodes[start : start + STEP]):
            record = self.step[0]["nodes"][slot]
            record["node"], record["bytes"], record["function"] = address, size, 0xF0
            record["node_bytes"], record["cache"], record["release"] = 64, 0xCA00, b"release"
        out["count"] = len(nodes[start : start + STEP])
        if start + STEP < len(nodes):
            out["cursor"] = start + STEP + 1


@pytest.fixture
def open_walker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Walker]:
    def make(kernel: Kernel, named: bool = True) -> Walker:
        monkeypatch.setattr(maps, "map_array", kernel.map_array)
        monkeypatch.setattr(syscall, "run", kernel.run)
        programs = Programs({"walks": 1}, {WALK: WALK_FD}, {})
        monkeypatch.setattr(programs, "attached", kernel.attached)
        return Walker(programs, lambda address: f"function_{address:x}", 40, named)

    return make


Open = Callable[..., Walker]


def kernel(**changes: Any) -> Kernel:
    plain = {0xA0: [(1, 10), (2, 20)], 0xB0: [], 0xC0: [(3, 30)]}
    return Kernel(**{"devices": plain, "seeds": [0xB0], **changes})


def nodes_of(found: dict[int, Node]) -> dict[int, tuple[int, int]]:
    return {address: (node.device, node.bytes) for address, node in found.items()}


def test_every_device_of_the_ring_is_read_from_any_of_them(open_walker: Open) -> None:
    for seed in (0xA0, 0xB0, 0xC0):
        devices, nodes = open_walker(kernel(seeds=[seed])).walk()
        assert sorted(name.name for name in devices.values()) == ["deva0", "devb0", "devc0"]
        assert nodes_of(nodes) == {1: (0xA0, 10), 2: (0xA0, 20), 3: (0xC0, 30)}


@pytest.mark.parametrize("count", [0, 1, STEP - 1, STEP, STEP + 1, 5 * STEP + 3])
def test_a_list_of_any_length_is_read_whole(open_walker: Open, count: int) -> None:
    many = [(number, number % 97) for number in range(1, count + 1)]
    _, nodes = open_walker(kernel(devices={0xA0: many}, seeds=[0xA0])).walk()
    assert nodes_of(nodes) == {address: (0xA0, size) for address, size in many}


def test_a_torn_list_is_read_again(open_walker: Open) -> None:
    torn = kernel(torn=3)
    _, nodes = open_walker(torn).walk()
    assert nodes_of(nodes) == {1: (0xA0, 10), 2: (0xA0, 20), 3: (0xC0, 30)}


def test_a_list_that_never_rests_is_an_error(open_walker: Open) -> None:
    with pytest.raises(WalkError, match="kept changing"):
        open_walker(kernel(torn=10**6)).walk()


def test_a_list_that_changes_between_two_steps_is_not_pieced_together(open_walker: Open) -> None:
    """Torn in its second step: what the first gave is thrown away."""
    many = [(number, 1) for number in range(1, 2 * STEP + 1)]
    machine = kernel(devices={0xA0: many}, seeds=[0xA0])

    def disturb() -> None:
        if machine.steps == 2:
            machine.torn = 1
            del many[:STEP]

    machine.disturb = disturb
    _, nodes = open_walker(machine).walk()
    assert sorted(nodes) == list(range(STEP + 1, 2 * STEP + 1))


def test_the_second_walk_starts_where_the_first_did(open_walker: Open) -> None:
    machine = kernel()
    walker = open_walker(machine)
    walker.walk()
    assert machine.seeds == []
    machine.devices[0xB0].append((4, 40))
    assert 4 in walker.walk()[1], "no new seed is needed"


def test_when_the_starting_device_is_gone_another_is_found(open_walker: Open) -> None:
    machine = kernel(seeds=[0xB0, 0xC0])
    walker = open_walker(machine)
    walker.walk()
    del machine.devices[0xB0]
    devices, _ = walker.walk()
    assert sorted(devices) == [0xA0, 0xC0]


def test_a_device_that_vanishes_during_the_walk_makes_it_start_again(open_walker: Open) -> None:
    machine = kernel(seeds=[0xA0])

    def disturb() -> None:
        if machine.steps == 2:  # 0xB0 was named as the next one and is gone now
            machine.devices.pop(0xB0, None)

    machine.disturb = disturb
    devices, _ = open_walker(machine).walk()
    assert sorted(devices) == [0xA0, 0xC0]


def test_a_ring_that_does_not_come_back_to_its_start_is_an_error(
    open_walker: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = kernel(seeds=[0xA0])
    walker = open_walker(machine)
    real = machine.run

    def run(program: int, device: int, cursor: int) -> None:
        real(program, device, cursor)
        if device == 0xC0:
            machine.step[0]["device"]["next"] = 0xB0

    monkeypatch.setattr(syscall, "run", run)
    with pytest.raises(WalkError, match="set of devices kept changing"):
        walker.walk()


def test_without_a_packet_there_is_no_way_in(open_walker: Open) -> None:
    with pytest.raises(WalkError, match="loopback"):
        open_walker(kernel(seeds=[])).walk()


def test_without_names_functions_and_slab_objects_stand_in(open_walker: Open) -> None:
    """Kernels before 5.14: sizes are those of the objects less the header."""
    _, nodes = open_walker(kernel(), named=False).walk()
    assert nodes[1] == Node(0xA0, "function_f0", 64 - 40, 64, 0xCA00)
