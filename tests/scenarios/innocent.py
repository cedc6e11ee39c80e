# SPDX-License-Identifier: Apache-2.0
"""Worlds in which nothing leaks, however it looks."""

from __future__ import annotations

import numpy as np

from tests.scenarios.host import CacheFacts, Rng, Stream
from tests.scenarios.load import (
    HOUR,
    background,
    batches,
    forever,
    kmalloc,
    place,
    poisson,
    steady,
    varying,
)
from tests.scenarios.scenario import NOTHING, Scenario, log_uniform


def quiet(rng: Rng) -> Scenario:
    end = 3 * HOUR
    return Scenario(background(rng, end), NOTHING, end)


def many_sites(rng: Rng) -> Scenario:
    end = 2 * HOUR
    world = background(rng, end)
    for i in range(1200):
        cache, size = kmalloc(rng)
        life = log_uniform(rng, 60, 1200)
        rate = rng.uniform(0.5, 4) * 65536 / size / life
        key = place(rng, f"site_{i}", f"mod_{i % 90}" if i % 3 else None)
        births = poisson(rng, rate, -4 * life, end)
        world.streams.append(
            Stream(key, cache, size, births, births + rng.exponential(life, len(births)))
        )
    return Scenario(world, NOTHING, end, 60)


def module_lifetime(rng: Rng) -> Scenario:
    end, start = 3 * HOUR, rng.uniform(0.1, 1.5) * HOUR
    world = background(rng, end)
    for i in range(6):
        cache, size = kmalloc(rng)
        births = start + np.sort(rng.exponential(rng.uniform(1, 90), int(rng.integers(200, 9000))))
        world.streams.append(
            Stream(place(rng, f"probe_{i}", "gpu"), cache, size, births, forever(births))
        )
    return Scenario(world, NOTHING, end)


