# SPDX-License-Identifier: Apache-2.0
"""Hosts with 24 GiB in conditions that a person should recognise at once: an old leak, a fast leak,
and a healthy one whose memory is full of page cache.

`python -m tests.support.conditions FOLDER` writes a recording of each, for `slabmon top --replay`,
`slabmon report --replay` and `slabmon replay`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slabmon.memory.reading import MemoryReading
from slabmon.model import Cache, Live, ProgramCost, Slabinfo, Snapshot
from slabmon.store.writer import RecordingWriter
from tests.support.builders import Object, cache, site, snapshot, tracked
from tests.support.censuses import TAKEN, census, owned

MIB, GIB = 1 << 20, 1 << 30
TOTAL = 24 * GIB
# Neither slab nor page cache nor free: 3 GiB of processes, 660 MiB of other kernel memory, and
# 100 MiB that no counter names.
AMOUNTS: Mapping[str, int] = {
    "MemTotal": TOTAL,
    "per_cpu_lists": 20 * MIB,
    "AnonPages": 2872 * MIB,
    "Shmem": 200 * MIB,
    "KernelStack": 60 * MIB,
    "PageTables": 300 * MIB,
    "VmallocUsed": 160 * MIB,
    "Percpu": 140 * MIB,
    "stacks_in_vmalloc": 0,
}
UNCOUNTED = 100 * MIB
SAMPLES = 50


def listed(name: str, size: int, held: int, **fields: Any) -> Cache:
    """A cache whose slabs take `held` bytes, all in use."""
    objects = held // size
    return cache(name, object_size=size, slabinfo=Slabinfo(objects, objects, size, held), **fields)


def memory(taken: float, *, slab: int, reclaimable: int, free: int) -> MemoryReading:
    """Counters in which page cache is what the others leave."""
    amounts = {**AMOUNTS, "SUnreclaim": slab, "SReclaimable": reclaimable, "MemFree": free}
    named = sum(amounts.values()) - TOTAL - AMOUNTS["stacks_in_vmalloc"]
    amounts["Cached"] = TOTAL - UNCOUNTED - named + AMOUNTS["Shmem"]
    amounts["Slab"], amounts["KReclaimable"] = slab + reclaimable, reclaimable
    amounts["MemAvailable"] = free + reclaimable + amounts["Cached"] - AMOUNTS["Shmem"]
    return MemoryReading(taken=taken, amounts=amounts)


def _host(seconds: float, *caches: Cache, free: int, **fields: Any) -> Snapshot:
    plain = snapshot()
    slab = sum(c.held_bytes for c in caches if not c.reclaimable)
    given_back = sum(c.held_bytes for c in caches if c.reclaimable)
    tracking = replace(plain.tracking, seconds=seconds)
    return replace(
        plain,
        tracking=tracking,
        host=replace(plain.host, memory_bytes=TOTAL),
        caches=tuple(sorted(caches, key=lambda c: c.name)),
        losses={},
        programs=(ProgramCost("kmalloc", 6.5e-5, 500), ProgramCost("kfree", 4.8e-5, 400)),
        memory=memory(TAKEN + seconds, slab=slab, reclaimable=given_back, free=free),
        **fields,
    )


def _usual(seconds: float, dentries: int = 200 * MIB) -> tuple[Cache, ...]:
    churn = round(50_000 * seconds)
    live = Live(700, 358_400, 9000, 340_000, 376_000)
    counts = {
        "allocs": churn,
        "frees": churn - 700,
        "requested_bytes": 500 * churn,
        "allocated_bytes": 512 * churn,
    }
    return (
        listed("task_struct", 9_984, 40 * MIB),
        listed("kmalloc-512", 512, 24 * MIB, live=live, **counts),
        listed("filp", 256, 12 * MIB),
        listed("ext4_inode_cache", 1_192, 900 * MIB, reclaimable=True),
        listed("dentry", 192, dentries, reclaimable=True),
    )


def healthy(seconds: float) -> Snapshot:
    """Page cache takes nearly all memory, free is little, and a `find` fills the dentry cache at
    3 MiB a second."""
    dentries = 200 * MIB + round(3 * MIB * seconds)
    return _host(seconds, *_usual(seconds, dentries), free=300 * MIB)


def old_leak(seconds: float, counted: bool = False) -> Snapshot:
    """14 GiB were lost in kmalloc-256 before tracking began; with a census if `counted`."""
    lost = listed("kmalloc-256", 256, 14 * GIB, aliases=("pool_workqueue",))
    found = None
    if counted:
        rows = (
            owned("has ops ring_ops [nic] at +8", 56 << 20, 256, cache="kmalloc-256", module="nic"),
            owned("unknown", 1 << 20, 256, cache="kmalloc-256"),
        )
        found = census(owners=rows)
    return _host(seconds, *_usual(seconds), lost, free=900 * MIB, census=found)


def fast_leak(seconds: float) -> Snapshot:
    """backup.service has lost 4 MiB a second in kmalloc-1k since tracking began."""
    lost = round(4 * MIB * seconds)
    live = Live(lost >> 10, lost, lost // 7, round(0.76 * lost), round(1.29 * lost))
    leaky = listed(
        "kmalloc-1k",
        1024,
        8 * MIB + lost,
        allocs=lost >> 10,
        requested_bytes=lost,
        allocated_bytes=lost,
        live=live,
    )
    caches = sorted((*_usual(seconds), leaky), key=lambda c: c.name)
    number = caches.index(leaky)
    objects = [
        Object(
            number,
            0,
            1024,
            lost // SAMPLES,  # each stands for as many bytes
            seconds * (i + 0.5) / SAMPLES,
            comm=b"backup",
            tgid=77,
            cgroup=7,
            stack=1,
        )
        for i in range(SAMPLES)
    ]
    return _host(
        seconds,
        *caches,
        free=6 * GIB,
        sites=(
            site(
                "nic_ring_fill",
                0x5C,
                "nic",
                allocs=lost >> 10,
                requested_bytes=lost,
                allocated_bytes=lost,
                live=live,
            ),
        ),
        tracked=tracked(
            objects,
            {1: ("__kmalloc_noprof", "nic_ring_fill [nic]", "nic_open [nic]", "do_syscall_64")},
            {7: "/system.slice/backup.service"},
        ),
    )


def _recorded_old_leak(seconds: float) -> Snapshot:
    """With the first census of a daemon, after a minute."""
    return old_leak(seconds, counted=seconds > 60)


CONDITIONS: Mapping[str, Callable[[float], Snapshot]] = {
    "old-leak": _recorded_old_leak,
    "fast-leak": fast_leak,
    "healthy": healthy,
}
# A recording is of three minutes, one snapshot every ten seconds.
RECORDED = range(10, 190, 10)


def record(folder: Path) -> dict[str, Path]:
    """Write a recording of each host; return their paths by its condition."""
    paths = {name: folder / f"{name}.db" for name in CONDITIONS}
    for name, path in paths.items():
        with RecordingWriter(path) as recording:
            for seconds in RECORDED:
                shown = CONDITIONS[name](float(seconds))
                recording.append(shown, shown.taken)
    return paths


if __name__ == "__main__":
    for written in record(Path(sys.argv[1])).values():
        print(written)
