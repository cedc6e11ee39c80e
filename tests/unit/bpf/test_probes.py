# SPDX-License-Identifier: Apache-2.0
"""Objects of drivers' probes have the device that is probed, run in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.served import probes
from slabmon.kernel.served.probes import ProbeTable
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import EACH_OBJECT, OBJECTS, Native

START, END = "on_driver_probe", "on_driver_probe_end"


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    native = Native(make_plan(facts(), EACH_OBJECT), tmp_path, monkeypatch)
    native.start()
    native.set("time", 1000)
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    return native


def struct(native: Native, fields: Mapping[str, int]) -> int:
    """Add a struct with these members, by the macros of their offsets; return its address."""
    data = bytearray(1024)
    for macro, value in fields.items():
        at = native.plan.defines[macro]
        data[at : at + 8] = value.to_bytes(8, "little")
    return native.memory(bytes(data))


class Host:
    """Devices on one bus, and their driver."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._bus = struct(native, {"OFF_BUS_NAME": native.memory(b"pci\0")})
        self.driver = struct(native, {"OFF_DRIVER_NAME": native.memory(b"nvme\0")})
        self.table = ProbeTable(native.programs, native.plan, native.reader.control)
        self._objects = 0

    def device(self, name: bytes) -> int:
        at = self._native.plan.defines
        data = bytearray(1024)
        for place, value in (
            (at["OFF_DEVICE_BUS"], self._bus),
            (at["OFF_DEVICE_KOBJ"] + at["OFF_KOBJECT_NAME"], self._native.memory(name + b"\0")),
        ):
            data[place : place + 8] = value.to_bytes(8, "little")
        return self._native.memory(bytes(data))

    def run(self, event: str, device: int) -> None:
        self._native.run(event, device, self.driver)

    def allocate(self) -> str:
        """Allocate an object; return the name of its device, or ""."""
        address = OBJECTS + 128 * self._objects
        self._objects += 1
        self._native.set("time", 1000 + self._objects)
        self._native.kmalloc(CORE + 0x144, address, 70, 96)
        samples = self._native.reader.samples()
        [probe] = samples["probe"][samples["time_ns"] == 1000 + self._objects]
        ended = self.table.ended()
        found = self.table.devices(samples["probe"], ended).get(int(probe))
        return found.name if found else ""


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Tasks that are there no more."""
    dead: set[int] = set()
    monkeypatch.setattr(probes, "in_first_namespace", lambda: True)
    monkeypatch.setattr(probes, "exists", lambda task: task not in dead)
    return dead


@pytest.fixture
def host(native: Native, dead: set[int]) -> Host:
    return Host(native)


def test_a_probe_begins_and_ends(host: Host) -> None:
    device = host.device(b"0000:01:00.0")
    assert host.allocate() == ""
    host.run(START, device)
    assert [host.allocate(), host.allocate()] == ["0000:01:00.0"] * 2
    host.run(END, device)
    assert host.allocate() == ""


def test_a_device_is_named_as_sysfs_names_it(host: Host, native: Native) -> None:
    host.run(START, host.device(b"0000:01:00.0"))
    host.allocate()
    used = native.reader.samples()["probe"]
    [identity] = host.table.devices(used, used[:0]).values()
    assert identity == ("pci", "0000:01:00.0", "nvme", None)


def test_of_probes_within_one_another_memory_is_the_innermosts(host: Host) -> None:
    outer, inner = host.device(b"outer"), host.device(b"inner")
    host.run(START, outer)
    host.run(START, inner)
    assert host.allocate() == "inner"
    host.run(END, inner)
    assert host.allocate() == "outer"
    host.run(END, outer)
    assert host.allocate() == ""


def test_other_tasks_are_in_no_probe(host: Host, native: Native) -> None:
    """The thread id is the lower half of what the helper returns."""
    first, second = host.device(b"first"), host.device(b"second")
    native.set("tid", 1)
    host.run(START, first)
    native.set("tid", 2)
    assert host.allocate() == ""
    host.run(START, second)
    assert host.allocate() == "second"
    native.set("tid", 1)
    assert host.allocate() == "first"
    host.run(END, first)
    native.set("tid", 2)
    assert host.allocate() == "second"


def test_ends_that_were_missed_end_with_the_probe_around_them(host: Host) -> None:
    outer, inner = host.device(b"outer"), host.device(b"inner")
    host.run(START, outer)
    host.run(START, inner)
    host.run(END, outer)
    assert host.allocate() == ""


def test_a_task_that_died_in_a_probe_is_in_none(host: Host, native: Native, dead: set[int]) -> None:
    """As after an oops of the driver. Its id is given to another task later."""
    native.set("tid", 1)
    host.run(START, host.device(b"lives"))
    native.set("tid", 2)
    host.run(START, host.device(b"dies"))
    assert host.allocate() == "dies"
    dead.add(2)
    assert len(host.table.ended()) == 0
    assert host.allocate() == ""
    native.set("tid", 1)
    assert host.allocate() == "lives", "the others stay in theirs"
    dead.add(1)
    assert [len(host.table.ended()) for _ in range(2)] == [2, 2]
    assert native.used("probing") == native.reader.control["probing_tasks"] == 0


def test_a_task_that_enters_a_probe_is_not_forgotten(host: Host, native: Native) -> None:
    """It is counted, as the probe is, before it has an entry."""
    control = native.reader.control
    control["probing_tasks"] = control["probes_begun"] = 1
    assert len(host.table.ended()) == 0
    assert control["probing_tasks"] == 1


def test_the_end_of_a_probe_that_was_not_seen_ends_no_other(host: Host) -> None:
    seen = host.device(b"seen")
    host.run(START, seen)
    host.run(END, host.device(b"unseen"))
    assert host.allocate() == "seen"


def test_probes_without_room_are_counted(host: Host, native: Native) -> None:
    room = CONSTANTS["DRIVER_PROBES"]
    device = host.device(b"many")
    for _ in range(room + 3):
        host.run(START, device)
        host.run(END, device)
    assert native.reader.losses()["driver_probes_lost"] == 3
    host.run(START, device)
    assert host.allocate() == ""
    host.run(END, device)
    assert native.used("probing") == native.reader.control["probing_tasks"] == 0


def test_ended_probes_without_objects_make_room(host: Host, native: Native) -> None:
    device = host.device(b"many")
    for _ in range(5):
        host.run(START, device)
        host.run(END, device)
    host.run(START, device)
    host.allocate()
    assert native.used("driver_probes") == 6  # a task is in a probe: none can be told to have ended
    host.run(END, device)
    used = native.reader.samples()["probe"]
    assert len(host.table.devices(used, host.table.ended())) == 1
    assert native.used("driver_probes") == 1
    assert not host.table.devices(np.zeros(0, "<u4"), host.table.ended())
    assert native.used("driver_probes") == 0


def test_where_programs_cannot_be_attached_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(facts(fentry_refused="Operation not permitted"), EACH_OBJECT)
    native = Native(plan, tmp_path, monkeypatch)
    native.start()
    native.set("time", 1000)
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    table = ProbeTable(native.programs, plan, native.reader.control)
    native.kmalloc(CORE + 0x144, OBJECTS, 70, 96)
    samples = native.reader.samples()
    assert not samples["probe"].any()
    assert not table.devices(samples["probe"], table.ended())
