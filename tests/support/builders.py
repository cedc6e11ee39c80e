# SPDX-License-Identifier: Apache-2.0
"""Synthetic rows and snapshots: every field has a plain default, tests name what matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slabmon.base.fields import Host
from slabmon.base.gfp import MODIFIERS
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.probe.gfp import CLASSES, classifier, modifier_masks, modifiers_of
from slabmon.leaks.observer import Observer
from slabmon.model import (
    CONTEXTS,
    BlockKind,
    Cache,
    Context,
    Device,
    FeatureState,
    GfpClass,
    GfpModifier,
    Live,
    Mode,
    NodeUse,
    PageOrder,
    PageSite,
    ProgramCost,
    Release,
    ServedDevice,
    Site,
    SizeBucket,
    Slabinfo,
    Snapshot,
    State,
    Tracked,
    Tracking,
)
from slabmon.views.catalogue import VIEWS
from slabmon.views.window import Window, WindowBuilder

KERNEL_FLAGS, ATOMIC_FLAGS = 0xCC0, 0x820
NOW_NS = 10**18
Comm = bytes


def cache(name: str = "kmalloc-64", **fields: Any) -> Cache:
    """A cache of 64-byte objects without any events."""
    plain: dict[str, Any] = {
        "name": name,
        "object_size": 64,
        "allocs": 0,
        "frees": 0,
        "failed": 0,
        "requested_bytes": 0,
        "allocated_bytes": 0,
        "freed_bytes": 0,
        "live": Live(),
        "frees_observable": True,
        "reclaimable": False,
        "accounted": False,
        "dma": False,
        "unobserved_frees": 0,
        "lifetimes": (0,) * CONSTANTS["LIFETIMES"],
        "aliases": (),
        "slabinfo": None,
    }
    return Cache(**{**plain, **fields})


def site(
    symbol: str = "alloc_thing", offset: int = 0x1C, module: str | None = None, **fields: Any
) -> Site:
    """A call site without any events."""
    plain: dict[str, Any] = {
        "symbol": symbol,
        "offset": offset,
        "module": module,
        "allocs": 0,
        "failed": 0,
        "requested_bytes": 0,
        "allocated_bytes": 0,
        "live": Live(),
    }
    return Site(**{**plain, **fields})


def device(bus: str = "pci", name: str = "0000:00:03.0", **fields: Any) -> Device:
    """A device of one driver that holds nothing."""
    plain: dict[str, Any] = {
        "bus": bus,
        "name": name,
        "driver": "virtio-pci",
        "module": "virtio_pci",
        "resources": 0,
        "managed_bytes": 0,
        "slab_bytes": 0,
        "added": 0,
        "removed": 0,
        "by_release": (),
    }
    return Device(**{**plain, **fields})


@dataclass(frozen=True)
class Object:
    """One tracked object; `cache` and `site` index the snapshot's rows."""

    cache: int = 0
    site: int = 0
    bytes: int = 64
    interval: int = 0
    age: float = 1.0
    gfp: int = KERNEL_FLAGS
    tgid: int = 100
    cgroup: int = 1
    comm: Comm = b"cat"
    stack: int = -1
    context: Context = Context.TASK
    device: int = 0


def tracked(
    objects: Sequence[Object] = (),
    stacks: Mapping[int, tuple[str, ...]] | None = None,
    cgroups: Mapping[int, str] | None = None,
    devices: Mapping[int, ServedDevice] | None = None,
) -> Tracked:
    """Columns of these objects. Cgroups without a name are called /<id>."""

    def column(name: str, dtype: str) -> np.ndarray:
        return np.array([getattr(thing, name) for thing in objects], dtype)

    classify, masks = classifier({}), modifier_masks({})
    numbers = {thing.cgroup for thing in objects}
    return Tracked(
        cache=column("cache", "i8"),
        site=column("site", "i8"),
        bytes=column("bytes", "u4"),
        requested=column("bytes", "u4"),
        interval=column("interval", "u4"),
        born_ns=np.array([NOW_NS - round(thing.age * 1e9) for thing in objects], "u8"),
        now_ns=NOW_NS,
        gfp=column("gfp", "u8"),
        tgid=column("tgid", "u4"),
        cgroup=column("cgroup", "u8"),
        comm=column("comm", "S16"),
        stack=column("stack", "i4"),
        stacks=dict(stacks or {}),
        cgroups={**{number: f"/{number}" for number in numbers}, **(cgroups or {})},
        gfp_class={thing.gfp: classify(thing.gfp) for thing in objects},
        gfp_modifiers={thing.gfp: modifiers_of(thing.gfp, masks) for thing in objects},
        context=np.array([CONTEXTS.index(thing.context) for thing in objects], "u1"),
        device=column("device", "u4"),
        devices=devices or {},
    )


