# SPDX-License-Identifier: Apache-2.0
"""Synthetic censuses: every field has a plain default, tests name what matters."""

from __future__ import annotations

import time
from typing import Any

from slabmon.base.fields import Host
from slabmon.base.retained import RetainedBy
from slabmon.base.workloads import WorkloadNames
from slabmon.census.model import (
    Census,
    CensusCache,
    Certainty,
    CgroupObjects,
    CgroupState,
    DeviceObjects,
    HeldObjects,
    OrphanObjects,
    OwnedObjects,
    RetainedObjects,
)

TAKEN = 1_700_000_000.0


def census_cache(name: str = "kmalloc-64", **fields: Any) -> CensusCache:
    """A cache with half of one slab in use."""
    plain: dict[str, Any] = {
        "name": name,
        "slabs": 1,
        "objects": 64,
        "in_use": 32,
        "free": 32,
        "object_size": 64,
        "size": 64,
        "slab_bytes": 4096,
    }
    return CensusCache(**{**plain, **fields})


def owned(
    signature: str = "struct thing",
    objects: int = 3,
    size: int = 64,
    cache: str = "kmalloc-64",
    **fields: Any,
) -> OwnedObjects:
    """Objects of `size` bytes each."""
    plain: dict[str, Any] = {"certainty": Certainty.LIKELY, "bytes": objects * size}
    return OwnedObjects(cache=cache, signature=signature, objects=objects, **{**plain, **fields})


def census(**fields: Any) -> Census:
    """A census without any rows, of the host of tests.support.builders."""
    plain: dict[str, Any] = {
        "host": Host("6.12.0-test", "x86_64", 4, "boot"),
        "taken": TAKEN,
        "seconds": 0.25,
        "cpu_seconds": 0.5,
        "peak_bytes": 80 << 20,
        "passes": 1,
        "pages_read": 262_144,
        "objects": sum(cache.in_use for cache in fields.get("caches", ())),
    }
    return Census(**{**plain, **fields})


def rich(seconds: float = 0.0, evil: str = "evil") -> Census:
    """A census with several caches and owners, of which one grows by a second's time."""
    number = 1000 + 7 * int(seconds)
    return census(
        taken=TAKEN + seconds,
        sampled=0.925,
        caches=(
            census_cache(
                "dentry",
                slabs=1200,
                objects=25_200,
                in_use=21_000,
                free=4200,
                object_size=192,
                size=192,
                slab_bytes=1200 * 4096,
                spare_bytes=200 * 4096,
                empty_slabs=3,
            ),
            census_cache(
                "kmalloc-64",
                aliases=("thing_cache", evil),
                slabs=300,
                objects=19_200,
                in_use=number + 3100,
                free=19_200 - number - 3100,
                slab_bytes=300 * 4096,
                spare_bytes=200 * 4096,
            ),
        ),
        owners=(
            owned(
                "struct dentry",
                21_000,
                192,
                cache="dentry",
                type="dentry",
                certainty=Certainty.EXACT,
            ),
            owned("has ops card_ops [card] at +8", number, module="card", objects_stderr=12.5),
            owned(f"pointed to by {evil}.name", 2100, type=evil),
            owned("unknown", 1000, certainty=Certainty.UNKNOWN),
        ),
        passes=3,
        orphans=(
            OrphanObjects(
                cache="kmalloc-64",
                module="card",
                signature="has ops card_ops [card] at +8",
                objects=number,
                bytes=64 * number,
            ),
            OrphanObjects(
                cache="dentry", type=evil, signature=f"holds {evil}", objects=1, bytes=192
            ),
        ),
        devices=(
            DeviceObjects(
                bus="pci",
                name="0000:00:03.0",
                driver="card",
                module="card",
                objects=number,
                bytes=64 * number,
                retained_objects=number + 1,
                retained_bytes=64 * number + 192,
                by_cache={"kmalloc-64": 64 * number},
            ),
            DeviceObjects(
                bus="",
                name=evil,
                objects=1,
                bytes=192,
                retained_objects=1,
                retained_bytes=192,
                by_cache={"dentry": 192},
            ),
        ),
        retained=(
            RetainedObjects(
                kind=RetainedBy.CGROUP,
                name="/a",
                objects=number,
                bytes=64 * number,
                retained_objects=number + 1,
                retained_bytes=64 * number + 192,
                by_cache={"kmalloc-64": 64 * number},
            ),
        ),
        held=(
            HeldObjects(
                bus="pci",
                name="0000:00:03.0",
                cache="kmalloc-64",
                type="card_ring",
                module="card",
                signature="pointed to by +16 of what holds card_poll at +8",
                certainty=Certainty.LIKELY,
                objects=number,
                bytes=64 * number,
            ),
            HeldObjects(
                bus="",
                name=evil,
                cache="dentry",
                signature="unknown",
                certainty=Certainty.UNKNOWN,
                objects=1,
                bytes=192,
            ),
        ),
        cgroups=charged(number, evil),
        workloads=WORKLOADS,
    )


POD = "/kubepods"  # of the cgroupfs driver: shorter than what systemd makes of it
CONTAINER_ID = "3f4b5c6d7e8f9012" * 4
WORKLOADS = {CONTAINER_ID: WorkloadNames("nginx", "web-0", "shop")}


def charged(number: int, evil: str) -> tuple[CgroupObjects, ...]:
    """A container of a pod, a service that was removed, and removed cgroups without names."""

    def row(cgroup: str, state: CgroupState, objects: int, cgroups: int = 1) -> CgroupObjects:
        return CgroupObjects(
            cgroup=cgroup,
            state=state,
            cgroups=cgroups,
            objects=objects,
            bytes=64 * objects,
            by_cache={"kmalloc-64": 64 * objects},
            objects_by_cache={"kmalloc-64": objects},
        )

    return (
        row(f"{POD}/{CONTAINER_ID}", CgroupState.ALIVE, number),
        row("/system.slice/backup.service", CgroupState.DYING, 700),
        row("/system.slice/[removed]", CgroupState.DYING, 300, 41),
        row(f"/{evil}", CgroupState.ALIVE, 2),
    )


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
