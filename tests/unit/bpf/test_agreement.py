# SPDX-License-Identifier: Apache-2.0
"""All ways to allocate and to free, mixed at random: the programs agree with a model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.tables.lanes import sum_allocations
from tests.support.hosts import facts
from tests.support.kallsyms import CORE
from tests.support.native import BULK_ALLOC, OBJECTS, Native

SETTINGS = Settings(
    site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256, exact=Filter(min_size=1)
)
SITE = CORE + 0x144
SIZE, STEPS, REGION = 256, 150, 1 << 24


class Machine:
    """Three caches, their live objects, and what happened to them."""

    def __init__(self, native: Native, seed: int) -> None:
        self.native = native
        self.rng = np.random.default_rng(seed)
        self.caches = [native.cache(name, SIZE) for name in (b"kmalloc-256", b"dentry", b"maple")]
        for number, cache in enumerate(self.caches):
            native.slab(OBJECTS + REGION * number, REGION, cache)
        self.live: dict[int, int] = {}
        self.allocs: Counter[int] = Counter()
        self.frees: Counter[int] = Counter()
        self._next = [0, 0, 0]

    def fresh(self, number: int, count: int) -> list[int]:
        """Return addresses of a cache that were never used."""
        first = OBJECTS + REGION * number + SIZE * self._next[number]
        self._next[number] += count
        addresses = [first + SIZE * i for i in range(count)]
        self.live.update(dict.fromkeys(addresses, self.caches[number]))
        self.allocs[self.caches[number]] += count
        return addresses

    def some(self, count: int) -> list[int]:
        """Remove and return live objects of any cache."""
        addresses = list(self.rng.permutation(np.array(list(self.live), np.uint64))[:count])
        for address in addresses:
            self.frees[self.live.pop(int(address))] += 1
        return [int(address) for address in addresses]

    def step(self) -> None:
        native, cpu = self.native, int(self.rng.integers(4))
        count = int(self.rng.choice([1, 7, 16, 17, 61]))
        match int(self.rng.integers(7)):
            case 0:
                native.kmalloc(SITE, self.fresh(0, 1)[0], 200, SIZE, cpu=cpu)
            case 1:
                native.cache_alloc(SITE, self.fresh(1, 1)[0], self.caches[1], cpu=cpu)
            case 2 | 6:
                number = int(self.rng.integers(3))
                native.bulk_alloc(self.caches[number], self.fresh(number, count), cpu=cpu)
            case 3:
                for address in self.some(1):
                    native.kfree(address, cpu=cpu)
            case 4:
                for address in self.some(1):
                    native.rcu_free(address, 1, cpu=cpu)
            case 5:
                native.bulk_free(self.some(count), cpu=cpu)


@pytest.mark.parametrize("kernel", ["6.18", "7.3"])
@pytest.mark.parametrize("seed", range(5))
def test_counts_and_tracked_objects_are_those_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, seed: int
) -> None:
    native = Native(make_plan(facts(kernel), SETTINGS), tmp_path, monkeypatch)
    native.start()
    native.set("time", 1000)
    native.callers(BULK_ALLOC + 9, SITE)
    machine = Machine(native, seed)
    for _ in range(STEPS):
        machine.step()
    allocated, freed = sum_allocations(native.reader.slots()), native.reader.frees()
    counts: Counter[int] = Counter()
    for cache, count in zip(allocated.cache.tolist(), allocated.count.tolist(), strict=True):
        counts[cache] += count
    assert counts == machine.allocs
    assert dict(zip(freed.cache.tolist(), freed.count.tolist(), strict=True)) == machine.frees
    assert native.tracked() == sorted(machine.live)
    assert freed.lifetimes.sum() == machine.frees.total()
    assert native.pool_used() == len(machine.live)
    assert native.reader.losses().total() == 0
    slots, samples = native.reader.slots(), native.reader.samples()
    caches = Counter(slots[samples["slot"]]["cache"].tolist())
    assert caches == Counter(machine.live.values())
