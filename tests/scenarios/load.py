# SPDX-License-Identifier: Apache-2.0
"""Building blocks of worlds: arrivals, lives, and the background of a busy host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.scenarios.host import CacheFacts, Churn, Rng, SiteKey, Stream, World

SIZES = (32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096)
HOUR = 3600.0


def poisson(rng: Rng, rate: float, start: float, end: float) -> np.ndarray:
    """Arrivals at a constant rate per second."""
    return np.sort(rng.uniform(start, end, rng.poisson(rate * max(0.0, end - start))))


def varying(
    rng: Rng, rate: Callable[[np.ndarray], np.ndarray], most: float, start: float, end: float
) -> np.ndarray:
    """Arrivals at a rate that varies, never above `most`: thinned (Lewis and Shedler, Naval
    Research Logistics 26, 1979)."""
    found = poisson(rng, most, start, end)
    return found[rng.random(len(found)) * most < rate(found)]


def forever(births: np.ndarray) -> np.ndarray:
    """Deaths of what is never freed."""
    return np.full(len(births), np.inf)


def steady(
    rng: Rng, site: SiteKey, cache: str, size: int, rate: float, life: float, end: float
) -> Stream:
    """A population in balance since long before time 0, of exponential lives."""
    births = poisson(rng, rate, -6 * life, end)
    deaths = births + rng.exponential(life, len(births))
    alive = deaths > 0
    return Stream(site, cache, size, births[alive], deaths[alive])


def batches(
    rng: Rng,
    site: SiteKey,
    cache: str,
    size: int,
    every: float,
    count: int,
    life: float,
    end: float,
) -> Stream:
    """Objects that come and go together, as those of a process do."""
    at = poisson(rng, 1 / every, -6 * life, end)
    lives = rng.exponential(life, len(at))
    number = rng.poisson(count, len(at))
    births = np.repeat(at, number) + rng.random(int(number.sum())) * 0.1
    deaths = np.repeat(at + lives, number) + 0.1 + rng.random(len(births)) * 0.1
    order = np.argsort(births)
    births, deaths = births[order], deaths[order]
    alive = deaths > 0
    return Stream(site, cache, size, births[alive], deaths[alive])


def kmalloc(rng: Rng) -> tuple[str, int]:
    """A kmalloc cache and its size."""
    size = int(rng.choice(SIZES))
    return f"kmalloc-{size}", size


def place(rng: Rng, name: str, module: str | None = None) -> SiteKey:
    """A call site."""
    return name, int(rng.integers(16, 512)), module


def background(rng: Rng, end: float) -> World:
    """A busy host on which nothing leaks: churn, sessions of minutes, processes, long-lived
    objects, kmalloc and caches of their own."""
    world = World()
    for i in range(40):
        cache, size = kmalloc(rng)
        rate, life = 10 ** rng.uniform(0, 3.5), 10 ** rng.uniform(-3, 1)
        world.churns.append(Churn(place(rng, f"churn_{i}"), cache, size, _constant(rate), life))
    for i in range(25):
        cache, size = kmalloc(rng) if rng.random() < 0.7 else (f"session_{i}", 640)
        life = 60 * 10 ** rng.uniform(0, 1.5)
        rate = min(5.0, 10 ** rng.uniform(1, 4) / life, 2e5 / end)
        module = f"mod_{i % 7}" if rng.random() < 0.5 else None
        world.streams.append(
            steady(rng, place(rng, f"serve_{i}", module), cache, size, rate, life, end)
        )
    for i in range(8):
        cache, size = kmalloc(rng)
        world.streams.append(
            batches(
                rng,
                place(rng, f"fork_{i}"),
                cache,
                size,
                rng.uniform(20, 300),
                int(rng.integers(5, 200)),
                rng.uniform(30, 600),
                end,
            )
        )
    for i in range(5):
        cache, size = kmalloc(rng)
        births = poisson(rng, rng.uniform(1, 50), 0, 20)
        world.streams.append(Stream(place(rng, f"setup_{i}"), cache, size, births, forever(births)))
    rate, life = rng.uniform(0.5, 5), rng.uniform(300, 1800)
    world.streams.append(steady(rng, place(rng, "d_alloc"), "dentry", 192, rate, life, end))
    world.caches["dentry"] = CacheFacts(reclaimable=True)
    return world


def _constant(rate: float) -> Callable[[float], float]:
    return lambda t: rate
