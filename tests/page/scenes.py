# SPDX-License-Identifier: Apache-2.0
"""What the page's test server shows: synthetic hosts, by the seconds since tracking began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache as once

from slabmon.model import FeatureState, Live, Release, Snapshot, State
from tests.support import censuses, conditions
from tests.support.builders import Object, cache, device, site, snapshot, tracked
from tests.support.censuses import rich
from tests.support.snapshots import synthetic

EVIL = "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>\"'&"
# A task's name has 15 bytes; this one is a whole element all the same.
EVIL_COMM = b"<script>x='1'//"
USER, PASSWORD = "ann", "not a secret"
STEP = 7  # objects that the leaking site keeps per second


def growing(seconds: float) -> Snapshot:
    """A host on which one cache, site and device grow."""
    number = int(seconds)
    leak = Live(
        STEP * number, 64 * STEP * number, 64 * number, 60 * STEP * number, 70 * STEP * number
    )
    steady = Live(50, 51_200, 1_000, 49_000, 53_000)
    objects = [
        *(
            Object(0, 0, 64, 65536, 0.5 + i, comm=b"leaker", tgid=4242, cgroup=7, stack=1)
            for i in range(min(number, 100))
        ),
        *(
            Object(1, 1, 1024, 65536, 30.0, comm=b"reader", tgid=77, cgroup=8, stack=2)
            for _ in range(50)
        ),
    ]
    return replace(
        snapshot(),
        tracking=replace(snapshot().tracking, seconds=seconds),
        caches=(
            cache(
                "leaky",
                allocs=10 * number,
                frees=3 * number,
                requested_bytes=480 * number,
                allocated_bytes=640 * number,
                live=leak,
            ),
            cache(
                "steady",
                object_size=1024,
                allocs=1_000 + 100 * number,
                frees=950 + 100 * number,
                allocated_bytes=1_024_000 + 102_400 * number,
                live=steady,
                frees_observable=False,
            ),
            *(cache(f"idle-{i}", allocs=i, allocated_bytes=64 * i) for i in range(150)),
        ),
        sites=(
            site(
                "keep_it",
                0x10,
                "leakmod",
                allocs=10 * number,
                allocated_bytes=640 * number,
                live=leak,
            ),
            site(
                "read_it",
                0x20,
                None,
                allocs=1_000 + 100 * number,
                live=steady,
                allocated_bytes=1_024_000 + 102_400 * number,
            ),
        ),
        devices=(
            device(
                resources=3 + number,
                managed_bytes=300 + 100 * number,
                module="leakmod",
                slab_bytes=512,
                by_release=(
                    Release("devm_kzalloc_release", 3, 300),
                    Release("devm_keep", number, 100 * number),
                ),
                slab_by_cache={"leaky": 512},
            ),
        ),
        tracked=tracked(
            objects,
            {1: ("keep_it", "probe", "do_init"), 2: ("read_it", "vfs_read")},
            {7: "/system.slice/leaker.service", 8: "/user.slice"},
        ),
        census=rich(seconds),
    )


def hostile(seconds: float) -> Snapshot:
    """Every name is an attack."""
    objects = [Object(comm=EVIL_COMM, cgroup=1, stack=1)]
    return replace(
        snapshot(),
        tracking=replace(snapshot().tracking, seconds=seconds),
        caches=(cache(EVIL, allocs=3, live=Live(1, 64, 1, 60, 70)),),
        sites=(site(EVIL, 1, EVIL, allocs=3, live=Live(1, 64, 1, 60, 70)),),
        devices=(
            device(
                EVIL,
                EVIL,
                driver=EVIL,
                module=EVIL,
                resources=1,
                managed_bytes=9,
                by_release=(Release(EVIL, 1, 9),),
                slab_by_cache={EVIL: 64},
            ),
        ),
        losses={EVIL: 5},
        features={EVIL: FeatureState(State.DEGRADED, EVIL)},
        tracked=tracked(objects, {1: (EVIL, "x")}, {1: "/" + EVIL}),
        census=rich(seconds, EVIL),
    )


@once
def _large() -> Snapshot:
    return replace(synthetic(), census=censuses.large())


def large(seconds: float) -> Snapshot:
    """10,000 sites, 1,000 caches, 5,000 devices, a census with 5,000 owners."""
    return replace(_large(), tracking=replace(_large().tracking, seconds=seconds))


SCENES: dict[str, Callable[[float], Snapshot]] = {
    "growing": growing,
    "kept": growing,
    "secured": growing,
    "uncounted": lambda seconds: replace(growing(seconds), census=None),
    "hostile": hostile,
    "large": large,
    "still": lambda seconds: growing(60.0),
    "healthy": conditions.healthy,
    "old leak": lambda seconds: conditions.old_leak(seconds, counted=True),
    # Two minutes pass between two readings.
    "fast leak": lambda seconds: conditions.fast_leak(60.0 + 30 * (seconds - 60.0)),
}
