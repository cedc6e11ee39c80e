# SPDX-License-Identifier: Apache-2.0
"""Room in the kernel's table of stacks: who goes, and that nobody gets another's stack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import SAMPLE, STACK_TOTAL
from slabmon.kernel.tables import stack_table
from slabmon.kernel.tables.stack_table import EVERY_NS, GRACE_NS, StackTable
from slabmon.model import OTHER_STACKS, STACKLESS

NUMBERS = 32  # of which two are never taken out


class Table:
    """A table over arrays instead of maps, with a clock that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.totals = np.zeros(NUMBERS + 1, STACK_TOTAL)
        self.deleted: list[int] = []
        self.taken: list[tuple[list[int], int]] = []
        self.now = 10**12
        monkeypatch.setattr(maps, "map_array", lambda *_, **__: self.totals)
        monkeypatch.setattr(maps, "delete", lambda _, key: self.deleted.append(int(key[0])))
        programs: Any = SimpleNamespace(maps={"stacks": 0, "stack_totals": 1})
        plan: Any = SimpleNamespace(
            settings=SimpleNamespace(stack_frames=8), defines={"NR_STACK_IDS": NUMBERS}
        )
        self.table = StackTable(
            programs,
            plan,
            lambda numbers, until: self.taken.append((numbers.tolist(), until)),
            lambda: self.now,
        )

    def objects(self, *stacks: int, age_ns: int = 10**9) -> np.ndarray:
        found = np.zeros(len(stacks), SAMPLE)
        found["stack"], found["time_ns"] = stacks, self.now - age_ns
        return found

    def read(self) -> dict[int, int]:
        found = self.table.read()
        return dict(zip(found.stack.tolist(), found.bytes.tolist(), strict=True))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Table:
    """Stacks 0 to 9 with 100 bytes more each, collisions seen once."""
    found = Table(monkeypatch)
    found.totals["bytes"][:10] = np.arange(1, 11) * 100
    found.table.evict(found.objects(), 0)
    found.now += EVERY_NS
    return found


def test_nobody_goes_while_all_find_room(full: Table) -> None:
    assert not len(full.table.evict(full.objects(), 0))
    assert full.deleted == []


def test_small_stacks_without_objects_go_when_others_find_no_room(full: Table) -> None:
    changed = full.table.evict(full.objects(3, 5, STACKLESS), 1)
    assert full.deleted == changed.tolist() == [0, 1, 2, 4, 6, 7]  # 8 and 9 are the largest
    assert full.read() == {3: 400, 5: 600, 8: 900, 9: 1000, OTHER_STACKS: 2600, STACKLESS: 0}


def test_not_more_often_than_now_and_then(full: Table) -> None:
    full.table.evict(full.objects(3), 1)
    full.now += GRACE_NS
    full.table.evict(full.objects(), 2)
    full.now += EVERY_NS - GRACE_NS - 1
    assert not len(full.table.evict(full.objects(), 3))
    full.now += 1
    assert full.table.evict(full.objects(), 3).tolist() == [3]


def test_who_takes_the_place_begins_at_nothing(full: Table) -> None:
    full.table.evict(full.objects(), 1)
    full.totals["bytes"][0] += 7  # an event that had the number before, or one that comes soon
    assert 0 not in full.read()
    full.now += GRACE_NS
    assert 0 in full.table.evict(full.objects(), 1).tolist(), "read again what it is called"
    full.totals["bytes"][0] += 5000
    read = full.read()
    assert (read[0], read[OTHER_STACKS]) == (5000, 3600 + 7)
    assert sum(read.values()) == full.totals["bytes"].sum(), "nothing is forgotten"


def test_an_object_whose_number_passed_on_has_no_stack(full: Table) -> None:
    full.table.evict(full.objects(), 1)
    full.now += GRACE_NS // 2
    samples = full.objects(0, 9, age_ns=GRACE_NS // 4)
    full.table.evict(samples, 1)
    assert samples["stack"].tolist() == [STACKLESS, 9]
    full.now += GRACE_NS
    until = full.now - GRACE_NS // 2
    full.table.evict(full.objects(), 1)
    assert full.taken == [([0, 1, 2, 3, 4, 5, 6, 7], until)]
    late = full.objects(0, age_ns=0)
    full.table.evict(late, 1)
    assert late["stack"].tolist() == [0], "a stack of its own"


def test_after_a_restart_collisions_of_before_are_no_reason(full: Table) -> None:
    again = StackTable.__new__(StackTable)
    again.__dict__.update(full.table.__dict__, _collisions=-1, _next=0)
    assert not len(again.evict(full.objects(), 500))
    full.now += EVERY_NS
    assert not len(again.evict(full.objects(), 500))


def test_the_largest_are_told(full: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_table, "KEPT", 2)
    full.totals["bytes"][NUMBERS] = 11
    assert full.read() == {8: 900, 9: 1000, OTHER_STACKS: 3600, STACKLESS: 11}
    assert not full.table.read().stderr.any()


def test_figures_have_no_more_digits_than_their_error_allows(full: Table) -> None:
    full.totals["variance"][9] = 100  # an error of 2,560 bytes: in steps of 128
    full.totals["bytes"][9] = 1_000_001
    read = full.table.read()
    row = read.stack.tolist().index(9)
    assert (int(read.bytes[row]), int(read.stderr[row])) == (1_000_064, 2560)
    assert full.read()[8] == 900, "what is exact stays so"


def test_stacks_are_copied_again_on_request_and_when_another_has_the_id(full: Table) -> None:
    full.totals["samples"] = 9
    evicted = full.table.evict(full.objects(3), 1)
    assert np.flatnonzero(full.totals["samples"] == 0).tolist() == evicted.tolist()
    full.totals["samples"] = 9
    full.table.copy_again([2, 5])
    assert set(np.flatnonzero(full.totals["samples"] == 0).tolist()) == {2, 5}
    full.table.copy_again()
    assert not full.totals["samples"].any()
