# SPDX-License-Identifier: Apache-2.0
"""Worlds in which something leaks."""

from __future__ import annotations

import numpy as np

from slabmon.model import Device
from tests.scenarios.host import CacheFacts, Churn, Rng, Stream, World
from tests.scenarios.load import HOUR, background, forever, kmalloc, place, poisson, steady
from tests.scenarios.scenario import Scenario, log_uniform, suspects
from tests.support.builders import device


def slow_leak(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    key = place(rng, "parse_request", "netdrv" if rng.random() < 0.5 else None)
    per_hour = log_uniform(rng, 8e6, 2e8)
    births = poisson(rng, per_hour / size / HOUR, 0, end)
    leak = Stream(key, cache, size, births, forever(births))
    world.streams.append(leak)
    rate, life = log_uniform(rng, 300, 5000), log_uniform(rng, 0.001, 5)
    world.churns.append(Churn(key, cache, size, lambda t: rate, life))
    return Scenario(world, suspects(leak), end, per_hour=per_hour)


def one_a_minute_exact(rng: Rng) -> Scenario:
    end = 2 * HOUR
    world = World(sample_bytes=0)
    size = int(rng.choice((64, 96, 192, 512)))
    births = np.arange(rng.uniform(0, 60), end, 60.0)
    leak = Stream(place(rng, "tick", "sensor"), f"kmalloc-{size}", size, births, forever(births))
    world.streams = [leak] + [
        steady(
            rng,
            place(rng, f"other_{i}"),
            f"kmalloc-{size}",
            size,
            log_uniform(rng, 0.1, 3),
            log_uniform(rng, 1, 120),
            end,
        )
        for i in range(6)
    ]
    return Scenario(world, suspects(leak), end, per_hour=60 * size)


def one_a_minute_sampled(rng: Rng) -> Scenario:
    end = 6 * HOUR
    world = background(rng, end)
    births = np.arange(rng.uniform(0, 60), end, 60.0)
    leak = Stream(
        place(rng, "tick", "sensor"),
        "sensor_event",
        int(rng.integers(100, 700)),
        births,
        forever(births),
    )
    world.streams += [
        leak,
        steady(rng, place(rng, "poll", "sensor"), "sensor_event", leak.size, 0.2, 2.0, end),
    ]
    return Scenario(world, suspects(leak), end, 60, per_hour=60 * leak.size)


def leak_per_open(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    rate = log_uniform(rng, 2e7, 3e8) / HOUR / size
    # Opens come in bouts: a script, then nothing for a while.
    bouts = poisson(rng, 1 / 40, 0, end)
    births = np.sort(np.repeat(bouts, rng.poisson(rate * 40, len(bouts))))
    births = births + rng.random(len(births)) * 5
    births.sort()
    leak = Stream(place(rng, "chardev_open", "chardev"), cache, size, births, forever(births))
    buffers = steady(rng, place(rng, "chardev_read", "chardev"), cache, size, rate, 30, end)
    world.streams += [leak, buffers]
    return Scenario(world, suspects(leak), end, per_hour=rate * size * HOUR)


def leak_in_batches(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    every, per_hour = rng.uniform(30, 120), log_uniform(rng, 3e7, 3e8)
    at = np.arange(rng.uniform(0, every), end, every)
    births = np.sort(np.repeat(at, max(1, round(per_hour / HOUR * every / size))))
    births = births + rng.random(len(births)) * 0.5
    births.sort()
    leak = Stream(place(rng, "flush_batch", "store"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, suspects(leak), end, per_hour=len(births) * size / end * HOUR)


def leak_from_a_moment(rng: Rng) -> Scenario:
    end, start = 5 * HOUR, rng.uniform(1.0, 2.0) * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    per_hour = log_uniform(rng, 3e7, 3e8)
    births = poisson(rng, per_hour / size / HOUR, start, end)
    leak = Stream(place(rng, "new_feature"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, suspects(leak), end, 60, start, per_hour)


def leak_over_module(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    truth: set[tuple[str, str]] = {("driver", "wide")}
    for i in range(12):
        cache, size = kmalloc(rng)
        births = poisson(rng, log_uniform(rng, 4e5, 1.2e6) / size / HOUR, 0, end)
        leak = Stream(place(rng, f"wide_{i}", "wide"), cache, size, births, forever(births))
        world.streams.append(leak)
        truth |= suspects(leak)
    return Scenario(world, frozenset(truth), end, 60)


def devm_rebind(rng: Rng) -> Scenario:
    end, every = 3 * HOUR, rng.uniform(60, 240)
    world = background(rng, end)
    binds = np.sort(np.arange(every, end, every) + rng.uniform(-0.3, 0.3) * every)
    size = int(rng.choice((256, 512, 1024)))
    births = np.repeat(binds, 4) + np.tile(np.arange(4) * 0.01, len(binds))
    leak = Stream(("devm_kmalloc", 0x3C, None), f"kmalloc-{size}", size, births, forever(births))
    world.streams.append(leak)

    def parent(t: float) -> Device:
        count = 5 + 4 * int(np.searchsorted(binds, t))
        return device(
            "platform",
            "soc-hub",
            driver="hub",
            module="hub",
            resources=count,
            managed_bytes=count * size,
        )

    world.devices.append(parent)
    truth = suspects(leak, ("device", "platform:soc-hub"))
    return Scenario(world, truth, end, per_hour=4 * size / every * HOUR)


def unseen_frees_leak(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    births = poisson(rng, log_uniform(rng, 1, 20), 0, end)
    leaks = rng.random(len(births)) < 0.3
    deaths = np.where(leaks, np.inf, births + rng.exponential(20, len(births)))
    size = 256
    leak = Stream(
        place(rng, "node_new"), "rcu_nodes", size, births, deaths, np.ones(len(births), bool)
    )
    world.streams.append(leak)
    world.caches["rcu_nodes"] = CacheFacts(observable=False)
    return Scenario(
        world,
        frozenset({("cache", "rcu_nodes")}),
        end,
        60,
        per_hour=float(leaks.sum()) * size / end * HOUR,
    )


def leak_over_reset(rng: Rng) -> Scenario:
    made = slow_leak(rng)
    made.world.reset = rng.uniform(0.1, 0.35) * HOUR
    return Scenario(
        made.world, made.truth, made.end, starts=made.world.reset, per_hour=made.per_hour
    )


def leak_with_losses(rng: Rng) -> Scenario:
    made = slow_leak(rng)
    made.world.lost = lambda t: t / 60
    return made