def reclaimable_growth(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    for cache, symbol, size in (
        ("dentry", "__d_alloc", 192),
        ("ext4_inode_cache", "ext4_alloc_inode", 1184),
    ):
        births = poisson(rng, log_uniform(rng, 2, 30), 0, end)
        world.streams.append(Stream(place(rng, symbol), cache, size, births, forever(births)))
        world.caches[cache] = CacheFacts(reclaimable=True)
    return Scenario(world, NOTHING, end)


def _warm_up(rng: Rng, tau: float, end: float) -> Scenario:
    world = background(rng, end)
    cache, size = kmalloc(rng) if rng.random() < 0.5 else ("route_cache", 448)
    total = log_uniform(rng, 4e6, 4e8) / size
    births = varying(rng, lambda t: total / tau * np.exp(-t / tau), total / tau, 0, end)
    world.streams.append(Stream(place(rng, "remember"), cache, size, births, forever(births)))
    return Scenario(world, NOTHING, end)


def warm_up(rng: Rng) -> Scenario:
    return _warm_up(rng, log_uniform(rng, 120, 1500), 3 * HOUR)


def slow_warm_up(rng: Rng) -> Scenario:
    return _warm_up(rng, log_uniform(rng, 1500, 2 * HOUR), 5 * HOUR)


def bounded_cache(rng: Rng) -> Scenario:
    """Fills at a constant pace, then replaces its oldest."""
    end = 4 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    fill = log_uniform(rng, 200, 1200)
    births = poisson(rng, log_uniform(rng, 4e6, 1e8) / size / fill, 0, end)
    deaths = births + fill
    world.streams.append(Stream(place(rng, "lru_add"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end)


def daily_cycle(rng: Rng) -> Scenario:
    end, day = 60 * HOUR, 24 * HOUR
    world = background(rng, end)
    phase = rng.uniform(0, day)
    for i in range(4):
        cache, size = kmalloc(rng)
        life = log_uniform(rng, 60, 1800)
        most = min(2.0, log_uniform(rng, 3e6, 5e7) / size / life)

        def rate(t: np.ndarray, most: float = most) -> np.ndarray:
            return most * (0.52 + 0.48 * np.sin(2 * np.pi * (t - phase) / day))

        births = varying(rng, rate, most, -4 * life, end)
        deaths = births + rng.exponential(life, len(births))
        world.streams.append(Stream(place(rng, f"visitor_{i}"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end, 240)


def periodic_load(rng: Rng) -> Scenario:
    end, every = 6 * HOUR, rng.uniform(300, HOUR)
    world = background(rng, end)
    cache, size = kmalloc(rng)
    starts = np.arange(rng.uniform(0, every), end, every)
    number = round(log_uniform(rng, 2e6, 1e8) / size)
    ramp, hold = rng.uniform(0.1, 0.5) * every, rng.uniform(0.1, 0.4) * every
    births = np.concatenate([start + np.sort(rng.random(number)) * ramp for start in starts])
    deaths = np.repeat(starts + ramp + hold, number)
    world.streams.append(Stream(place(rng, "nightly_job"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end, 60)


def burst(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    for i in range(int(rng.integers(1, 4))):
        cache, size = kmalloc(rng)
        start = rng.uniform(0.05, 0.8) * end
        births = start + np.sort(
            rng.random(round(log_uniform(rng, 2e6, 2e8) / size))
        ) * rng.uniform(1, 60)
        keep = rng.random() < 0.5
        deaths = forever(births) if keep else births + rng.uniform(600, 5000)
        world.streams.append(Stream(place(rng, f"burst_{i}"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end)


def fragmentation(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    for name in ("kmalloc-256", "frag_cache"):
        world.streams.append(steady(rng, place(rng, f"use_{name}"), name, 256, 2.0, 300.0, end))
        world.caches[name] = CacheFacts(waste=lambda t: 1 + t / HOUR)
    return Scenario(world, NOTHING, end)


def counter_reset(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    world.reset = rng.uniform(0.3, 0.7) * end
    return Scenario(world, NOTHING, end)


def lost_frees(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    stream = steady(rng, place(rng, "hot_path"), cache, size, 4.0, 60.0, end)
    stream.unseen = rng.random(len(stream.births)) < rng.uniform(0.05, 0.5)
    lost = np.sort(stream.deaths[stream.unseen])
    world.streams.append(stream)
    world.lost = lambda t: float(np.searchsorted(lost, t))
    return Scenario(world, NOTHING, end)


def unseen_frees(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    stream = steady(
        rng, place(rng, "node_new"), "rcu_nodes", 576, log_uniform(rng, 1, 20), 30.0, end
    )
    stream.unseen = np.ones(len(stream.births), bool)
    world.streams.append(stream)
    world.caches["rcu_nodes"] = CacheFacts(observable=False)
    return Scenario(world, NOTHING, end)


def replacement(rng: Rng) -> Scenario:
    """Balance since long ago, lives longer than slabmon has watched."""
    end = 3 * HOUR
    world = background(rng, end)
    for i in range(3):
        life = log_uniform(rng, 0.5, 6) * HOUR
        size = int(rng.choice((256, 1024, 4096)))
        rate = log_uniform(rng, 1e7, 2e8) / size / life
        name = f"kmalloc-{size}" if i else "sessions"
        world.streams.append(steady(rng, place(rng, f"session_{i}"), name, size, rate, life, end))
    return Scenario(world, NOTHING, end)


def rising_load(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    begin, ramp = rng.uniform(0, HOUR), rng.uniform(0.2, 1.5) * HOUR
    cache, size = kmalloc(rng)
    life = log_uniform(rng, 10, 600)
    most = min(20.0, log_uniform(rng, 5e6, 1e8) / size / life)

    def rate(t: np.ndarray) -> np.ndarray:
        return most * (0.2 + 0.8 * np.clip((t - begin) / ramp, 0, 1))

    births = varying(rng, rate, most, -5 * life, end)
    deaths = births + rng.exponential(life, len(births))
    world.streams.append(Stream(place(rng, "handle"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end)


def boot(rng: Rng) -> Scenario:
    """Services start one after the other for a quarter of an hour."""
    end = 2 * HOUR
    world = background(rng, end)
    world.uptime = rng.uniform(5, 30)
    for i in range(8):
        cache, size = kmalloc(rng)
        births = poisson(rng, log_uniform(rng, 1e6, 2e7) / size / 900, 0, rng.uniform(300, 1000))
        world.streams.append(Stream(place(rng, f"start_{i}"), cache, size, births, forever(births)))
    world.streams.append(batches(rng, place(rng, "fork"), "task", 4096, 20, 3, 900, end))
    return Scenario(world, NOTHING, end)
