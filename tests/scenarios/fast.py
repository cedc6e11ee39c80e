# SPDX-License-Identifier: Apache-2.0
"""Worlds of minutes: what exhausts memory, and what grows as fast and ends."""

from __future__ import annotations

import numpy as np

from tests.scenarios.host import CacheFacts, Rng, Stream, World
from tests.scenarios.load import HOUR, background, batches, forever, place, poisson, steady
from tests.scenarios.scenario import NOTHING, Scenario, Truth, log_uniform

MINUTE, DAY = 60.0, 24 * HOUR
GIB = 1 << 30
SMALL = 512 << 20
STEP = 10.0
_BIN = 5.0  # seconds in which a load is constant
_MOST_OBJECTS = 2e6


def _load(rng: Rng, per_second: float, start: float, end: float) -> np.ndarray:
    """Arrivals of a load that is not quite steady: from one bin to the next its rate varies by a
    factor that is drawn once."""
    borders = np.arange(start, end, _BIN)
    wobble = rng.uniform(0.02, 0.3)
    factors = np.exp(rng.normal(-(wobble**2) / 2, wobble, len(borders)))
    counts = rng.poisson(per_second * _BIN * factors)
    births = np.repeat(borders, counts) + rng.random(int(counts.sum())) * _BIN
    return np.sort(births[births < end])


def _sized(rng: Rng, amount: float) -> tuple[str, int]:
    """A kmalloc cache of which not too many objects make this amount of bytes."""
    sizes = [size for size in (64, 256, 512, 1024, 2048, 4096) if amount / size <= _MOST_OBJECTS]
    size = int(rng.choice(sizes or [4096]))
    return f"kmalloc-{size}", size


def _host(rng: Rng, end: float, memory: float) -> World:
    world = background(rng, end)
    world.memory = int(memory)
    world.available = rng.uniform(0.3, 0.97)  # of an idle host nearly all is
    return world


def _memory(rng: Rng) -> float:
    return log_uniform(rng, 1, 64) * GIB


def _of(*streams: Stream) -> Truth:
    return frozenset(
        {("memory", "unreclaimable slab"), *(("cache", stream.cache) for stream in streams)}
    )


def _leak(rng: Rng, memory: float, per_second: float, lasts: float) -> Scenario:
    starts = rng.uniform(2, 6) * MINUTE
    return _leak_on(_host(rng, starts + lasts, memory), rng, per_second, starts, starts + lasts)


