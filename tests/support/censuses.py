# SPDX-License-Identifier: Apache-2.0
"""Censuses of synthetic hosts, for tests."""

from __future__ import annotations

import time

from slabmon.census.model import (
    Census,
    CensusCache,
    Certainty,
    CgroupObjects,
    CgroupState,
    OwnedObjects,
)
from slabmon.model import Host


def large(caches: int = 1_000, cgroups: int = 2_000, owners: int = 5_000) -> Census:
    """Return a census of a host with this many rows of each kind."""
    return Census(
        host=Host("6.18.0", "x86_64", 64, "boot", 1 << 38),
        taken=time.time(),
        seconds=20.0,
        cpu_seconds=15.0,
        peak_bytes=200 << 20,
        passes=1,
        pages_read=1 << 26,
        objects=caches * 147,
        caches=tuple(
            CensusCache(
                name=f"cache-{i}",
                slabs=7,
                objects=147,
                in_use=100,
                free=47,
                object_size=192,
                size=192,
                slab_bytes=28672,
            )
            for i in range(caches)
        ),
        cgroups=tuple(
            CgroupObjects(
                cgroup=f"/system.slice/service-{i}.service",
                state=CgroupState.ALIVE,
                objects=60,
                bytes=11520,
                by_cache={f"cache-{(i + j) % caches}": 1920 for j in range(6)},
                objects_by_cache={f"cache-{(i + j) % caches}": 10 for j in range(6)},
            )
            for i in range(cgroups)
        ),
        owners=tuple(
            OwnedObjects(
                cache=f"cache-{i % caches}",
                type=f"struct type_{i}",
                module=f"module_{i % 97}",
                signature=f"function_{i}",
                certainty=Certainty.LIKELY,
                objects=i,
                bytes=192 * i,
            )
            for i in range(owners)
        ),
    )
