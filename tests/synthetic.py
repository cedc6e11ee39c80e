"""A large host's snapshots: 10,000 sites, 1,000 caches, 5,000 devices, 100,000 tracked objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slabmon.model import Live, Release, Snapshot, Tracked
from tests.unit.builders import KERNEL_FLAGS, NOW_NS, cache, device, site, snapshot

SITES, CACHES, DEVICES, OBJECTS = 10_000, 1_000, 5_000, 100_000
MODULES, PROCESSES, CGROUPS, STACKS = 200, 2_000, 300, 4_000


def large_snapshot(seconds: float) -> Snapshot:
    """The host after so many seconds of tracking."""
    rng = np.random.default_rng(1)
    grown = int(seconds)
    processes = rng.integers(1, PROCESSES, OBJECTS)
    live = [Live(n, 64 * n * grown, 8 * n, 50 * n, 80 * n) for n in range(1, SITES + 1)]
    return replace(
        snapshot(),
        tracking=replace(snapshot().tracking, seconds=seconds),
        caches=tuple(
            cache(f"cache-{i}", allocs=i * grown, frees=i * grown // 2, live=live[i],
                  requested_bytes=48 * i * grown, allocated_bytes=64 * i * grown)
            for i in range(CACHES)
        ),
        sites=tuple(
            site(f"function_{i}", i, f"module{i % MODULES}" if i % 3 else None,
                 allocs=i * grown, allocated_bytes=64 * i * grown, live=live[i])
            for i in range(SITES)
        ),
        devices=tuple(
            device(name=f"0000:{i:05x}", module=f"module{i % MODULES}", managed_bytes=i * grown,
                   resources=3, by_release=(Release("devm_kmalloc_release", 2, i * grown),
                                            Release("devm_irq_release", 1, 0)),
                   slab_by_cache={"cache-1": i})
            for i in range(DEVICES)
        ),
        tracked=Tracked(
            cache=rng.integers(0, CACHES, OBJECTS), site=rng.integers(0, SITES, OBJECTS),
            bytes=rng.choice([64, 128, 4096], OBJECTS).astype("u4"),
            requested=np.full(OBJECTS, 50, "u4"), interval=np.full(OBJECTS, 65536, "u4"),
            born_ns=NOW_NS - rng.integers(0, 10**12, OBJECTS).astype("u8"), now_ns=NOW_NS,
            gfp=np.full(OBJECTS, KERNEL_FLAGS, "u4"),
            tgid=processes.astype("u4"),
            cgroup=rng.integers(1, CGROUPS, OBJECTS).astype("u8"),
            comm=np.array([b"task%d" % n for n in processes // 4], "S16"),
            stack=rng.integers(0, STACKS, OBJECTS).astype("i4"),
            stacks={i: tuple(f"frame_{i % (j + 7)}" for j in range(12)) for i in range(STACKS)},
            cgroups={i: f"/system.slice/unit-{i}.service" for i in range(CGROUPS)},
            gfp_class={KERNEL_FLAGS: "kernel"},
        ),
    )  # fmt: skip
