# SPDX-License-Identifier: Apache-2.0
"""Synthetic hosts for screenshots: hours of a host, written by the daemon's own exporter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dashboards.preview.rows import (
    CACHES,
    DEVICES,
    GIB,
    HOUR,
    LEAK_STARTS,
    MIB,
    SITES,
    Moment,
    wave,
)
from slabmon.base.gfp import MODIFIERS
from slabmon.base.workloads import WorkloadNames, named, of_path
from slabmon.census.model import Census, CgroupObjects, CgroupState, OrphanObjects
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.kernel.probe.gfp import CLASSES
from slabmon.leaks.finding import Assessment, Dismissal, Exhaustion, Finding, Holders
from slabmon.memory.reading import AllocTag
from slabmon.model import (
    FeatureState,
    GfpClass,
    GfpModifier,
    PageOrder,
    Snapshot,
    State,
)
from slabmon.runtime.budget import Cost
from tests.servers.synthetic import IN_POD, VERDICT
from tests.support import conditions, scraping
from tests.support.builders import snapshot
from tests.support.censuses import census, owned
from tests.support.figures import daemon_figures

SUSPECTED_AFTER = 1260.0


@dataclass
class Host:
    """A host; `leak` is what its driver nic loses, in bytes a second."""

    name: str
    release: str = "6.12.0-9"
    size: float = 1.0
    leak: float = 0.0
    lossy: bool = False
    failing: bool = False
    cost: float = 0.004
    up: bool = True
    exporter: Exporter = field(default_factory=Exporter)

    def scrape(self, seconds: float, since: float) -> str:
        """Return a scrape, `seconds` after tracking began at the Unix time `since`."""
        now = Moment(seconds, self.size, self.leak, self.failing)
        return scraping.text(
            self.exporter.families(
                self._snapshot(now, since),
                self._daemon(seconds, now.lost),
                self._assessment(now),
                census=self._census(now),
            )
        )

    def _snapshot(self, now: Moment, since: float) -> Snapshot:
        plain, number = snapshot(), round(self.size * now.seconds)
        caches = tuple(now.cache_row(number) for number in range(len(CACHES)))
        held = {
            kind: sum(c.held_bytes for c in caches if c.reclaimable is kind)
            for kind in (True, False)
        }
        failed = round(now.seconds / 40) if self.failing else 0
        memory = conditions.memory(
            now.seconds, slab=held[False], reclaimable=held[True], free=6 * GIB - now.lost
        )
        lines = (
            ("fs/dcache.c", 1640, "__d_alloc", None, 200 * MIB),
            ("drivers/nic/ring.c", 88, "nic_ring_fill", "nic", now.lost),
        )
        tags = (
            AllocTag(
                file=file, line=line, function=function, module=module, bytes=size, calls=size >> 10
            )
            for file, line, function, module, size in lines
        )
        return replace(
            plain,
            host=replace(plain.host, release=self.release, memory_bytes=conditions.TOTAL),
            tracking=replace(plain.tracking, seconds=now.seconds, since=since),
            caches=caches,
            sites=(
                *(now.site_row(number) for number in range(len(SITES))),
                now.leaking_site(),
            ),
            devices=tuple(now.device_row(number) for number in range(len(DEVICES))),
            gfp=tuple(
                GfpClass(
                    name,
                    9000 * number // 3**rank,
                    900_000 * number // 3**rank,
                    failed if rank == 1 else 0,
                )
                for rank, name in enumerate(CLASSES)
            ),
            modifiers=tuple(
                GfpModifier(
                    name,
                    4000 * number // 2**rank,
                    500_000 * number // 2**rank,
                    failed if rank == 1 else 0,
                )
                for rank, name in enumerate(MODIFIERS)
            ),
            sizes=tuple(
                replace(
                    plain.sizes[0],
                    le=8 << rank,
                    allocs=number * (40 + 900 * max(0, 6 - abs(rank - 5))),
                )
                for rank in range(11)
            ),
            nodes=tuple(
                replace(node, allocs=(4000 - 900 * rank) * number)
                for rank, node in enumerate(plain.nodes)
            ),
            page_sites=now.pages(),
            pages=tuple(
                PageOrder(order, kind, (700 >> order) * number, 0, 0)
                for order in range(4)
                for kind in CLASSES[:2]
            )
            + tuple(PageOrder(order, None, 0, (690 >> order) * number, 0) for order in range(4)),
            losses={"nesting": 400 * number if self.lossy else 0, "samples_full": number // 900},
            features={
                "kmalloc": FeatureState(State.ON, ""),
                "stacks": FeatureState(State.DEGRADED if self.lossy else State.ON, "a reason"),
                "pages": FeatureState(State.OFF, "not asked for"),
            },
            programs=tuple(
                replace(one, runs=9000 * number, run_seconds=(9000 * number) * (rank + 1) * 1.3e-7)
                for rank, one in enumerate(plain.programs)
            ),
            memory=replace(memory, allocinfo=tuple(tags)),
        )

    def _assessment(self, now: Moment) -> Assessment:
        found: tuple[Finding, ...] = ()
        exhausting: tuple[Finding, ...] = ()
        over = replace(
            VERDICT,
            name="ext4_alloc_inode+0x1d",
            module="ext4",
            dismissed="it stopped",
            dismissal=Dismissal.OVER,
        )
        if self.leak and now.seconds > LEAK_STARTS + SUSPECTED_AFTER:
            finding = replace(
                VERDICT,
                name="nic_ring_fill+0x5c",
                module="nic",
                drivers=("nic",),
                growth=self.leak * HOUR,
                callers=("nic_open [nic] 90%",),
                holders=Holders(processes=("ifup 80%",), containers=("shop/web-0/nginx 80%",)),
            )
            found = (finding,)
            left = max((6 * GIB - now.lost) / self.leak, 60.0)
            projected = Exhaustion(
                available=GIB, seconds=left, earliest=0.9 * left, latest=1.2 * left
            )
            exhausting = (replace(finding, exhaustion=projected),)
        return Assessment(
            observed=now.seconds,
            needed=SUSPECTED_AFTER,
            series=42,
            left_out=0,
            memory=conditions.TOTAL,
            verdicts=found,
            exhausting=exhausting,
            dismissed=(over,),
        )

    def _census(self, now: Moment) -> Census:
        count = now.lost >> 10
        return census(
            taken=now.seconds,
            cpu_seconds=0.4 * (now.seconds // 600 + 1),
            owners=(
                owned("struct dentry", 1_500_000, 192, cache="dentry"),
                owned(
                    "has ops ext4_sops [ext4] at +40",
                    600_000,
                    1192,
                    cache="ext4_inode_cache",
                    module="ext4",
                ),
                owned(
                    "has ops ring_ops [nic] at +8",
                    2000 + count,
                    1024,
                    cache="kmalloc-1k",
                    module="nic",
                ),
                owned("unknown", 40_000, 1024, cache="kmalloc-1k"),
            ),
            orphans=(
                OrphanObjects(
                    cache="kmalloc-1k",
                    module="nic",
                    signature="has ops ring_ops [nic] at +8",
                    objects=count // 2,
                    bytes=count << 9,
                ),
            ),
            cgroups=tuple(
                CgroupObjects(cgroup=name, state=CgroupState.ALIVE, objects=size >> 8, bytes=size)
                for name, size in (
                    ("/system.slice/sshd.service", 12 * MIB),
                    ("/user.slice", 44 * MIB),
                )
            ),
        )

    def _daemon(self, seconds: float, lost: int) -> Daemon:
        spent = self.cost * wave(seconds, 3, 0.2)
        figures = daemon_figures(
            cpu_seconds=self.cost * seconds / 2, cost=Cost(spent * 0.6, spent * 0.3, spent * 0.1)
        )
        names = {"c" * 64: WorkloadNames("nginx", "web-0", "shop")}
        live = min(seconds / HOUR, 1) * self.size
        return Daemon(
            callers={
                "load_msg": 30 * MIB * live,
                "nic_open [nic]": float(lost),
                "do_sys_openat2": 17 * MIB * live,
            },
            cgroups={
                of_path("/system.slice/sshd.service"): 9 * MIB * live,
                named(IN_POD, names): 21 * MIB * live,
            },
            figures=figures,
            up=self.up,
            age=0.25,
            scrape_seconds=0.012 * wave(seconds, 2, 0.3),
            errors={"timeout": 0},
            connections=3,
            refused={"refused": 0},
            census_age=seconds % 600,
            history=True,
        )
