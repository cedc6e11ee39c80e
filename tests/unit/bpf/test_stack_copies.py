# SPDX-License-Identifier: Apache-2.0
"""Copies of kernel stacks: which are made, and what is in them; run in this process."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import CONSTANTS, STACK_COPY, STACK_TOTAL
from slabmon.kernel.planning.plan import make_plan
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import EACH_OBJECT, GFP_KERNEL, OBJECTS, Native

COPIES, REST, BYTES = (CONSTANTS[f"STACK_{name}"] for name in ("COPIES", "REST", "BYTES"))
STACK = np.arange(1, BYTES // 8 + 1, dtype="<u8")
ARGUMENTS = 12  # words of the context, which the tests do not look at


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    native = Native(make_plan(facts(), EACH_OBJECT), tmp_path, monkeypatch)
    native.start()
    native.set("time", 1000)
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    return native


class Kernel:
    """Allocates objects of 96 bytes one after the other."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self._objects = 0

    def allocate(self, room: int = mmap.PAGESIZE) -> int:
        at = self.native.plan.defines
        args = [0] * 12
        args[0], args[1] = CORE + 0x144, OBJECTS + 128 * self._objects
        args[at["ARG_KMALLOC_REQUESTED"]], args[at["ARG_KMALLOC_ALLOCATED"]] = 70, 96
        args[at["ARG_KMALLOC_GFP"]] = GFP_KERNEL
        self._objects += 1
        return self.native.run_on_stack("on_kmalloc", STACK.tobytes(), room, *args)

    @property
    def copy(self) -> np.void:
        record: np.void = self.native._values("stack_copies", STACK_COPY, 1)[0]
        return record

    @property
    def words(self) -> np.ndarray:
        raw = self.native._values("stack_copies", np.dtype("<u8"), STACK_COPY.itemsize // 8)
        return raw[-(BYTES // 8) :][ARGUMENTS:]


@pytest.fixture
def kernel(native: Native) -> Kernel:
    return Kernel(native)


def test_a_copy_begins_where_the_context_is(kernel: Kernel) -> None:
    kernel.native.set("stack", 7)
    place = kernel.allocate()
    assert (int(kernel.copy["place"]), int(kernel.copy["stack"])) == (place, 7)
    assert (kernel.words == STACK[ARGUMENTS:]).all()


@pytest.mark.parametrize("room", [BYTES - 8, BYTES // 2, 256])
def test_a_stack_that_ends_earlier_is_copied_up_to_its_end(kernel: Kernel, room: int) -> None:
    kernel.allocate(room)
    rest = room // 8 - ARGUMENTS
    assert (kernel.words[:rest] == STACK[ARGUMENTS:][:rest]).all()
    assert not kernel.words[rest:].any()


def test_the_first_samples_of_each_stack_are_copied_and_then_a_few(kernel: Kernel) -> None:
    for _ in range(4 * REST):
        kernel.native.kmalloc(CORE + 0x144, OBJECTS + (1 << 19), 70, 96)
    assert kernel.native.used("stack_copies") == COPIES + 4
    kernel.native.set("stack", 6)
    kernel.allocate()
    assert kernel.native.used("stack_copies") == COPIES + 5


def test_where_there_is_no_room_later_samples_are_copied(kernel: Kernel) -> None:
    kernel.native.set("events_full", 1)
    for _ in range(3):
        kernel.allocate()
    count = kernel.native.plan.defines["NR_STACK_IDS"] + 1
    totals = maps.map_array(kernel.native.fd("stack_totals"), STACK_TOTAL, count)
    assert not totals["samples"].any()
    kernel.native.set("events_full", 0)
    kernel.allocate()
    assert totals["samples"].sum() == kernel.native.used("stack_copies") == 1


def test_a_sample_without_a_stack_is_not_copied(kernel: Kernel) -> None:
    kernel.native.set("stack", -17 & 0xFFFFFFFF)
    kernel.allocate()
    assert not kernel.native.used("stack_copies")
    assert len(kernel.native.reader.samples()) == 1


def test_a_host_whose_devices_are_not_known_copies_none() -> None:
    offsets = {n: o for n, o in facts().offsets.items() if not n.startswith("OFF_DEVICE")}
    plan = make_plan(facts(offsets=offsets), EACH_OBJECT)
    assert not plan.defines["HAVE_STACK_COPIES"]
    assert "struct device" in plan.features["stack_devices"].reason