def snapshot(**fields: Any) -> Snapshot:
    """A host with one of everything; any field can be given."""
    plain = Snapshot(
        host=Host("6.12.0-test", "x86_64", 4, "7f0c0000-0000-4000-8000-000000000001"),
        tracking=Tracking(
            since=1_700_000_000.25, seconds=12.5, mode=Mode.SAMPLED, sample_bytes=65536
        ),
        caches=(
            cache(
                allocs=101,
                frees=7,
                failed=3,
                requested_bytes=5_000,
                allocated_bytes=6_464,
                freed_bytes=448,
                live=Live(94, 6_016, 500, 5_000, 7_000),
                aliases=("other-64",),
                slabinfo=Slabinfo(150, 200, 64, 16_384),
            ),
            cache("kmalloc-large", object_size=0, allocs=2, allocated_bytes=32_768),
        ),
        sites=(
            site(allocs=100, allocated_bytes=6_400, live=Live(94, 6_016, 500, 5_000, 7_000)),
            site("probe_card", 0x40, "card", allocs=3, failed=3, allocated_bytes=32_832),
        ),
        devices=(
            device(
                resources=3,
                managed_bytes=300,
                slab_bytes=512,
                added=4,
                removed=1,
                by_release=(Release("devm_kzalloc_release", 3, 300),),
                slab_by_cache={"kmalloc-192": 512},
                dma_bytes=8192,
                dma_allocs=3,
                dma_frees=1,
                dma_allocated_bytes=12288,
            ),
            device("", "loose", driver=None, module=None, slab_bytes=None),
        ),
        gfp=tuple(GfpClass(name, number, 64 * number, 0) for number, name in enumerate(CLASSES)),
        modifiers=tuple(
            GfpModifier(name, number, 64 * number, number % 3)
            for number, name in zip((31, 17, 13, 11, 7, 5, 3, 2, 1, 0), MODIFIERS, strict=True)
        ),
        sizes=(SizeBucket(64, 90, 5_000), SizeBucket(128, 13, 1_300)),
        nodes=(NodeUse(0, 60, 4_000), NodeUse(1, 43, 2_464)),
        pages=(PageOrder(0, "kernel", 5, 0, 1), PageOrder(0, None, 0, 4, 0)),
        page_sites=(
            page_site(),
            page_site(
                kind=BlockKind.PERCPU,
                symbol="mm_init",
                by="pcpu_alloc",
                account="percpu",
                exact=True,
                live=Live(2, 64, 0, 64, 64),
                sizes={16: 64},
            ),
        ),
        programs=(ProgramCost("kmalloc", 0.25, 1_000), ProgramCost("kfree", 0.5, 2_000)),
        losses={"site_slots_full": 0, "samples_full": 2},
        features={
            "kmalloc": FeatureState(State.ON, ""),
            "stacks": FeatureState(State.DEGRADED, "a reason"),
            "pages": FeatureState(State.OFF, "not asked for"),
        },
        tracked=tracked(),
    )
    return replace(plain, **fields)


def page_site(**fields: Any) -> PageSite:
    """A call site of pages, with fields changed."""
    plain = PageSite(
        kind=BlockKind.PAGES,
        symbol="anon_pipe_write",
        offset=0x1A8,
        module=None,
        by="alloc_pages",
        account=None,
        exact=False,
        allocs=70,
        frees=6,
        failed=0,
        allocated_bytes=286_720,
        freed_bytes=24_576,
        live=Live(64, 262_144, 100_000, 80_000, 286_720),
        sizes={4_096: 262_144},
        stack=("anon_pipe_write", "vfs_write"),
    )
    return plain._replace(**fields)


def windows(snapshots: Iterable[Snapshot]) -> Iterable[Window]:
    """Windows of all views over these snapshots, judged by an Observer."""
    return map(WindowBuilder(VIEWS.values(), Observer()).add, snapshots)


def window_of(*snapshots: Snapshot) -> Window:
    """The window over these snapshots, in order of time."""
    return list(windows(snapshots))[-1]
