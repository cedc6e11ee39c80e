"""The scenarios: what happens, and which suspects are right. Every number is drawn by the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slabmon.model import Device
from tests.scenarios.host import CacheFacts, Churn, Rng, Stream, World
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
from tests.unit.builders import device

Truth = frozenset[tuple[str, str]]
NOTHING: Truth = frozenset()


@dataclass(frozen=True)
class Scenario:
    """A world, the right suspects (kind and name; any of them is a hit), what leaks from when on
    at how many bytes per hour (0: nothing, or not constant), and for how long it is watched."""

    world: World
    truth: Truth
    end: float
    step: float = 30.0
    starts: float = 0.0
    per_hour: float = 0.0


class Entry(NamedTuple):
    """A scenario by name, and one sentence about it."""

    name: str
    about: str
    make: Callable[[Rng], Scenario]


def _log(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _suspects(stream: Stream, *more: tuple[str, str]) -> Truth:
    symbol, offset, module = stream.site
    label = f"{symbol}+{offset:#x}" + (f" [{module}]" if module else "")
    found = {("site", label), ("cache", stream.cache), *more}
    return frozenset(found | {("driver", module)} if module else found)


def slow_leak(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    key = place(rng, "parse_request", "netdrv" if rng.random() < 0.5 else None)
    per_hour = _log(rng, 8e6, 2e8)
    births = poisson(rng, per_hour / size / HOUR, 0, end)
    leak = Stream(key, cache, size, births, forever(births))
    world.streams.append(leak)
    rate, life = _log(rng, 300, 5000), _log(rng, 0.001, 5)
    world.churns.append(Churn(key, cache, size, lambda t: rate, life))
    return Scenario(world, _suspects(leak), end, per_hour=per_hour)


def one_a_minute_exact(rng: Rng) -> Scenario:
    end = 2 * HOUR
    world = World(sample_bytes=0)
    size = int(rng.choice((64, 96, 192, 512)))
    births = np.arange(rng.uniform(0, 60), end, 60.0)
    leak = Stream(place(rng, "tick", "sensor"), f"kmalloc-{size}", size, births, forever(births))
    world.streams = [leak] + [
        steady(rng, place(rng, f"other_{i}"), f"kmalloc-{size}", size, _log(rng, 0.1, 3),
               _log(rng, 1, 120), end) for i in range(6)
    ]  # fmt: skip
    return Scenario(world, _suspects(leak), end, per_hour=60 * size)


def one_a_minute_sampled(rng: Rng) -> Scenario:
    end = 6 * HOUR
    world = background(rng, end)
    births = np.arange(rng.uniform(0, 60), end, 60.0)
    leak = Stream(place(rng, "tick", "sensor"), "sensor_event", int(rng.integers(100, 700)), births,
                  forever(births))  # fmt: skip
    world.streams += [leak, steady(rng, place(rng, "poll", "sensor"), "sensor_event", leak.size,
                                   0.2, 2.0, end)]  # fmt: skip
    return Scenario(world, _suspects(leak), end, 60, per_hour=60 * leak.size)


def leak_per_open(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    rate = _log(rng, 2e7, 3e8) / HOUR / size
    # Opens come in bouts: a script, then nothing for a while.
    bouts = poisson(rng, 1 / 40, 0, end)
    births = np.sort(np.repeat(bouts, rng.poisson(rate * 40, len(bouts))))
    births = births + rng.random(len(births)) * 5
    births.sort()
    leak = Stream(place(rng, "chardev_open", "chardev"), cache, size, births, forever(births))
    buffers = steady(rng, place(rng, "chardev_read", "chardev"), cache, size, rate, 30, end)
    world.streams += [leak, buffers]
    return Scenario(world, _suspects(leak), end, per_hour=rate * size * HOUR)


def leak_in_batches(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    every, per_hour = rng.uniform(30, 120), _log(rng, 3e7, 3e8)
    at = np.arange(rng.uniform(0, every), end, every)
    births = np.sort(np.repeat(at, max(1, round(per_hour / HOUR * every / size))))
    births = births + rng.random(len(births)) * 0.5
    births.sort()
    leak = Stream(place(rng, "flush_batch", "store"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, _suspects(leak), end, per_hour=len(births) * size / end * HOUR)


def leak_from_a_moment(rng: Rng) -> Scenario:
    end, start = 5 * HOUR, rng.uniform(1.0, 2.0) * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    per_hour = _log(rng, 3e7, 3e8)
    births = poisson(rng, per_hour / size / HOUR, start, end)
    leak = Stream(place(rng, "new_feature"), cache, size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, _suspects(leak), end, 60, start, per_hour)


def leak_over_module(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    truth: set[tuple[str, str]] = {("driver", "wide")}
    for i in range(12):
        cache, size = kmalloc(rng)
        births = poisson(rng, _log(rng, 4e5, 1.2e6) / size / HOUR, 0, end)
        leak = Stream(place(rng, f"wide_{i}", "wide"), cache, size, births, forever(births))
        world.streams.append(leak)
        truth |= _suspects(leak)
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
        return device("platform", "soc-hub", driver="hub", module="hub", resources=count,
                      managed_bytes=count * size)  # fmt: skip

    world.devices.append(parent)
    truth = _suspects(leak, ("device", "platform:soc-hub"))
    return Scenario(world, truth, end, per_hour=4 * size / every * HOUR)


def unseen_frees_leak(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    births = poisson(rng, _log(rng, 1, 20), 0, end)
    leaks = rng.random(len(births)) < 0.3
    deaths = np.where(leaks, np.inf, births + rng.exponential(20, len(births)))
    size = 256
    leak = Stream(place(rng, "node_new"), "rcu_nodes", size, births, deaths,
                  np.ones(len(births), bool))  # fmt: skip
    world.streams.append(leak)
    world.caches["rcu_nodes"] = CacheFacts(observable=False)
    return Scenario(world, frozenset({("cache", "rcu_nodes")}), end, 60,
                    per_hour=float(leaks.sum()) * size / end * HOUR)  # fmt: skip


def leak_over_reset(rng: Rng) -> Scenario:
    made = slow_leak(rng)
    made.world.reset = rng.uniform(0.1, 0.35) * HOUR
    return Scenario(made.world, made.truth, made.end, starts=made.world.reset,
                    per_hour=made.per_hour)  # fmt: skip


def leak_with_losses(rng: Rng) -> Scenario:
    made = slow_leak(rng)
    made.world.lost = lambda t: t / 60
    return made


def quiet(rng: Rng) -> Scenario:
    end = 3 * HOUR
    return Scenario(background(rng, end), NOTHING, end)


def many_sites(rng: Rng) -> Scenario:
    end = 2 * HOUR
    world = background(rng, end)
    for i in range(1200):
        cache, size = kmalloc(rng)
        life = _log(rng, 60, 1200)
        rate = rng.uniform(0.5, 4) * 65536 / size / life
        key = place(rng, f"site_{i}", f"mod_{i % 90}" if i % 3 else None)
        births = poisson(rng, rate, -4 * life, end)
        world.streams.append(Stream(key, cache, size, births,
                                    births + rng.exponential(life, len(births))))  # fmt: skip
    return Scenario(world, NOTHING, end, 60)


def module_lifetime(rng: Rng) -> Scenario:
    end, start = 3 * HOUR, rng.uniform(0.1, 1.5) * HOUR
    world = background(rng, end)
    for i in range(6):
        cache, size = kmalloc(rng)
        births = start + np.sort(rng.exponential(rng.uniform(1, 90), int(rng.integers(200, 9000))))
        world.streams.append(Stream(place(rng, f"probe_{i}", "gpu"), cache, size, births,
                                    forever(births)))  # fmt: skip
    return Scenario(world, NOTHING, end)


def reclaimable_growth(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    for cache, symbol, size in (
        ("dentry", "__d_alloc", 192),
        ("ext4_inode_cache", "ext4_alloc_inode", 1184),
    ):
        births = poisson(rng, _log(rng, 2, 30), 0, end)
        world.streams.append(Stream(place(rng, symbol), cache, size, births, forever(births)))
        world.caches[cache] = CacheFacts(reclaimable=True)
    return Scenario(world, NOTHING, end)


def _warm_up(rng: Rng, tau: float, end: float) -> Scenario:
    world = background(rng, end)
    cache, size = kmalloc(rng) if rng.random() < 0.5 else ("route_cache", 448)
    total = _log(rng, 4e6, 4e8) / size
    births = varying(rng, lambda t: total / tau * np.exp(-t / tau), total / tau, 0, end)
    world.streams.append(Stream(place(rng, "remember"), cache, size, births, forever(births)))
    return Scenario(world, NOTHING, end)


def warm_up(rng: Rng) -> Scenario:
    return _warm_up(rng, _log(rng, 120, 1500), 3 * HOUR)


def slow_warm_up(rng: Rng) -> Scenario:
    return _warm_up(rng, _log(rng, 1500, 2 * HOUR), 5 * HOUR)


def bounded_cache(rng: Rng) -> Scenario:
    """Fills at a constant pace, then replaces its oldest."""
    end = 4 * HOUR
    world = background(rng, end)
    cache, size = kmalloc(rng)
    fill = _log(rng, 200, 1200)
    births = poisson(rng, _log(rng, 4e6, 1e8) / size / fill, 0, end)
    deaths = births + fill
    world.streams.append(Stream(place(rng, "lru_add"), cache, size, births, deaths))
    return Scenario(world, NOTHING, end)


def daily_cycle(rng: Rng) -> Scenario:
    end, day = 60 * HOUR, 24 * HOUR
    world = background(rng, end)
    phase = rng.uniform(0, day)
    for i in range(4):
        cache, size = kmalloc(rng)
        life = _log(rng, 60, 1800)
        most = min(2.0, _log(rng, 3e6, 5e7) / size / life)

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
    number = round(_log(rng, 2e6, 1e8) / size)
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
        births = start + np.sort(rng.random(round(_log(rng, 2e6, 2e8) / size))) * rng.uniform(1, 60)
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
    stream = steady(rng, place(rng, "node_new"), "rcu_nodes", 576, _log(rng, 1, 20), 30.0, end)
    stream.unseen = np.ones(len(stream.births), bool)
    world.streams.append(stream)
    world.caches["rcu_nodes"] = CacheFacts(observable=False)
    return Scenario(world, NOTHING, end)


def replacement(rng: Rng) -> Scenario:
    """Balance since long ago, lives longer than slabmon has watched."""
    end = 3 * HOUR
    world = background(rng, end)
    for i in range(3):
        life = _log(rng, 0.5, 6) * HOUR
        size = int(rng.choice((256, 1024, 4096)))
        rate = _log(rng, 1e7, 2e8) / size / life
        name = f"kmalloc-{size}" if i else "sessions"
        world.streams.append(steady(rng, place(rng, f"session_{i}"), name, size, rate, life, end))
    return Scenario(world, NOTHING, end)


def rising_load(rng: Rng) -> Scenario:
    end = 3 * HOUR
    world = background(rng, end)
    begin, ramp = rng.uniform(0, HOUR), rng.uniform(0.2, 1.5) * HOUR
    cache, size = kmalloc(rng)
    life = _log(rng, 10, 600)
    most = min(20.0, _log(rng, 5e6, 1e8) / size / life)

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
        births = poisson(rng, _log(rng, 1e6, 2e7) / size / 900, 0, rng.uniform(300, 1000))
        world.streams.append(Stream(place(rng, f"start_{i}"), cache, size, births, forever(births)))
    world.streams.append(batches(rng, place(rng, "fork"), "task", 4096, 20, 3, 900, end))
    return Scenario(world, NOTHING, end)


ENTRIES = tuple(Entry(*entry) for entry in (
    ("slow leak", "8 to 200 MB/h at a site that allocates and frees up to 5,000 times as often",
     slow_leak),
    ("one a minute, exact", "one object a minute, cache tracked exactly", one_a_minute_exact),
    ("one a minute, sampled", "one small object a minute in a cache of its own, never sampled",
     one_a_minute_sampled),
    ("leak per open", "a character device that forgets to free, opened in bouts", leak_per_open),
    ("leak in batches", "hundreds of objects at once, every half to two minutes", leak_in_batches),
    ("leak from a moment on", "one to two quiet hours before", leak_from_a_moment),
    ("leak over a module", "twelve sites of one module, 0.4 to 1.2 MB/h each", leak_over_module),
    ("devm and rebind", "a parent device keeps four allocations of each rebind", devm_rebind),
    ("leak, frees unseen", "no free of the cache has an event; 30 % of its objects stay",
     unseen_frees_leak),
    ("leak over a reset", "slow leak; tracking begins anew", leak_over_reset),
    ("leak with losses", "slow leak; an event a minute is lost", leak_with_losses),
    ("quiet", "the background alone", quiet),
    ("many sites", "1,200 more sites with few samples each: noise of sampling", many_sites),
    ("module lifetime", "allocations of a module that is loaded", module_lifetime),
    ("dentries and inodes", "linear growth that is reclaimable", reclaimable_growth),
    ("warm-up", "a cache that fills, time constant 2 to 25 minutes", warm_up),
    ("slow warm-up", "the same, 25 minutes to 2 hours", slow_warm_up),
    ("bounded cache", "fills at a constant pace for 3 to 20 minutes, then replaces", bounded_cache),
    ("daily cycle", "load that rises and falls with the day, over 60 hours", daily_cycle),
    ("periodic load", "a job every 5 to 60 minutes that frees all in the end", periodic_load),
    ("burst", "one to three bursts, some of which stay", burst),
    ("fragmentation", "slab memory grows, objects do not", fragmentation),
    ("counter reset", "tracking begins anew while nothing leaks", counter_reset),
    ("lost frees", "5 to 50 % of a site's frees are lost, and counted as lost", lost_frees),
    ("frees unseen", "no free of the cache has an event, nothing leaks", unseen_frees),
    ("replacement", "balance of objects that live 30 minutes to 6 hours", replacement),
    ("rising load", "load that grows fivefold within 12 to 90 minutes", rising_load),
    ("boot", "services start for a quarter of an hour", boot),
))  # fmt: skip
