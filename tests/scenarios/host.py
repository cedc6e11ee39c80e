# SPDX-License-Identifier: Apache-2.0
"""A synthetic host: streams of allocations with known lives, seen as slabmon would see them.

Each allocation of s bytes is sampled with probability 1 - exp(-s / R), independently: what the
kernel's countdown with exponential gaps amounts to (ADR 7; tests/unit/analysis/test_sampling.py
holds the countdown to it). Counters are exact. Objects from before tracking began are not
tracked, while their frees are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.fields import Host
from slabmon.kernel.settings import Settings
from slabmon.memory.reading import MemoryReading
from slabmon.model import (
    Cache,
    Device,
    Live,
    Mode,
    Process,
    Slabinfo,
    Snapshot,
    Tracked,
    Tracking,
)
from tests.support.builders import cache, site, snapshot

SiteKey = tuple[str, int, str | None]
BOOT_NS = 10**12
MEMORY = 16 << 30
Rng = np.random.Generator


@dataclass
class Stream:
    """Objects of one call site: births and deaths in seconds (infinity: never freed). Deaths in
    `unseen` happen without an event. They are allocated by process `tgid` in `cgroup`, with this
    stack."""

    site: SiteKey
    cache: str
    size: int
    births: np.ndarray
    deaths: np.ndarray
    unseen: np.ndarray | None = None
    tgid: int = 1
    cgroup: str = ""
    stack: tuple[str, ...] = ()


@dataclass
class Churn:
    """Short lives, too many to list: `rate` per second at a time, mean life in seconds."""

    site: SiteKey
    cache: str
    size: int
    rate: Callable[[float], float]
    life: float


@dataclass
class CacheFacts:
    """What is said of a cache; `waste` is a factor on its slab memory at a time."""

    reclaimable: bool = False
    observable: bool = True
    waste: Callable[[float], float] = lambda t: 1.0


@dataclass
class World:
    """Everything on a host. `reset` is when tracking begins again; `lost` the events lost by a
    time; `uptime` seconds at time 0; `sample_bytes` 0 is exact mode. Of its `memory` bytes a share,
    `available`, is so, less what the kernel cannot reclaim. `descriptors` says how many a process
    has open at a time, `killed` how many of a cgroup the kernel has killed by then."""

    streams: list[Stream] = field(default_factory=list)
    churns: list[Churn] = field(default_factory=list)
    caches: dict[str, CacheFacts] = field(default_factory=dict)
    devices: list[Callable[[float], Device | None]] = field(default_factory=list)
    lost: Callable[[float], float] = lambda t: 0.0
    reset: float | None = None
    uptime: float = 1e5
    sample_bytes: int = Settings.sample_bytes
    memory: int = MEMORY
    available: float = 0.6
    descriptors: dict[int, Callable[[float], float]] = field(default_factory=dict)
    killed: dict[str, Callable[[float], float]] = field(default_factory=dict)


def _slab(size: int) -> int:
    """Bytes of a slab for objects of this size: for 16 of them, as with 4 CPUs, but at most 32 KiB
    (calculate_order() in mm/slub.c)."""
    return min(32 << 10, 1 << max(12, (16 * size - 1).bit_length()))


class Simulation:
    """Snapshots of a world, in order of time."""

    def __init__(self, world: World, rng: Rng) -> None:
        self._world, self._rng = world, rng
        # Of amounts that are read in between: snapshots do not depend on it.
        self._noise = np.random.default_rng(int(world.uptime * 1000))
        parts: list[Stream | Churn] = [*world.streams, *world.churns]
        self._slabs = {part.cache: _slab(part.size) for part in parts}
        names, keys = (
            dict.fromkeys(part.cache for part in parts),
            dict.fromkeys(part.site for part in parts),
        )
        self._caches, self._sites = list(names), list(keys)
        self._cache_of = {name: i for i, name in enumerate(self._caches)}
        self._site_of = {key: i for i, key in enumerate(self._sites)}
        self._objects = self._sampled()
        self._births = [np.sort(s.births) for s in world.streams]
        self._deaths = [np.sort(s.deaths) for s in world.streams]
        self._seen_deaths = [
            np.sort(s.deaths if s.unseen is None else s.deaths[~s.unseen]) for s in world.streams
        ]
        self._churned = np.zeros(len(world.churns))
        self._chances = [self._chance(churn.size) for churn in world.churns]
        self._churn_columns = (
            np.array([churn.size for churn in world.churns], int),
            np.array([self._cache_of[churn.cache] for churn in world.churns], int),
            np.array([self._site_of[churn.site] for churn in world.churns], int),
            np.array([churn.life for churn in world.churns], float),
        )
        self._cgroup_names = list(dict.fromkeys(["/", *(s.cgroup or "/" for s in world.streams)]))
        self._stack_names = list(dict.fromkeys(s.stack for s in world.streams if s.stack))
        allocators = [
            (s.tgid, 1 + self._cgroup_names.index(s.cgroup or "/"), self._stack_number(s.stack))
            for s in world.streams
        ]
        tgids, cgroups, stacks = zip(*allocators, (1, 1, -1), strict=True)
        self._tgids = np.array(tgids, np.uint32)
        self._cgroups = np.array(cgroups, np.uint64)
        self._stacks = np.array(stacks, np.int32)
        self._since = self._last = 0.0

    def _stack_number(self, stack: tuple[str, ...]) -> int:
        return self._stack_names.index(stack) if stack else -1

    def _sampled(self) -> tuple[np.ndarray, ...]:
        """Of all objects that will be tracked: birth, death as it will be seen, size, cache,
        site, stream; by birth."""
        columns: list[tuple[np.ndarray, ...]] = []
        for number, stream in enumerate(self._world.streams):
            chosen = self._rng.random(len(stream.births)) < self._chance(stream.size)
            deaths = stream.deaths
            if stream.unseen is not None:
                deaths = np.where(stream.unseen, np.inf, deaths)
            count = int(chosen.sum())
            columns.append(
                (
                    stream.births[chosen],
                    deaths[chosen],
                    np.full(count, stream.size),
                    np.full(count, self._cache_of[stream.cache]),
                    np.full(count, self._site_of[stream.site]),
                    np.full(count, number),
                )
            )
        if not columns:
            return tuple(np.zeros(0) for _ in range(6))
        merged = [np.concatenate(column) for column in zip(*columns, strict=True)]
        order = np.argsort(merged[0])
        return tuple(column[order] for column in merged)

    def _chance(self, size: int) -> float:
        interval = np.array([self._world.sample_bytes])
        return float(probability(np.array([float(size)]), interval)[0])

    def run(self, end: float, step: float) -> Iterator[Snapshot]:
        """A snapshot every `step` seconds."""
        for t in np.arange(step, end + step / 2, step).tolist():
            yield self.at(t)

    def slab_bytes(self, t: float) -> dict[str, tuple[int, bool]]:
        """Memory in whole slabs by cache at this time, and whether it can be reclaimed."""
        held = dict.fromkeys(self._caches, 0.0)
        for stream, births, deaths in zip(
            self._world.streams, self._births, self._deaths, strict=True
        ):
            live = np.searchsorted(births, t, "right") - np.searchsorted(deaths, t, "right")
            held[stream.cache] += float(live) * stream.size
        for churn in self._world.churns:
            held[churn.cache] += self._noise.poisson(churn.rate(t) * churn.life) * churn.size
        facts = {name: self._world.caches.get(name, CacheFacts()) for name in held}
        return {
            name: (
                math.ceil(size * facts[name].waste(t) / self._slabs[name]) * self._slabs[name],
                facts[name].reclaimable,
            )
            for name, size in held.items()
        }

    def devices(self, t: float) -> list[Device]:
        """All devices at this time."""
        return [device for make in self._world.devices if (device := make(t))]

    def at(self, t: float) -> Snapshot:
        """The host at this time."""
        world = self._world
        if world.reset is not None and t >= world.reset > self._since:
            self._since = world.reset
            self._churned[:] = 0
        tracked = self._tracked(t)
        allocs = np.zeros((2, len(self._caches)))  # objects, bytes
        frees, live = np.zeros((2, len(self._caches))), np.zeros(len(self._caches))
        by_site = np.zeros((2, len(self._sites)))

        def count(row: int, of: int, size: int, born: float, died: float) -> None:
            allocs[:, row] += born, born * size
            frees[:, row] += died, died * size
            by_site[:, of] += born, born * size

        for stream, births, deaths, seen in zip(
            world.streams, self._births, self._deaths, self._seen_deaths, strict=True
        ):
            ends = np.searchsorted(births, (self._since, t), "right")
            gone = np.searchsorted(seen, (self._since, t), "right")
            row = self._cache_of[stream.cache]
            count(
                row,
                self._site_of[stream.site],
                stream.size,
                float(ends[1] - ends[0]),
                float(gone[1] - gone[0]),
            )
            live[row] += ends[1] - np.searchsorted(deaths, t, "right")
        for i, churn in enumerate(world.churns):
            self._churned[i] += self._rng.poisson(
                churn.rate(t) * (t - max(self._last, self._since))
            )
            now = self._rng.poisson(churn.rate(t) * churn.life)
            row = self._cache_of[churn.cache]
            count(
                row,
                self._site_of[churn.site],
                churn.size,
                self._churned[i],
                max(0.0, self._churned[i] - now),
            )
            live[row] += now
        self._last = t
        return self._snapshot(t, tracked, allocs, frees, live, by_site)

    def _tracked(self, t: float) -> Tracked:
        births, deaths, size, in_cache, of_site, of_stream = self._objects
        end = int(np.searchsorted(births, t, "right"))
        start = int(np.searchsorted(births, self._since, "right"))
        mask = start + np.flatnonzero(deaths[start:end] > t)
        columns = (births, size, in_cache, of_site, of_stream)
        parts = [tuple(column[mask] for column in columns)]
        counts = [
            self._rng.poisson(churn.rate(t) * churn.life * chance)
            for churn, chance in zip(self._world.churns, self._chances, strict=True)
        ]
        which = np.repeat(np.arange(len(counts)), counts)
        size_of, cache_of, site_of, life_of = self._churn_columns
        ages = self._rng.exponential(life_of[which])
        none = np.full(len(which), -1)  # the last of the lists of who allocates
        parts.append((t - ages, size_of[which], cache_of[which], site_of[which], none))
        born, size, in_cache, of_site, of_stream = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        kept = born > self._since
        born, size, in_cache, of_site = born[kept], size[kept], in_cache[kept], of_site[kept]
        of_stream = of_stream[kept].astype(int)
        count = len(born)
        offset = round(self._world.uptime * 1e9)
        return Tracked(
            cache=in_cache.astype(np.int64),
            site=of_site.astype(np.int64),
            bytes=size.astype(np.uint32),
            requested=size.astype(np.uint32),
            interval=np.full(count, self._world.sample_bytes, np.uint32),
            born_ns=(offset + np.rint(born * 1e9)).astype(np.uint64),
            now_ns=offset + round(t * 1e9),
            gfp=np.full(count, 0xCC0, np.uint64),
            tgid=self._tgids[of_stream],
            cgroup=self._cgroups[of_stream],
            comm=np.full(count, b"load", "S16"),
            stack=self._stacks[of_stream],
            stacks=dict(enumerate(self._stack_names)),
            cgroups={i + 1: path for i, path in enumerate(self._cgroup_names)},
            gfp_class={0xCC0: "kernel"},
            context=np.ones(count, np.uint8),
            device=np.zeros(count, np.uint32),
        )

    def _snapshot(
        self,
        t: float,
        tracked: Tracked,
        allocs: np.ndarray,
        frees: np.ndarray,
        live: np.ndarray,
        by_site: np.ndarray,
    ) -> Snapshot:
        world = self._world
        size = tracked.bytes.astype(float)
        weight = 1 / probability(size, tracked.interval)

        def estimates(rows: np.ndarray, count: int) -> list[Live]:
            # Without errors and bounds, which cost time and no verdict is made of.
            objects = np.bincount(rows, weight, count).astype(np.int64).tolist()
            held = np.bincount(rows, weight * size, count).astype(np.int64).tolist()
            return [Live(*both) for both in zip(objects, held, strict=True)]

        caches = []
        for i, estimate in enumerate(estimates(tracked.cache, len(self._caches))):
            facts = world.caches.get(self._caches[i], CacheFacts())
            each = max(8, round(allocs[1, i] / allocs[0, i])) if allocs[0, i] else 64
            held = int(live[i]) + 1000
            freed = frees[:, i] if facts.observable else np.zeros(2)
            caches.append(
                cache(
                    self._caches[i],
                    object_size=each,
                    allocs=int(allocs[0, i]),
                    frees=int(freed[0]),
                    requested_bytes=int(allocs[1, i]),
                    allocated_bytes=int(allocs[1, i]),
                    freed_bytes=int(freed[1]),
                    live=estimate,
                    frees_observable=facts.observable,
                    reclaimable=facts.reclaimable,
                    slabinfo=Slabinfo(held, held + 64, each, int(held * each * facts.waste(t))),
                )
            )
        sites = [
            site(
                *key,
                allocs=int(by_site[0, i]),
                requested_bytes=int(by_site[1, i]),
                allocated_bytes=int(by_site[1, i]),
                live=estimate,
            )
            for i, (key, estimate) in enumerate(
                zip(self._sites, estimates(tracked.site, len(self._sites)), strict=True)
            )
        ]
        mode = Mode.SAMPLED if world.sample_bytes else Mode.EXACT
        return snapshot(
            host=Host("6.12.0", "x86_64", 4, "boot", world.memory),
            tracking=Tracking(1.7e9 + self._since, t - self._since, mode, world.sample_bytes),
            caches=tuple(caches),
            sites=tuple(sites),
            devices=tuple(self.devices(t)),
            losses={"nesting": int(world.lost(t))},
            tracked=tracked,
            memory=self._memory(t, caches),
            processes=tuple(
                Process(tgid=tgid, started_ns=1, descriptors=round(opened(t)))
                for tgid, opened in world.descriptors.items()
            )
            or None,
            oom_kills={path: int(kills(t)) for path, kills in world.killed.items()},
        )

    def _memory(self, t: float, caches: list[Cache]) -> MemoryReading:
        held = sum(
            row.slabinfo.slab_bytes for row in caches if row.slabinfo and not row.reclaimable
        )
        total = self._world.memory
        amounts = {
            "MemTotal": total,
            "MemAvailable": max(0, int(self._world.available * total) - held),
            "SUnreclaim": held,
        }
        return MemoryReading(taken=1.7e9 + t, amounts=amounts)
