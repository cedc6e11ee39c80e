# SPDX-License-Identifier: Apache-2.0
"""A synthetic host: streams of allocations with known lives, seen as slabmon would see them.

Each allocation of s bytes is sampled with probability 1 - exp(-s / R), independently: what the
kernel's countdown with exponential gaps amounts to (ADR 7; tests/unit/analysis/test_sampling.py
holds the countdown to it). Counters are exact. Objects from before tracking began are not
tracked, while their frees are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.base.fields import Host
from slabmon.kernel.settings import Settings
from slabmon.memory.reading import MemoryReading
from slabmon.model import Cache, Device, Live, Mode, Slabinfo, Snapshot, Tracked, Tracking
from tests.support.builders import cache, site, snapshot

SiteKey = tuple[str, int, str | None]
BOOT_NS = 10**12
MEMORY = 16 << 30
Rng = np.random.Generator


@dataclass
class Stream:
    """Objects of one call site: births and deaths in seconds (infinity: never freed). Deaths in
    `unseen` happen without an event."""

    site: SiteKey
    cache: str
    size: int
    births: np.ndarray
    deaths: np.ndarray
    unseen: np.ndarray | None = None


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
    `available`, is so, less what the kernel cannot reclaim."""

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


class Simulation:
    """Snapshots of a world, in order of time."""

    def __init__(self, world: World, rng: Rng) -> None:
        self._world, self._rng = world, rng
        parts: list[Stream | Churn] = [*world.streams, *world.churns]
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
        self._since = self._last = 0.0

    def _sampled(self) -> tuple[np.ndarray, ...]:
        """Of all objects that will be tracked: birth, death as it will be seen, size, cache,
        site; by birth."""
        columns: list[tuple[np.ndarray, ...]] = []
        for stream in self._world.streams:
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
                )
            )
        if not columns:
            return tuple(np.zeros(0) for _ in range(5))
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
        births, deaths, size, in_cache, of_site = self._objects
        end = int(np.searchsorted(births, t, "right"))
        start = int(np.searchsorted(births, self._since, "right"))
        mask = start + np.flatnonzero(deaths[start:end] > t)
        parts = [(births[mask], size[mask], in_cache[mask], of_site[mask])]
        counts = [
            self._rng.poisson(churn.rate(t) * churn.life * chance)
            for churn, chance in zip(self._world.churns, self._chances, strict=True)
        ]
        which = np.repeat(np.arange(len(counts)), counts)
        size_of, cache_of, site_of, life_of = self._churn_columns
        ages = self._rng.exponential(life_of[which])
        parts.append((t - ages, size_of[which], cache_of[which], site_of[which]))
        born, size, in_cache, of_site = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        kept = born > self._since
        born, size, in_cache, of_site = born[kept], size[kept], in_cache[kept], of_site[kept]
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
            tgid=np.ones(count, np.uint32),
            cgroup=np.ones(count, np.uint64),
            comm=np.full(count, b"load", "S16"),
            stack=np.full(count, -1, np.int32),
            stacks={},
            cgroups={},
            gfp_class={0xCC0: "kernel"},
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
            devices=tuple(d for d in (make(t) for make in world.devices) if d),
            losses={"nesting": int(world.lost(t))},
            tracked=tracked,
            memory=self._memory(t, caches),
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
