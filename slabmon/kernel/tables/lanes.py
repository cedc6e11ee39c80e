# SPDX-License-Identifier: Apache-2.0
"""From the kernel's lanes and tables to columns: reading and summing, nothing else."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slabmon.base.losses import EVENTS_FULL
from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.bpf.layout import (
    ALLOC_SLOT,
    CACHE_RECORD,
    CONSTANTS,
    CONTROL,
    FREE_SLOT,
    LANE_HEAD,
    LOSS_REASONS,
    SAMPLE,
)
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.plan import FILL_POOL, LOCATE_VMEMMAP, READ_WORD, Plan
from slabmon.kernel.probe.direct_map import find_memory, locate_vmemmap
from slabmon.kernel.symbols.kallsyms import Symbols
from slabmon.model import STACKLESS

_U64 = np.dtype("<u8")
_HEAD_WORDS = LANE_HEAD.itemsize // 8


def as_words(records: np.ndarray) -> np.ndarray:
    """Records as rows of 64-bit words: numpy copies those eight times faster than structs."""
    return records.view(_U64).reshape(len(records), records.itemsize // 8)


def lane_dtype(slot: np.dtype, slots: int) -> np.dtype:
    """One lane: head, then slots (bpf/lanes.h)."""
    return np.dtype([("head", LANE_HEAD), ("slots", slot, slots)])


@dataclass(frozen=True)
class Allocations:
    """Alloc slots in use; columns of equal length."""

    site: np.ndarray
    gfp_size_key: np.ndarray
    cache: np.ndarray
    variant_key: np.ndarray
    count: np.ndarray
    requested: np.ndarray
    failed: np.ndarray

    @classmethod
    def of(cls, slots: np.ndarray) -> Allocations:
        """These slots, each in use, as they are."""
        return cls(
            slots["site"],
            slots["gfp_size_key"],
            slots["cache"],
            slots["variant_key"],
            slots["count"],
            slots["requested_bytes"],
            slots["failed"].astype(_U64),
        )


def sum_allocations(slots: np.ndarray) -> Allocations:
    """Sums slots of equal key. `slots` is any shape of ALLOC_SLOT records."""
    slots = slots.ravel()
    slots = slots[slots["site"] != 0]
    keys = ("site", "gfp_size_key", "cache", "variant_key")
    order = np.lexsort([slots[key] for key in keys])
    slots = slots[order]
    changed = np.ones(len(slots), bool)
    if len(slots):
        changed[1:] = np.any([slots[key][1:] != slots[key][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(changed)

    def total(column: str) -> np.ndarray:
        values = slots[column]
        return np.add.reduceat(values, starts) if len(starts) else values[:0]

    first = slots[starts]
    return Allocations(
        site=first["site"],
        gfp_size_key=first["gfp_size_key"],
        cache=first["cache"],
        variant_key=first["variant_key"],
        count=total("count"),
        requested=total("requested_bytes"),
        failed=total("failed"),
    )


@dataclass(frozen=True)
class Frees:
    """Distinct free slots summed over all lanes. `lifetimes` has one row per cache."""

    cache: np.ndarray
    count: np.ndarray
    lifetimes: np.ndarray


def sum_frees(slots: np.ndarray) -> Frees:
    """Sums slots of equal cache. `slots` is any shape of FREE_SLOT records."""
    slots = slots.ravel()
    slots = slots[slots["cache"] != 0]
    cache, inverse = np.unique(slots["cache"], return_inverse=True)
    count = np.zeros(len(cache), _U64)
    lifetimes = np.zeros((len(cache), CONSTANTS["LIFETIMES"]), _U64)
    np.add.at(count, inverse, slots["count"])
    np.add.at(lifetimes, inverse, slots["lifetimes"])
    return Frees(cache, count, lifetimes)


class Reader:
    """Maps the kernel's tables; each method reads them as they are now."""

    def __init__(self, programs: Programs, plan: Plan) -> None:
        self._programs = programs
        self._settings = plan.settings
        alloc = lane_dtype(ALLOC_SLOT, plan.defines["NR_ALLOC_SLOTS"])
        free = lane_dtype(FREE_SLOT, plan.defines["NR_FREE_SLOTS"])
        self._lane_count = plan.defines["NR_LANES"]
        self._alloc = {"kmalloc_lanes": alloc, "cache_alloc_lanes": alloc}
        self._free = {"kfree_lanes": free, "cache_free_lanes": free}
        if plan.defines["HAVE_BULK_ALLOC"]:
            self._alloc["bulk_alloc_lanes"] = alloc
        if plan.defines["HAVE_BULK_FREE"]:
            self._free["bulk_free_lanes"] = free
        if plan.defines["HAVE_RCU_SHEAVES"]:
            self._free["rcu_free_lanes"] = free
        self._pages: dict[str, np.dtype] = {}
        if self._settings.pages:
            self._pages = {"page_alloc_lanes": alloc, "page_free_lanes": free}
        self._mapped: dict[str, np.ndarray] = {}
        self.control = maps.map_array(programs.maps["shared"], CONTROL, 1, writable=True)[0]
        self._buffers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._nesting = plan.defines["NR_NESTING"]
        self._tags, self._places = plan.defines["HAVE_TAGS"], plan.defines["NR_POOL"]
        self._page_struct = plan.defines.get("PAGE_STRUCT_BYTES", 0)
        self._bulk_alloc = plan.hooks.get("on_bulk_alloc")

    def _lanes(self, kinds: Mapping[str, np.dtype]) -> list[np.ndarray]:
        for name, dtype in kinds.items():
            if name not in self._mapped:
                self._mapped[name] = maps.map_array(
                    self._programs.maps[name], dtype, self._lane_count, writable=True
                )
        return [self._mapped[name] for name in kinds]

    @property
    def alloc_lanes(self) -> list[np.ndarray]:
        """All lanes of each program that counts allocations."""
        return self._lanes(self._alloc)

    @property
    def _free_lanes(self) -> list[np.ndarray]:
        return self._lanes(self._free)

    def unmap(self) -> None:
        """Gives the lanes up until they are next read: they count as this process's memory."""
        self._mapped.clear()

    def prepare(self, symbols: Symbols, exact_site: tuple[int, int], rng: random.Random) -> None:
        """Settings and first sampling gaps, before anything is attached. Each lane's first gap
        is drawn here: started at zero, every lane would sample its first allocation."""
        sample_bytes = self._settings.sample_bytes
        self.control["sample_interval"] = sample_bytes
        start, end = symbols.core_text()
        self.control["core_text"], self.control["core_text_bytes"] = start, end - start
        self.control["exact_site"] = exact_site
        if self._bulk_alloc:
            function = symbols.function_range(self._bulk_alloc.function)
            # Its start stands for callers that are not found: never 0, the site of a free slot.
            self.control["bulk_alloc_text"] = function or (1, 1)
        entries = np.array(symbols.large_entries(), _U64).ravel()
        self.control["large_entries"][: len(entries)] = entries
        if not self._tags:
            for first in range(0, self._places, CONSTANTS["POOL_STEP"]):
                # Backwards: the place given last is taken first, so the pool fills from its start.
                last = self._places - CONSTANTS["POOL_STEP"] - first
                syscall.run(self._programs.programs[FILL_POOL], last)
        if READ_WORD in self._programs.programs:
            found = find_memory(symbols.data, self._read_word)
            self.control["direct_map_base"], self.control["vmemmap_base"] = found
        if LOCATE_VMEMMAP in self._programs.programs:
            program = self._programs.programs[LOCATE_VMEMMAP]
            locate_vmemmap(self.control, lambda base: syscall.run(program, base), self._page_struct)
        steps = np.log2(1 + np.arange(1025) / 1024) * (1 << 26)
        self.control["log2_table"][:1025] = np.rint(steps)
        shares = np.arange(1, 258) / 16
        self.control["weight_table"] = np.rint(
            [1 << 16, *(shares / -np.expm1(-shares) * (1 << 16))]
        )
        for number, lanes in enumerate(self.alloc_lanes):
            lane_numbers = number * len(lanes) + np.arange(len(lanes))
            lanes["head"]["first_reference"] = lane_numbers * lanes["slots"].shape[1]
            gaps = [math.ceil(rng.expovariate(1 / sample_bytes)) for _ in lane_numbers]
            lanes["head"]["countdown"] = gaps

    def _read_word(self, address: int) -> int:
        """64 bits of kernel memory."""
        syscall.run(self._programs.programs[READ_WORD], address)
        return int(self.control["word"])

    def slots(self) -> np.ndarray:
        """A copy of all alloc slots, at the positions that samples refer to."""
        words = [as_words(lanes)[:, _HEAD_WORDS:].ravel() for lanes in self.alloc_lanes]
        return np.concatenate(words).view(ALLOC_SLOT)

    def allocations_by_cpu(self) -> list[Allocations]:
        """Distinct alloc slots of each CPU by itself."""
        per_cpu = [
            np.concatenate(
                [lanes["slots"][i : i + self._nesting].ravel() for lanes in self.alloc_lanes]
            )
            for i in range(0, len(self.alloc_lanes[0]), self._nesting)
        ]
        return [sum_allocations(slots) for slots in per_cpu]

    def frees(self) -> Frees:
        return sum_frees(np.concatenate([lanes["slots"].ravel() for lanes in self._free_lanes]))

    def pages(self) -> tuple[Allocations, Frees] | None:
        """Page allocator lanes: order + 1 stands where call site and cache stand elsewhere."""
        if not self._pages:
            return None
        taken, freed = self._lanes(self._pages)
        return sum_allocations(taken["slots"]), sum_frees(freed["slots"])

    def large_freed_bytes(self) -> int:
        return int(sum(lanes["head"]["large_freed_bytes"].sum() for lanes in self._free_lanes))

    def losses(self) -> Counter[str]:
        """Lost events by reason, from all lanes."""
        lost = sum(
            lanes["head"]["lost"].sum(axis=0)
            for lanes in self._lanes(self._alloc | self._free | self._pages)
        )
        result = Counter({reason: int(lost[index]) for index, reason in LOSS_REASONS.items()})
        result["cache_table_full"] += int(self.control["caches_lost"])
        result[EVENTS_FULL] = int(self.control["events_lost"])
        return result

    def _hash(self, name: str, value: np.dtype, capacity: int) -> tuple[np.ndarray, np.ndarray]:
        """All entries of a hash map, in arrays that the next call for it overwrites."""
        if name not in self._buffers:
            # Untouched pages of them take no memory.
            self._buffers[name] = np.zeros(capacity, _U64), np.zeros(capacity, value)
        keys, values = self._buffers[name]
        count = maps.read_hash(self._programs.maps[name], keys, values)
        return keys[:count], values[:count]

    def samples(self) -> np.ndarray:
        """All tracked objects the filter selects.

        A place is freed by setting its time to 0 and filled by setting it last, so a record
        whose time is the same before, in and after the copy was not touched meanwhile.
        """
        # Mapped for this reading only: megabytes that would count as this process's memory.
        pool = maps.map_array(self._programs.maps["pool"], SAMPLE, self._places)
        places = self._used_places()
        before = pool["time_ns"][places]
        records = as_words(pool).take(places, 0).view(SAMPLE).ravel()
        whole = (records["time_ns"] != 0) & (records["time_ns"] == before)
        whole &= pool["time_ns"][places] == before
        if self._settings.exact is not None:
            whole &= records["flags"] & CONSTANTS["SLOT_MATCH"] != 0
        return records if whole.all() else as_words(records)[whole].view(SAMPLE).ravel()

    def _used_places(self) -> np.ndarray:
        """Places of the pool that may hold an object."""
        if self._tags:
            tags = maps.map_array(self._programs.maps["tags"], _U64, self._places)
            return np.flatnonzero(tags.copy())  # of what does not change meanwhile
        used = max(int(lanes["head"]["pool_used"].max()) for lanes in self.alloc_lanes)
        return np.arange(used)

    def caches(self) -> tuple[np.ndarray, np.ndarray]:
        return self._hash("caches", CACHE_RECORD, self._settings.caches)

    def unobserved_frees(self) -> dict[int, int]:
        """Proven unobserved frees by cache key."""
        keys, counts = self._hash("unobserved_frees", _U64, self._settings.caches)
        return dict(zip(keys.tolist(), counts.tolist(), strict=True))

    def without_stack(self, numbers: np.ndarray, before_ns: int) -> None:
        """Takes these stacks from the objects that were tracked before."""
        pool = maps.map_array(self._programs.maps["pool"], SAMPLE, self._places, True)
        places = self._used_places()
        found = np.isin(pool["stack"][places], numbers) & (pool["time_ns"][places] < before_ns)
        pool["stack"][places[found]] = STACKLESS
