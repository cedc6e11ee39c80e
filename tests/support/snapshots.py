# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests of stored snapshots: equality, and all outputs of one snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_origin, get_type_hints

import numpy as np

from slabmon.analysis.grouping import DIMENSIONS
from slabmon.base.workloads import WorkloadNames
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.export.text import rows_to_json, to_csv, to_json, to_table
from slabmon.model import Device, Live, Release, Slabinfo, Snapshot, Stacked, Tracked
from slabmon.views.catalogue import VIEWS
from slabmon.views.drilldown import grouped_view
from slabmon.views.table import Table
from tests.support import scraping
from tests.support.builders import Object, cache, device, site, snapshot, tracked

COLUMNS = {
    table: tuple(
        name for name, hint in get_type_hints(kind).items() if get_origin(hint) is np.ndarray
    )
    for table, kind in (("tracked", Tracked), ("stacked", Stacked))
}


def full() -> Snapshot:
    """Return a snapshot in which most fields of the model have a value."""
    objects = [
        Object(cache=0, site=1, bytes=64, interval=65536, stack=7, cgroup=5, comm=b"dd"),
        Object(cache=1, site=0, bytes=8192, interval=0, gfp=0x820, comm=b"kworker/u8:2-ev"),
    ]
    stacks = {7: ("kmalloc", "probe_card [card]", "entry")}
    stacked = Stacked(
        np.array([-2, -1, 7], np.int32), np.array([0, 9, 2**40]), np.array([0, 3, 2**20])
    )
    return snapshot(tracked=tracked(objects, stacks, {5: "/system.slice"}), stacked=stacked)


def assert_same(one: Snapshot, other: Snapshot) -> None:
    """Assert equality in every field, for columns including the dtype."""
    for table, names in COLUMNS.items():
        for name in names:
            first, second = (getattr(getattr(s, table), name) for s in (one, other))
            assert first.dtype == second.dtype, name
            np.testing.assert_array_equal(first, second, name)
    assert _plain(one) == _plain(other)


def _plain(shown: Snapshot) -> Snapshot:
    """Return it without its columns."""
    none: dict[str, Any] = {
        table: replace(getattr(shown, table), **dict.fromkeys(names))
        for table, names in COLUMNS.items()
    }
    return replace(shown, **none)


def show_everything(shown: Snapshot) -> str:
    """Return all outputs of one snapshot; this must not fail for anything that was decoded."""
    outputs = [to_json(shown, tuple(DIMENSIONS))]
    for view in (*VIEWS.values(), *(grouped_view((name,)) for name in DIMENSIONS)):
        table = Table.of(view, shown)
        outputs += [to_csv(table), to_table(table), rows_to_json(table)]
    outputs.append(scraping.text(Exporter().families(shown, Daemon())))
    return "\n".join(outputs)


def _cgroup(number: int) -> str:
    """The path of a service, or from 200 on that of a container of a pod."""
    if number < 200:
        return f"/system.slice/service-{number}.service"
    pod = f"kubepods-burstable-pod{number // 3:032x}"
    folder = f"/kubepods.slice/kubepods-burstable.slice/{pod}.slice"
    return f"{folder}/cri-containerd-{number:064x}.scope"


def synthetic(
    caches: int = 1_000,
    sites: int = 10_000,
    devices: int = 5_000,
    objects: int = 100_000,
    cgroups: int = 200,
) -> Snapshot:
    """Return a large host; every row differs, as on a real one."""
    rng = np.random.default_rng(7)
    plain = snapshot()
    live = plain.caches[0].live
    column = rng.integers
    stacks = objects // 25
    return replace(
        plain,
        caches=tuple(
            cache(
                f"cache_{i}",
                allocs=i * 7919,
                allocated_bytes=i * 506_816,
                live=live,
                slabinfo=Slabinfo(i, 2 * i, 64, 4096 * i),
            )
            for i in range(caches)
        ),
        sites=tuple(
            site(
                f"function_{i % 3000}",
                i,
                f"module_{i % 97}" if i % 2 else None,
                allocs=i * 104_729,
                allocated_bytes=i * 6_702_656,
                live=live,
            )
            for i in range(sites)
        ),
        devices=tuple(_device(i) for i in range(devices)),
        tracked=Tracked(
            cache=column(0, caches, objects),
            site=column(0, sites, objects),
            bytes=column(1, 8192, objects, np.uint32),
            requested=column(1, 64, objects, np.uint32),
            interval=np.full(objects, 65536, np.uint32),
            born_ns=np.sort(column(10**12, 10**14, objects, np.uint64)),
            now_ns=10**14,
            gfp=rng.choice(np.array([0xCC0, 0x820], np.uint64), objects),
            tgid=column(1, 5000, objects, np.uint32),
            cgroup=column(1, cgroups, objects, np.uint64),
            comm=rng.choice(np.array([b"find", b"dd", b"kworker/u8:2-ev"], "S16"), objects),
            stack=column(-1, stacks, objects, np.int32),
            stacks={
                i: tuple(f"function_{(7 * i + j) % 2000}" for j in range(20)) for i in range(stacks)
            },
            cgroups={i: _cgroup(i) for i in range(cgroups)},
            gfp_class={0xCC0: "kernel", 0x820: "atomic"},
            context=np.ones(objects, np.uint8),
            device=np.zeros(objects, np.uint32),
        ),
        workloads={
            f"{i:064x}": WorkloadNames(f"container-{i % 3}", f"pod-{i // 3}", f"team-{i % 40}")
            for i in range(200, cgroups)
        },
    )


def _device(number: int) -> Device:
    releases = tuple(Release(f"devm_release_{i}", 3, 128) for i in range(4))
    return device(
        name=f"0000:{number >> 8:02x}:{number & 255:02x}.0",
        driver=f"d{number % 41}",
        resources=12,
        managed_bytes=512,
        slab_bytes=768,
        by_release=releases,
        slab_by_cache={"kmalloc-64": 512, "kmalloc-128": 256},
    )


def grown(base: Snapshot, seconds: float) -> Snapshot:
    """Return a large host after `seconds` of tracking; every site holds more than in `base`."""
    size = 64 * int(seconds)
    sites = tuple(
        site._replace(allocs=int(seconds) * number, live=Live(number, size * number, 8 * size))
        for number, site in enumerate(base.sites)
    )
    return replace(base, tracking=replace(base.tracking, seconds=seconds), sites=sites)