def _leak_on(world: World, rng: Rng, per_second: float, starts: float, end: float) -> Scenario:
    lasts = end - starts
    cache, size = _sized(rng, per_second * lasts)
    births = _load(rng, per_second / size, starts, end)
    leak = Stream(place(rng, "submit", "store"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(
        world, NOTHING, end, STEP, starts, exhausts=_of(leak), exhausts_per_hour=per_second * HOUR
    )


def four_a_second(rng: Rng) -> Scenario:
    return _leak(rng, rng.choice((4, 8, 16, 32, 64)) * GIB, 4 * (1 << 20), 8 * MINUTE)


def percent_a_minute(rng: Rng) -> Scenario:
    memory = _memory(rng)
    return _leak(rng, memory, log_uniform(rng, 0.01, 0.04) * memory / MINUTE, 7 * MINUTE)


def small_host(rng: Rng) -> Scenario:
    return _leak(rng, SMALL, log_uniform(rng, 0.002, 0.02) * SMALL / MINUTE, 15 * MINUTE)


def within_a_day(rng: Rng) -> Scenario:
    starts = rng.uniform(2, 6) * MINUTE
    end = starts + 17 * MINUTE
    world = _host(rng, end, log_uniform(rng, 4, 64) * GIB)
    hours = log_uniform(rng, 1, 16)
    return _leak_on(world, rng, world.available * world.memory / hours / HOUR, starts, end)


def fast_batches(rng: Rng) -> Scenario:
    """Hundreds of objects at once, every few seconds."""
    memory = _memory(rng)
    starts, lasts = rng.uniform(2, 6) * MINUTE, 9 * MINUTE
    end = starts + lasts
    world = _host(rng, end, memory)
    per_second = log_uniform(rng, 0.01, 0.03) * memory / MINUTE
    cache, size = _sized(rng, per_second * lasts)
    at = poisson(rng, 1 / rng.uniform(0.5, 4), starts, end)
    births = np.repeat(at, max(1, round(per_second * lasts / size / len(at))))
    leak = Stream(place(rng, "flush", "store"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, NOTHING, end, STEP, starts, exhausts=_of(leak))


def over_caches(rng: Rng) -> Scenario:
    """Twelve caches, none of which grows fast."""
    memory = log_uniform(rng, 2, 32) * GIB
    starts, lasts = rng.uniform(2, 6) * MINUTE, 9 * MINUTE
    end = starts + lasts
    world = _host(rng, end, memory)
    share = log_uniform(rng, 0.01, 0.03) / 12
    streams = []
    for i in range(12):
        size = 4096 + 64 * i
        births = _load(rng, share * memory / MINUTE / size, starts, end)
        streams.append(
            Stream(place(rng, f"net_{i}", "net"), f"net_{i}", size, births, forever(births))
        )
    world.streams += streams
    return Scenario(world, NOTHING, end, STEP, starts, exhausts=_of(*streams))


def _innocent(world: World, end: float) -> Scenario:
    return Scenario(world, NOTHING, end, STEP)


def short_ramp(rng: Rng) -> Scenario:
    """Something large is loaded at a constant pace, and stays."""
    memory, end = _memory(rng), 15 * MINUTE
    world = _host(rng, end, memory)
    start, lasts = rng.uniform(2, 6) * MINUTE, rng.uniform(10, 75)
    per_second = log_uniform(rng, 0.01, 0.1) * memory / MINUTE
    cache, size = _sized(rng, per_second * lasts)
    births = _load(rng, per_second / size, start, start + lasts)
    world.streams.append(Stream(place(rng, "load"), cache, size, births, forever(births)))
    return _innocent(world, end)


def service_start(rng: Rng) -> Scenario:
    """A cache fills, fast at first."""
    memory, end = _memory(rng), 25 * MINUTE
    world = _host(rng, end, memory)
    total = log_uniform(rng, 0.02, 0.2) * memory
    cache, size = _sized(rng, total)
    start, tau = rng.uniform(2, 6) * MINUTE, log_uniform(rng, 15, 400)
    births = start + rng.exponential(tau, round(total / size))
    # Requests come in spates of some seconds.
    spate = rng.uniform(0.5, 8)
    births = np.sort(np.round(births / spate) * spate + rng.random(len(births)) * 0.2)
    births = births[births < end]
    world.streams.append(Stream(place(rng, "remember"), cache, size, births, forever(births)))
    return _innocent(world, end)


def big_find(rng: Rng) -> Scenario:
    """A walk over millions of files: reclaimable, but for what a security module keeps of each."""
    memory, end = _memory(rng), 12 * MINUTE
    world = _host(rng, end, memory)
    start, lasts = rng.uniform(2, 4) * MINUTE, rng.uniform(2, 7) * MINUTE
    per_second = log_uniform(rng, 0.01, 0.05) * memory / MINUTE
    # Ten files each, to have fewer objects.
    births = _load(rng, per_second / 15000, start, start + lasts)
    for cache, size in (("dentry", 1920), ("ext4_inode_cache", 11840), ("lsm_inode_cache", 1240)):
        world.streams.append(Stream(place(rng, "walk"), cache, size, births, forever(births)))
        world.caches[cache] = CacheFacts(reclaimable=cache != "lsm_inode_cache")
    return _innocent(world, end)


def builds(rng: Rng) -> Scenario:
    """Jobs of a minute or two, one after the other, that free all in the end."""
    memory, end = _memory(rng), 30 * MINUTE
    world = _host(rng, end, memory)
    total = log_uniform(rng, 0.01, 0.1) * memory
    cache, size = _sized(rng, total)
    ramp, hold, pause = rng.uniform(20, 75), rng.uniform(5, 60), rng.uniform(10, 240)
    starts = np.arange(rng.uniform(60, 300), end, ramp + hold + pause)
    number = round(total / size)
    births = np.concatenate([start + np.sort(rng.random(number)) * ramp for start in starts])
    deaths = np.repeat(starts + ramp + hold, number) + rng.random(len(births))
    world.streams.append(Stream(place(rng, "job"), cache, size, births, deaths))
    return _innocent(world, end)


def rush(rng: Rng) -> Scenario:
    """Load that rises within a minute to a higher level, of sessions that live for up to two."""
    memory, end = _memory(rng), 15 * MINUTE
    world = _host(rng, end, memory)
    level = log_uniform(rng, 0.01, 0.08) * memory
    life, ramp = log_uniform(rng, 5, 120), rng.uniform(1, 60)
    cache, size = _sized(rng, level * end / life)
    start = rng.uniform(2, 6) * MINUTE
    births = _load(rng, level / size / life, start, end)
    early = (births - start) / ramp
    births = births[rng.random(len(births)) < early]
    deaths = births + rng.exponential(life, len(births))
    world.streams.append(Stream(place(rng, "session"), cache, size, births, deaths))
    return _innocent(world, end)


def restless(rng: Rng) -> Scenario:
    """Large groups of objects that come and go at random."""
    memory, end = _memory(rng), 30 * MINUTE
    world = _host(rng, end, memory)
    level = log_uniform(rng, 0.02, 0.2) * memory
    for i in range(3):
        life, groups = log_uniform(rng, 20, 900), rng.uniform(3, 60)
        size = 4096
        count = max(1, min(20000, int(level / 3 / size / groups)))
        size = int(level / 3 / count / groups)
        key = place(rng, f"task_{i}")
        world.streams.append(batches(rng, key, f"tasks_{i}", size, life / groups, count, life, end))
    return _innocent(world, end)


def young_host(rng: Rng) -> Scenario:
    """Services start while the host is up for less than ten minutes."""
    memory, end = _memory(rng), 20 * MINUTE
    world = _host(rng, end, memory)
    world.uptime = rng.uniform(5, 60)
    for i in range(4):
        per_second = log_uniform(rng, 0.002, 0.01) * memory / MINUTE
        cache, size = _sized(rng, per_second * 8 * MINUTE)
        births = _load(rng, per_second / size, 0, rng.uniform(2, 8) * MINUTE)
        world.streams.append(Stream(place(rng, f"start_{i}"), cache, size, births, forever(births)))
    return _innocent(world, end)


def small_quiet(rng: Rng) -> Scenario:
    """512 MiB, the usual load, and a service of 1 to 6 MiB that starts."""
    end = 40 * MINUTE
    world = _host(rng, end, SMALL)
    total, tau = log_uniform(rng, 1e6, 6e6), log_uniform(rng, 10, 400)
    start = rng.uniform(2, 20) * MINUTE
    births = np.sort(start + rng.exponential(tau, round(total / 512)))
    world.streams += [
        Stream(place(rng, "serve"), "kmalloc-512", 512, births, forever(births)),
        steady(rng, place(rng, "conn"), "kmalloc-1024", 1024, 20.0, 60.0, end),
    ]
    return _innocent(world, end)


def long_fill(rng: Rng) -> Scenario:
    """A cache that fills at a constant pace for minutes: until then it is what exhausts memory."""
    memory, end = _memory(rng), 20 * MINUTE
    world = _host(rng, end, memory)
    start, lasts = rng.uniform(2, 6) * MINUTE, rng.uniform(2, 8) * MINUTE
    per_second = log_uniform(rng, 0.005, 0.03) * memory / MINUTE
    cache, size = _sized(rng, per_second * lasts)
    births = _load(rng, per_second / size, start, start + lasts)
    world.streams.append(Stream(place(rng, "fill"), cache, size, births, forever(births)))
    return _innocent(world, end)
