# SPDX-License-Identifier: Apache-2.0
"""Stacks by name: read once, named by the modules of the time, without our own programs."""

from __future__ import annotations

import numpy as np

from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables.stacks import StackNames

STORED = {3: [11, 21, 31], 4: [21], 5: []}
NAMES = {10: ("bpf_trace_run3", None), 20: ("kmalloc", None), 30: ("probe", "card")}


class Map:
    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, number: int) -> list[int]:
        self.read.append(number)
        return STORED[number]


def locate(address: int, generation: int) -> Location:
    name, module = NAMES[address]
    return Location(f"{name}{generation or ''}", 0, module)


def test_stacks_are_named_from_the_allocator_on() -> None:
    stacks = StackNames(Map(), locate)
    assert stacks.names([-17, 3, 4], 0) == {3: ("kmalloc", "probe [card]"), 4: ("kmalloc",)}


def test_each_is_read_once_while_it_is_needed() -> None:
    found = Map()
    stacks = StackNames(found, locate)
    for _ in range(3):
        stacks.names([3, 4], 0)
    assert found.read == [3, 4]
    stacks.names([4], 0)
    stacks.names([3, 4], 0)
    assert found.read == [3, 4, 3]


def test_a_stack_that_is_not_there_is_looked_for_again() -> None:
    found = Map()
    stacks = StackNames(found, locate)
    assert stacks.names([5], 0) == stacks.names([5], 0) == {5: ()}
    assert found.read == [5, 5]


def test_a_number_that_passed_to_another_stack_is_read_again() -> None:
    found = Map()
    stacks = StackNames(found, locate)
    stacks.names([3, 4], 0)
    stacks.forget(np.array([4, 9]))
    stacks.names([3, 4], 0)
    assert found.read == [3, 4, 4]


def test_other_modules_give_other_names() -> None:
    stacks = StackNames(Map(), locate)
    assert stacks.names([4], 0) == {4: ("kmalloc",)}
    assert stacks.names([4], 2) == {4: ("kmalloc2",)}


def test_each_frame_is_located_once_while_modules_are_the_same() -> None:
    located: list[tuple[int, int]] = []

    def note(address: int, generation: int) -> Location:
        located.append((address, generation))
        return locate(address, generation)

    stacks = StackNames(Map(), note)
    for generation in (0, 0, 1, 0):
        stacks.names([3, 4], generation)
        assert stacks.modules(3, generation) == {"card"}
    once = [10, 20, 30]
    assert located == [(at, generation) for generation in (0, 1, 0) for at in once]
