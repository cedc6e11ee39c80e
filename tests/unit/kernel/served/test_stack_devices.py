# SPDX-License-Identifier: Apache-2.0
"""Stacks lead to a device only if all copies say so, and it was there all the time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from slabmon.kernel.bpf.layout import CONSTANTS, STACK_COPY
from slabmon.kernel.devres.walker import DeviceIdentity, Placed
from slabmon.kernel.served.containers import Containers
from slabmon.kernel.served.stack_devices import StackDevices

BASE, AREA = 0xFFFF888100000000, 0xFFFFC90000000000
COPIES, FEW = CONSTANTS["STACK_COPIES"], CONSTANTS["STACK_COPIES"] // 2
WORDS = CONSTANTS["STACK_BYTES"] // 8


def placed(name: str, number: int, parent: int = 0, module: str | None = None) -> Placed:
    address = BASE + 1024 * number
    return Placed(DeviceIdentity("pci", name, "driver", module), address, parent, 1024, 0, 0)


ONE, TWO = placed("one", 1), placed("two", 2)
CHILD = placed("child", 3, parent=ONE.address)
OWNED = placed("owned", 4, module="planted")


class Host:
    """A host with these devices."""

    def __init__(self, *devices: Placed, modules: Sequence[str] = ()) -> None:
        self.table = StackDevices(lambda _: set(modules))
        self.walk(*devices)
        self._random = np.random.default_rng(1)

    def walk(self, *devices: Placed) -> list[int]:
        """Return the stacks of which new copies are needed."""
        return self.table.walked(Containers(devices, {"device": 744}, {}))

    def copy(self, words: dict[int, int], count: int = 1, *, stack: int = 5, area: int = 0) -> None:
        """Add copies of a stack with these words, by place, among words that lead nowhere."""
        records = []
        for _ in range(count):
            record = np.zeros(1, STACK_COPY)
            record["stack"], record["place"] = stack, AREA + (area << 14) + 3000
            content = self._random.integers(0, BASE, WORDS, dtype=np.uint64)
            for at, word in words.items():
                content[at] = word
            records.append(record.tobytes()[: -8 * WORDS] + content.tobytes())
        self.table.add(records)

    def named(self, *devices: Placed, stack: int = 5) -> str:
        """Walk; return the device that the stack leads to then."""
        self.walk(*devices)
        found = self.table.devices().get(stack)
        return found.name if found else ""


def test_a_word_at_one_offset_names_the_device() -> None:
    host = Host(ONE, TWO)
    host.copy({40: ONE.address + 8}, COPIES)
    assert host.table.undecided
    assert host.table.devices() == {}, "not before the next walk"
    assert host.named(ONE, TWO) == "one"
    assert not host.table.undecided


@pytest.mark.parametrize(
    "others",
    [
        {40: 0},
        {41: ONE.address},  # at another offset
        {40: TWO.address},
        {},
    ],
)
def test_one_copy_that_does_not_say_so_suffices(others: dict[int, int]) -> None:
    host = Host(ONE, TWO)
    host.copy({40: ONE.address}, COPIES)
    host.copy(others)
    assert host.named(ONE, TWO) == ""


def test_a_copy_that_does_not_say_so_ends_what_was_said() -> None:
    host = Host(ONE, TWO)
    host.copy({40: ONE.address}, COPIES)
    assert host.named(ONE, TWO) == "one"
    host.copy({40: TWO.address})
    assert host.table.devices() == {}


def test_stale_words_beside_it_do_not_matter() -> None:
    host = Host(ONE, TWO)
    for i in range(COPIES):
        host.copy({40: ONE.address, 50 + i: TWO.address})
    assert host.named(ONE, TWO) == "one"


def test_two_devices_in_all_copies_name_none() -> None:
    host = Host(ONE, TWO)
    host.copy({40: ONE.address, 50: TWO.address}, COPIES)
    assert host.named(ONE, TWO) == ""
    assert not host.table.undecided


def test_of_a_device_and_one_above_it_the_lower_is_named() -> None:
    host = Host(ONE, CHILD)
    host.copy({40: ONE.address, 50: CHILD.address}, COPIES)
    assert host.named(ONE, CHILD) == "child"


def test_few_copies_of_one_stack_in_memory_do_not_suffice() -> None:
    host = Host(ONE)
    host.copy({40: ONE.address}, COPIES - 1)
    assert host.named(ONE) == ""
    host.copy({40: ONE.address}, area=1)
    assert host.named(ONE) == "one"


def test_few_copies_of_two_stacks_in_memory_suffice() -> None:
    host = Host(ONE)
    host.copy({40: ONE.address}, FEW - 2)
    host.copy({40: ONE.address}, area=1)
    assert host.named(ONE) == ""
    host.copy({40: ONE.address})
    assert host.named(ONE) == "one"


@pytest.mark.parametrize(("modules", "expected"), [(["planted"], "owned"), (["other"], "")])
def test_few_copies_suffice_on_stacks_of_its_driver(modules: list[str], expected: str) -> None:
    host = Host(OWNED, modules=modules)
    host.copy({40: OWNED.address}, FEW)
    assert host.named(OWNED) == expected


def test_the_modules_on_a_stack_are_read_once_between_two_walks() -> None:
    read: list[int] = []

    def modules_of(stack: int) -> set[str]:
        read.append(stack)
        return {"other"}

    host = Host()
    host.table = StackDevices(modules_of)
    host.walk(OWNED)
    host.copy({40: OWNED.address}, FEW)
    assert not any(host.table.undecided for _ in range(3))
    assert read == [5]
    host.walk(OWNED)
    assert read == [5, 5]
    host.table.forget(np.array([5]))
    host.copy({40: OWNED.address}, FEW)
    assert not host.table.undecided
    assert read == [5, 5, 5], "of another stack by this id"


def test_a_driver_of_the_device_above_counts_too() -> None:
    child = placed("child", 5, parent=OWNED.address)
    host = Host(OWNED, child, modules=["planted"])
    host.copy({40: child.address}, FEW)
    assert host.named(OWNED, child) == "child"


def test_a_device_that_is_gone_is_not_named() -> None:
    """Its memory may be something else by now."""
    host = Host(ONE, TWO)
    host.copy({40: ONE.address}, COPIES)
    assert host.named(TWO) == ""
    assert host.named(ONE, TWO) == ""


def test_another_device_in_its_place_is_not_named_for_it() -> None:
    host = Host(ONE)
    host.copy({40: ONE.address}, COPIES)
    assert host.named(ONE) == "one"
    assert host.named(placed("new", 1)) == ""


def test_a_new_device_is_looked_for_on_stacks_that_led_to_none() -> None:
    host = Host(ONE)
    host.copy({40: TWO.address}, COPIES)
    host.copy({40: ONE.address}, COPIES, stack=6)
    assert host.walk(ONE, TWO) == [5], "needs new copies"
    host.copy({40: TWO.address}, COPIES)
    assert host.named(ONE, TWO) == "two"
    assert host.named(ONE, TWO, stack=6) == "one"


def test_each_stack_is_judged_for_itself() -> None:
    host = Host(ONE, TWO)
    host.copy({40: ONE.address}, COPIES, stack=1)
    host.copy({40: TWO.address}, COPIES, stack=2)
    host.copy({}, COPIES, stack=3)
    host.walk(ONE, TWO)
    assert {i: d.name for i, d in host.table.devices().items()} == {1: "one", 2: "two"}
    host.table.forget(np.array([1, 9]))
    assert list(host.table.devices()) == [2]


def test_before_the_first_walk_nothing_is_known() -> None:
    table = StackDevices(lambda _: set())
    table.add([np.zeros(1, STACK_COPY).tobytes()])
    assert not table.undecided
    assert table.devices() == {}
