# SPDX-License-Identifier: Apache-2.0
"""Read the kernel's lanes and tables into columns. No interpretation."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U32, U64, Records, contained
from slabmon.base.losses import BLOCK_LOSSES, DMA_LOSSES, DRIVER_PROBES_LOST, EVENTS_FULL
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
from slabmon.kernel.bpf.names import name_hash
from slabmon.kernel.exact_target import Text
from slabmon.kernel.loading.loader import PROCESS_MARKS, Programs
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe.direct_map import find_memory, locate_vmemmap
from slabmon.kernel.programs import FILL_POOL, LOCATE_VMEMMAP, READ_WORD, Direction
from slabmon.kernel.symbols.kallsyms import Symbols
from slabmon.kernel.tables.caches import LARGE
from slabmon.model import STACKLESS

_MARK = np.dtype("u1")
_U64, _INDEX = np.dtype("<u8"), np.dtype("<u4")
_HEAD_WORDS = LANE_HEAD.itemsize // 8


def as_words(records: Records) -> U64:
    """Return records as rows of 64-bit words, which numpy copies eight times faster."""
    return records.view(_U64).reshape(len(records), records.itemsize // 8)


def lane_dtype(slot: np.dtype, slots: int) -> np.dtype:
    """Return the type of one lane: head, then slots (bpf/lanes.h)."""
    return np.dtype([("head", LANE_HEAD), ("slots", slot, slots)])


@dataclass(frozen=True, kw_only=True)
class Allocations:
    """Alloc slots in use, as columns. The keys are those of struct alloc_slot."""

    site: U64  # (slots,)
    gfp_size_key: U64  # (slots,)
    cache: U64  # (slots,)
    variant_key: U64  # (slots,)
    count: U64  # (slots,)
    requested: U64  # (slots,) bytes
    failed: U64  # (slots,)

    @classmethod
    def of(cls, slots: Records) -> Allocations:
        """Return records of ALLOC_SLOT, all in use, as columns."""
        return cls(
            site=slots["site"],
            gfp_size_key=slots["gfp_size_key"],
            cache=slots["cache"],
            variant_key=slots["variant_key"],
            count=slots["count"],
            requested=slots["requested_bytes"],
            failed=slots["failed"].astype(_U64),
        )


def sum_allocations(slots: Records) -> Allocations:
    """Sum slots of equal key, in the order of the keys. `slots` are ALLOC_SLOT of any shape."""
    slots = slots.ravel()
    slots = slots[slots["site"] != 0]
    keys = ("site", "gfp_size_key", "cache", "variant_key")
    order = np.lexsort([slots[key] for key in keys])
    slots = slots[order]
    changed = np.ones(len(slots), bool)
    if len(slots):
        changed[1:] = np.any([slots[key][1:] != slots[key][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(changed)

    def total(column: str) -> U64:
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


@dataclass(frozen=True, kw_only=True)
class Frees:
    """Free slots summed over all lanes, as columns."""

    cache: U64  # (caches,)
    count: U64  # (caches,)
    lifetimes: U64  # (caches, LIFETIMES)


def sum_frees(slots: Records) -> Frees:
    """Sum slots of equal cache. `slots` are FREE_SLOT of any shape."""
    slots = slots.ravel()
    slots = slots[slots["cache"] != 0]
    cache, inverse = np.unique(slots["cache"], return_inverse=True)
    count = np.zeros(len(cache), _U64)
    lifetimes = np.zeros((len(cache), CONSTANTS["LIFETIMES"]), _U64)
    np.add.at(count, inverse, slots["count"])
    np.add.at(lifetimes, inverse, slots["lifetimes"])
    return Frees(cache=cache, count=count, lifetimes=lifetimes)


class Reader:
    """Maps the kernel's tables. Each method reads them as they are now.

    `control` is the record of settings that the programs read, writable.
    """

    def __init__(self, programs: Programs, plan: Plan) -> None:
        self._programs = programs
        self._settings = plan.settings
        self._alloc_slots = lane_dtype(ALLOC_SLOT, plan.defines["NR_ALLOC_SLOTS"])
        self._free_slots = lane_dtype(FREE_SLOT, plan.defines["NR_FREE_SLOTS"])
        self._alloc_maps = plan.lanes(Direction.ALLOC)
        self._free_maps = plan.lanes(Direction.FREE)
        self._page_alloc_maps = plan.lanes(Direction.ALLOC, pages=True)
        self._page_free_maps = plan.lanes(Direction.FREE, pages=True)
        self._lane_count = plan.defines["NR_LANES"]
        self._mapped: dict[str, Records] = {}
        self.control = maps.map_array(programs.maps["shared"], CONTROL, 1, writable=True)[0]
        self._buffers: dict[str, tuple[U64, Records]] = {}
        self._nesting = plan.defines["NR_NESTING"]
        self._tags, self._pool_entries = plan.defines["HAVE_TAGS"], plan.defines["NR_POOL"]
        self._filter_bytes = 1 << plan.defines["NR_FILTER_BITS"]
        self._page_struct = plan.defines.get("PAGE_STRUCT_BYTES", 0)
        self._bulk_alloc = plan.hooks.get("on_bulk_alloc")
        # Tracked objects that are gone all the same, by pool index, and when they were allocated.
        self._gone: I64 = np.zeros(0, np.int64)
        self._gone_ns: U64 = np.zeros(0, _U64)

    def _lanes(self, names: Iterable[str], dtype: np.dtype) -> list[Records]:
        for name in names:
            if name not in self._mapped:
                self._mapped[name] = maps.map_array(
                    self._programs.maps[name], dtype, self._lane_count, writable=True
                )
        return [self._mapped[name] for name in names]

    @property
    def alloc_lanes(self) -> list[Records]:
        """All lanes (CPUs times nesting levels,) of each program that counts allocations."""
        return self._lanes(self._alloc_maps, self._alloc_slots)

    @property
    def _free_lanes(self) -> list[Records]:
        return self._lanes(self._free_maps, self._free_slots)

    @property
    def _page_lanes(self) -> list[Records]:
        allocs = self._lanes(self._page_alloc_maps, self._alloc_slots)
        return allocs + self._lanes(self._page_free_maps, self._free_slots)

    def unmap(self) -> None:
        """Unmap the lanes until they are next read: mapped pages count as this process's memory."""
        self._mapped.clear()

    def prepare(
        self, symbols: Symbols, rng: random.Random, text: Text = (), caches: Sequence[str] = ()
    ) -> None:
        """Write the settings of the programs, before anything is attached.

        `text` is that of the filter's site or module, `caches` are the names of its caches.
        """
        self.control["sample_interval"] = self._settings.sample_bytes
        self._write_text_ranges(symbols)
        self.select_text(text)
        hashes = [name_hash(name) for name in caches]
        self.control["exact_caches"][: len(hashes)] = hashes
        self._fill_pool()
        self._locate_memory(symbols)
        self._write_math_tables()
        self._write_lane_heads(rng)

    def select_text(self, text: Text) -> None:
        """Point the filter of exact mode at this text: () selects nothing."""
        bounds = [bound for text_range in text for bound in text_range]
        self.control["exact_site"] = bounds + [0] * (4 - len(bounds))

    def _write_text_ranges(self, symbols: Symbols) -> None:
        start, end = symbols.core_text()
        self.control["core_text"], self.control["core_text_bytes"] = start, end - start
        if self._bulk_alloc:
            function = symbols.function_range(self._bulk_alloc.function)
            # Its start stands for callers that are not found: never 0, the site of a free slot.
            self.control["bulk_alloc_text"] = function or (1, 1)
        entries = np.array(symbols.large_entries(), _U64).ravel()
        self.control["large_entries"][: len(entries)] = entries

    def _fill_pool(self) -> None:
        if self._tags:
            return
        for first in range(0, self._pool_entries, CONSTANTS["POOL_STEP"]):
            # Backwards: the place given last is taken first, so the pool fills from its start.
            last = self._pool_entries - CONSTANTS["POOL_STEP"] - first
            syscall.run(self._programs.programs[FILL_POOL], last)

    def _locate_memory(self, symbols: Symbols) -> None:
        if READ_WORD in self._programs.programs:
            direct_map, vmemmap = find_memory(symbols.data, self._read_word)
            self.control["direct_map_base"], self.control["vmemmap_base"] = direct_map, vmemmap
        if LOCATE_VMEMMAP in self._programs.programs:
            program = self._programs.programs[LOCATE_VMEMMAP]
            locate_vmemmap(self.control, lambda base: syscall.run(program, base), self._page_struct)

    def _write_math_tables(self) -> None:
        logarithms = np.log2(1 + np.arange(1025) / 1024) * (1 << 26)
        self.control["log2_table"][:1025] = np.rint(logarithms)
        shares = np.arange(1, 258) / 16
        self.control["weight_table"] = np.rint(
            [1 << 16, *(shares / -np.expm1(-shares) * (1 << 16))]
        )

    def _write_lane_heads(self, rng: random.Random) -> None:
        """Number the slots, and draw the first sampling gap of each lane.

        With gaps that start at zero, every lane would sample its first allocation.
        """
        for number, lanes in enumerate(self.alloc_lanes):
            lane_numbers = number * len(lanes) + np.arange(len(lanes))
            lanes["head"]["first_reference"] = lane_numbers * lanes["slots"].shape[1]
            rate = 1 / self._settings.sample_bytes
            lanes["head"]["countdown"] = [math.ceil(rng.expovariate(rate)) for _ in lane_numbers]

    def _read_word(self, address: int) -> int:
        """Return 64 bits of kernel memory."""
        syscall.run(self._programs.programs[READ_WORD], address)
        return int(self.control["word"])

    def mark_process(self, pid: int) -> None:
        """Make a process the root of the process tree that exact mode is limited to."""
        marks = maps.map_array(
            self._programs.maps[PROCESS_MARKS], _MARK, CONSTANTS["PROCESS_IDS"], writable=True
        )
        marks[pid] = 1

    def slots(self) -> Records:
        """Return a copy of all alloc slots, at the positions that samples refer to."""
        words = [as_words(lanes)[:, _HEAD_WORDS:].ravel() for lanes in self.alloc_lanes]
        return np.concatenate(words).view(ALLOC_SLOT)

    def allocations_by_cpu(self) -> list[Allocations]:
        """Return the summed alloc slots of each CPU."""
        per_cpu = [
            np.concatenate(
                [lanes["slots"][i : i + self._nesting].ravel() for lanes in self.alloc_lanes]
            )
            for i in range(0, len(self.alloc_lanes[0]), self._nesting)
        ]
        return [sum_allocations(slots) for slots in per_cpu]

    def frees(self) -> Frees:
        """Return the summed free slots of all lanes."""
        return sum_frees(np.concatenate([lanes["slots"].ravel() for lanes in self._free_lanes]))

    def pages(self) -> tuple[Allocations, Frees] | None:
        """Return the page allocator lanes, or None if they are not counted.

        `site` and `cache` are the order plus one.
        """
        if not self._page_lanes:
            return None
        allocs, frees = self._page_lanes
        return sum_allocations(allocs["slots"]), sum_frees(frees["slots"])

    def large_freed_bytes(self) -> int:
        """Return the freed bytes of page-backed kmalloc."""
        return int(sum(lanes["head"]["large_freed_bytes"].sum() for lanes in self._free_lanes))

    def losses(self) -> Counter[str]:
        """Return the number of lost events by reason, from all lanes."""
        lost = sum(
            lanes["head"]["lost"].sum(axis=0)
            for lanes in self.alloc_lanes + self._free_lanes + self._page_lanes
        )
        result = Counter({reason: int(lost[index]) for index, reason in LOSS_REASONS.items()})
        result["cache_table_full"] += int(self.control["caches_lost"])
        result[DRIVER_PROBES_LOST] = int(self.control["probes_lost"])
        result[EVENTS_FULL] = int(self.control["events_lost"])
        result.update({name: int(self.control[name]) for name in BLOCK_LOSSES + DMA_LOSSES})
        return result

    def _read_hash(self, name: str, value: np.dtype, capacity: int) -> tuple[U64, Records]:
        """Return all entries of a hash map, in arrays that the next call for it overwrites."""
        if name not in self._buffers:
            # Untouched pages of them take no memory.
            self._buffers[name] = np.zeros(capacity, _U64), np.zeros(capacity, value)
        keys, values = self._buffers[name]
        count = maps.read_hash(self._programs.maps[name], keys, values)
        return keys[:count], values[:count]

    def samples(self) -> Records:
        """Return all tracked objects that the filter selects, as records of SAMPLE.

        An entry of the pool is freed by setting its time to 0 and filled by setting it last. So a
        record whose time is the same before, in and after the copy did not change meanwhile.
        """
        # Mapped for this reading only: megabytes that would count as this process's memory.
        pool = maps.map_array(self._programs.maps["pool"], SAMPLE, self._pool_entries)
        indices = self._used_indices()
        before = pool["time_ns"][indices]
        records = as_words(pool).take(indices, 0).view(SAMPLE).ravel()
        mask = (records["time_ns"] != 0) & (records["time_ns"] == before)
        mask &= pool["time_ns"][indices] == before
        if self._settings.exact is not None:
            mask &= records["flags"] & CONSTANTS["SLOT_MATCH"] != 0
        if len(self._gone):
            gone = contained(indices, self._gone) & contained(records["time_ns"], self._gone_ns)
            mask &= ~gone
        return records if mask.all() else as_words(records)[mask].view(SAMPLE).ravel()

    def _used_indices(self) -> I64:
        """Return the indices of the pool that may hold an object."""
        if self._tags:
            tags = maps.map_array(self._programs.maps["tags"], _U64, self._pool_entries)
            return np.flatnonzero(tags.copy())  # a copy does not change while it is searched
        used = max(int(lanes["head"]["pool_used"].max()) for lanes in self.alloc_lanes)
        return np.arange(used)

    def addresses(self) -> tuple[U64, I64, U64]:
        """Return address, pool index and time of allocation of each tracked object that the filter
        selects, page-backed ones left out."""
        if self._tags:
            tags = maps.map_array(self._programs.maps["tags"], _U64, self._pool_entries).copy()
            indices = np.flatnonzero(tags)
            addresses = tags[indices]
        else:
            addresses, values = self._read_hash("samples", _INDEX, self._settings.samples)
            indices = values.astype(np.int64)
        pool = maps.map_array(self._programs.maps["pool"], SAMPLE, self._pool_entries)
        records = as_words(pool).take(indices, 0).view(SAMPLE).ravel()
        mask = (records["time_ns"] != 0) & (addresses & np.uint64(1) == 0)
        mask[mask] = self.slots()["cache"][records["slot"][mask]] != LARGE
        if self._settings.exact is not None:
            mask &= records["flags"] & CONSTANTS["SLOT_MATCH"] != 0
        return addresses[mask], indices[mask], records["time_ns"][mask]

    def forget(self, indices: I64, times_ns: U64) -> None:
        """Leave tracked objects out of samples() from now on: they were freed without an event."""
        self._gone = np.concatenate([self._gone, indices])
        self._gone_ns = np.concatenate([self._gone_ns, times_ns])

    def forget_tracked(self) -> None:
        """Stop tracking all objects, while no program is attached that counts events: their frees
        were missed."""
        pool = maps.map_array(
            self._programs.maps["pool"], SAMPLE, self._pool_entries, writable=True
        )
        pool["time_ns"][self._used_indices()] = 0
        if self._tags:
            tags = self._programs.maps["tags"]
            maps.map_array(tags, _U64, self._pool_entries, writable=True)[:] = 0
        else:
            samples = self._programs.maps["samples"]
            addresses, indices = self._read_hash("samples", _INDEX, self._settings.samples)
            for i in range(len(addresses)):
                maps.delete(samples, addresses[i : i + 1])
                maps.push(self._programs.maps["free_indices"], indices[i : i + 1])
        shared = np.dtype([("control", CONTROL), ("filter", "u1", self._filter_bytes)])
        maps.map_array(self._programs.maps["shared"], shared, 1, writable=True)["filter"] = 0
        self._gone, self._gone_ns = self._gone[:0], self._gone_ns[:0]

    def caches(self) -> tuple[U64, Records]:
        """Return the keys and records (CACHE_RECORD) of all caches seen."""
        return self._read_hash("caches", CACHE_RECORD, self._settings.caches)

    def unobserved_frees(self) -> dict[int, int]:
        """Return the number of proven unobserved frees by cache key."""
        keys, counts = self._read_hash("unobserved_frees", _U64, self._settings.caches)
        return dict(zip(keys.tolist(), counts.tolist(), strict=True))

    def clear_stacks(self, ids: I64 | U32, before_ns: int) -> None:
        """Clear the stack of objects that have one of these and were sampled before that time."""
        pool = maps.map_array(
            self._programs.maps["pool"], SAMPLE, self._pool_entries, writable=True
        )
        indices = self._used_indices()
        mask = contained(pool["stack"][indices], ids) & (pool["time_ns"][indices] < before_ns)
        pool["stack"][indices[mask]] = STACKLESS
