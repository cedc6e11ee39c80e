# SPDX-License-Identifier: Apache-2.0
"""Worlds that are hard to judge: leaks in lockstep, in rare batches, thinly spread, beside frees
that nobody sees, of memory that only seems reclaimable; and honest growth that looks like them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.scenarios.host import CacheFacts, Rng, Stream, World
from tests.scenarios.load import HOUR, background, forever, kmalloc, place, poisson, steady
from tests.scenarios.scenario import NOTHING, Scenario, Truth, log_uniform, suspects

DAY = 24 * HOUR
_SERVER = 4321
_HELPER = ("__alloc_skb", 0x8C, None)


def _descriptors(opened: np.ndarray, closed: np.ndarray) -> dict[int, Callable[[float], float]]:
    def count(t: float) -> float:
        return 12.0 + np.searchsorted(opened, t) - np.searchsorted(closed, t)

    return {_SERVER: count}


def _union(streams: list[Stream]) -> Truth:
    return frozenset(suspect for stream in streams for suspect in suspects(stream))


def lockstep(rng: Rng) -> Scenario:
    """A socket that is lost takes a file, an inode and a dentry with it. They come in bouts."""
    end = 3 * HOUR
    world = background(rng, end)
    sizes = {"sock_inode": 832, "TCP": 2304, "filp": 256, "conn": 512}
    per_hour = log_uniform(rng, 6e7, 3e8)
    rate = per_hour / HOUR / sum(sizes.values())
    bouts = poisson(rng, 1 / 30, 0, end)
    births = np.sort(np.repeat(bouts, rng.poisson(rate * 30, len(bouts))) + 0.0)
    births = np.sort(births + rng.random(len(births)) * 3)
    leaks = [
        Stream(place(rng, f"alloc_{name}"), name, size, births + i * 1e-3, forever(births))
        for i, (name, size) in enumerate(sizes.items())
    ]
    world.streams += leaks
    together = frozenset(max(suspects(leak)) for leak in leaks)
    return Scenario(world, _union(leaks), end, together=together)


def _rcu_neighbours(rng: Rng, world: World, end: float) -> None:
    """Three sites of kmalloc-256 that free by kfree_rcu(), which nobody sees, beside kfree()."""
    for i in range(3):
        stream = steady(
            rng,
            place(rng, f"node_{i}"),
            "kmalloc-256",
            256,
            log_uniform(rng, 1, 15),
            rng.uniform(5, 60),
            end,
        )
        stream.unseen = np.ones(len(stream.births), bool)
        world.streams.append(stream)
    world.caches["kmalloc-256"] = CacheFacts(observable=False)


def rcu_neighbours_leak(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    _rcu_neighbours(rng, world, end)
    per_hour = log_uniform(rng, 2e7, 2e8)
    births = poisson(rng, per_hour / 256 / HOUR, 0, end)
    leak = Stream(place(rng, "forget", "drv"), "kmalloc-256", 256, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, suspects(leak), end, 60, per_hour=per_hour)


def rcu_neighbours(rng: Rng) -> Scenario:
    end = 4 * HOUR
    world = background(rng, end)
    _rcu_neighbours(rng, world, end)
    return Scenario(world, NOTHING, end, 60)


def _at_night(rng: Rng, every: float, end: float, jitter: float) -> np.ndarray:
    starts = np.arange(rng.uniform(0.1, 0.9) * every, end, every)
    return starts + rng.uniform(-jitter, jitter, len(starts)) * every


def _batch(rng: Rng, starts: np.ndarray, size: int) -> np.ndarray:
    total = log_uniform(rng, 2e6, 6e7)
    counts = rng.poisson(total / size * rng.uniform(0.8, 1.25, len(starts)))
    births = np.repeat(starts, counts) + rng.random(int(counts.sum())) * rng.uniform(5, 120)
    return np.sort(births)


def nightly(rng: Rng) -> Scenario:
    """A job of every night forgets what it allocates."""
    end = 11 * DAY
    world = _quiet_host(rng, end)
    size = max(kmalloc(rng)[1], 128)
    births = _batch(rng, _at_night(rng, DAY, end, 0.01), size)
    leak = Stream(place(rng, "backup", "snap"), f"kmalloc-{size}", size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, suspects(leak), end, 600)


def per_suspend(rng: Rng) -> Scenario:
    """A driver forgets its buffers with each suspend, every one to four hours."""
    every = rng.uniform(1, 4) * HOUR
    end = 14 * every
    world = _quiet_host(rng, end)
    size = int(rng.choice((256, 1024, 4096)))
    births = _batch(rng, _at_night(rng, every, end, 0.3), size)
    leak = Stream(place(rng, "resume", "wifi"), f"kmalloc-{size}", size, births, forever(births))
    world.streams.append(leak)
    return Scenario(world, suspects(leak), end, 120)


def rare_job(rng: Rng) -> Scenario:
    """A job every few hours whose results are kept until those of a later one replace them."""
    every = rng.uniform(2, 8) * HOUR
    end = 12 * every
    world = _quiet_host(rng, end)
    size = int(rng.choice((256, 1024, 4096)))
    starts = _at_night(rng, every, end, 0.2)
    kept = int(rng.integers(1, 4))
    births = _batch(rng, starts, size)
    last = np.searchsorted(starts, births) - 1
    ends = np.append(starts, np.full(kept, np.inf))[last + kept]
    world.streams.append(Stream(place(rng, "rotate"), f"kmalloc-{size}", size, births, ends))
    return Scenario(world, NOTHING, end, 120)


def _quiet_host(rng: Rng, end: float) -> World:
    """A host for days: fewer objects, as each costs time."""
    world = World()
    for i in range(12):
        cache, size = kmalloc(rng)
        life = log_uniform(rng, 60, 1800)
        rate = min(0.2, log_uniform(rng, 1e5, 3e6) / size / life)
        world.streams.append(steady(rng, place(rng, f"serve_{i}"), cache, size, rate, life, end))
    for i in range(5):
        cache, size = kmalloc(rng)
        births = poisson(rng, rng.uniform(1, 20), 0, 20)
        world.streams.append(Stream(place(rng, f"setup_{i}"), cache, size, births, forever(births)))
    return world


def thin_family(rng: Rng) -> Scenario:
    """Sites of one driver stack, none of which leaks much, over the random kinds of one size."""
    end = 4 * HOUR
    world = background(rng, end)
    size = int(rng.choice((256, 512, 1024)))
    leaks = []
    for i in range(12):
        births = poisson(rng, log_uniform(rng, 4e5, 1.2e6) / size / HOUR, 0, end)
        name = f"kmalloc-rnd-{i + 1:02}-{size}"
        leaks.append(Stream(place(rng, f"thin_{i}"), name, size, births, forever(births)))
    world.streams += leaks
    truth = _union(leaks) | {("family", f"kmalloc-{size}")}
    return Scenario(world, truth, end, 60)


def through_a_helper(rng: Rng) -> Scenario:
    """One of the callers of a busy helper, whose other objects live for minutes."""
    end = 4 * HOUR
    world = background(rng, end)
    for i in range(4):
        life = rng.uniform(120, 900)
        stream = steady(
            rng, _HELPER, "skbuff", 512, log_uniform(rng, 2e6, 2e7) / 512 / life, life, end
        )
        stream.stack = ("__alloc_skb", f"send_{i}")
        world.streams.append(stream)
    per_hour = log_uniform(rng, 2e7, 1e8)
    births = poisson(rng, per_hour / 512 / HOUR, 0, end)
    leak = Stream(_HELPER, "skbuff", 512, births, forever(births))
    leak.stack = ("__alloc_skb", "lose_packet")
    world.streams.append(leak)
    truth = suspects(leak) | {("caller", "lose_packet")}
    return Scenario(world, truth, end, 60, per_hour=per_hour)


def one_container(rng: Rng) -> Scenario:
    """Many sites that one container makes leak a little each."""
    end = 4 * HOUR
    world = background(rng, end)
    path = f"/system.slice/docker-{'0123456789ab' + 'c' * 52}.scope"
    leaks = []
    for i in range(12):
        births = poisson(rng, log_uniform(rng, 4e5, 1.2e6) / (300 + i) / HOUR, 0, end)
        leak = Stream(place(rng, f"fs_{i}"), f"fs_{i}", 300 + i, births, forever(births))
        leak.cgroup = path
        leaks.append(leak)
    world.streams += leaks
    return Scenario(world, _union(leaks) | {("cgroup", path)}, end, 60)


def killed_for_dentries(rng: Rng) -> Scenario:
    """Names that do not exist, looked up in a container, which is killed for its memory again and
    again, while the kernel keeps them."""
    end = 3 * HOUR
    world = background(rng, end)
    parent = "/kubepods.slice/pod1"
    births = poisson(rng, log_uniform(rng, 20, 100), 0, end)
    leak = Stream(place(rng, "__d_alloc"), "dentry", 192, births, forever(births))
    leak.cgroup = f"{parent}/web"
    world.streams.append(leak)
    kills = poisson(rng, 1 / rng.uniform(300, 900), 0, end)
    world.killed[parent] = lambda t: float(np.searchsorted(kills, t))
    truth = suspects(leak) | {("cgroup", leak.cgroup)}
    per_hour = len(births) * 192 / end * HOUR
    return Scenario(world, truth, end, per_hour=per_hour)


def connections(rng: Rng) -> Scenario:
    """Clients connect, one after the other, and stay for hours."""
    end = 4 * HOUR
    world = background(rng, end)
    rate = log_uniform(rng, 0.3, 3)
    opened = poisson(rng, rate, rng.uniform(0, HOUR), 3.5 * HOUR)
    closed = np.sort(rng.uniform(3.6, 3.9, len(opened))) * HOUR
    for name, size in (("TCP", 2304), ("sock_inode", 832), ("filp", 256), ("conn", 512)):
        stream = Stream(place(rng, f"alloc_{name}"), name, size, opened, closed)
        stream.tgid = _SERVER
        world.streams.append(stream)
    world.descriptors = _descriptors(opened, closed)
    return Scenario(world, NOTHING, end)


def lost_sockets(rng: Rng) -> Scenario:
    """The same, but the server closes each connection in time, and the kernel loses its socket."""
    end = 3 * HOUR
    world = background(rng, end)
    opened = poisson(rng, log_uniform(rng, 2, 10), 0, end)
    closed = opened + rng.exponential(20, len(opened))
    leak = Stream(place(rng, "sk_prot_make"), "TCP", 2304, opened, forever(opened))
    leak.tgid = _SERVER
    world.streams.append(leak)
    world.descriptors = _descriptors(opened, np.sort(closed))
    return Scenario(world, suspects(leak), end, per_hour=len(opened) * 2304 / end * HOUR)
